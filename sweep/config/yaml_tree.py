"""YAML files as trees of plain values. Repeated keys, numbers that are not what they seem, and
invalid YAML are refused in one sentence."""

import re
from pathlib import Path
from typing import Any

import yaml

from sweep.errors import ConfigError, format_value

# What PyYAML raises for invalid YAML: its constructors of numbers, dates and sets let errors of
# their own through.
MALFORMED = (yaml.YAMLError, ValueError, TypeError, LookupError, AttributeError, RecursionError)

MERGE = "tag:yaml.org,2002:merge"

# What YAML 1.1 reads as octal or as hours and minutes, though people mean the digits.
OCTAL = re.compile(r"[-+]?0[0-7_]+")
SIXTIES = re.compile(r"[-+]?[0-9][0-9_]*(:[0-5]?[0-9])+(\.[0-9_]*)?")
# A configuration has a few kilobytes; parsing YAML takes seconds per megabyte.
MAX_BYTES = 4 * 2**20

SINGLE_QUOTES = "put the value in single quotes: in double ones a \\ is special"
# What PyYAML says, or how that begins, and the remedy; without an entry: "fix it".
REMEDIES = {
    "but found another document": "keep one document, without a --- line",
    "found character '\\t' that cannot start any token": "replace tabs with spaces",
    "expected escape sequence": SINGLE_QUOTES,
    "found unknown escape character": SINGLE_QUOTES,
    "mapping values are not allowed here": "check the indentation and the space after each colon "
    "up to there; quote a text that contains ': '",
    "found unhashable key": "write a word as its key",
    "Exceeds the limit": "write fewer digits",
}

SPECIAL_SPACES = "\u00a0\u2000\u2001\u2002\u2003\u2007\u2009\u200b\u202f\u3000"


class RepeatedKeyError(yaml.YAMLError):
    """A mapping has a key twice, of which PyYAML would keep the last."""


class MisleadingNumberError(yaml.YAMLError):
    """A number has another value in YAML than it seems to have."""


class Loader(yaml.SafeLoader):
    """PyYAML's safe loader, which also refuses repeated keys and misleading numbers."""

    def construct_number(self, node: yaml.ScalarNode) -> Any:
        text = str(node.value)
        kind = "octal" if OCTAL.fullmatch(text) else "base 60" if SIXTIES.fullmatch(text) else ""
        is_whole = node.tag.endswith(":int")
        number = (self.construct_yaml_int if is_whole else self.construct_yaml_float)(node)
        if kind and number:
            raise MisleadingNumberError(
                f"{text} at line {node.start_mark.line + 1} means {number} in YAML ({kind}); write "
                "the number you mean without leading zeros and colons, or put quotes around a text"
            )
        return number

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        lines: dict[Any, int] = {}
        for key_node, _ in node.value:
            # Checked before merging: a key may override one that is merged.
            key = MERGE if key_node.tag == MERGE else self.construct_object(key_node, deep=True)
            line = key_node.start_mark.line + 1
            if isinstance(key, str | int | float | bool | None) and key in lines:
                raise RepeatedKeyError(
                    f"{'<<' if key is MERGE else key_node.value} is given twice, at line "
                    f"{lines[key]} and at line {line}; keep one of them"
                )
            if isinstance(key, str | int | float | bool | None):
                lines[key] = line
        return super().construct_mapping(node, deep)


for tag in ("int", "float"):
    Loader.add_constructor(f"tag:yaml.org,2002:{tag}", Loader.construct_number)


def parse_value(text: str) -> Any:
    """Return the value that ``text`` is in YAML; raise one of ``MALFORMED``."""
    return yaml.load(text, Loader)  # a safe loader


def read_tree(path: Path) -> dict[str, Any]:
    """Return the mapping in a YAML file; raise ConfigError that names the line and the remedy."""
    try:
        with path.open("rb") as file:
            data = file.read(MAX_BYTES + 1)
    except OSError as error:
        raise ConfigError(
            f"{path}: cannot be read ({error.strerror}); name a YAML file, "
            "or a study that comes with this package, such as quickstart"
        ) from None
    if len(data) > MAX_BYTES:
        raise ConfigError(f"{path}: is too large for a configuration; name a YAML file")
    try:
        # Given bytes, PyYAML reads UTF-8 and, with a byte order mark, UTF-16.
        tree = yaml.load(data, Loader)
    except (RepeatedKeyError, MisleadingNumberError) as error:
        raise ConfigError(f"{path}: {error}") from None
    except yaml.reader.ReaderError as error:
        raise ConfigError(f"{path}: {_explain_bytes(error)}") from None
    except MALFORMED as error:
        raise ConfigError(f"{path}: {_explain(error, data)}") from None
    if not isinstance(tree, dict):
        raise ConfigError(f"{path}: needs keys such as 'grid:' at the top level, and has none")
    return tree


def _explain_bytes(error: yaml.reader.ReaderError) -> str:
    if isinstance(error.character, int) and error.encoding != "unicode":
        return "is not UTF-8 text; save it as UTF-8"
    character = format_value(chr(error.character))
    return f"holds the character {character}, which YAML does not allow; delete it"


def _explain(error: Exception, data: bytes) -> str:
    reason = _find_reason(error)
    mark = getattr(error, "problem_mark", None)
    remedy = next((text for start, text in REMEDIES.items() if reason.startswith(start)), "fix it")
    if mark is None:
        return f"invalid YAML: {reason}; {remedy}"
    if _has_special_space(data, mark.line):
        remedy = "replace the non-breaking or other special spaces in it with plain ones"
    return f"invalid YAML at line {mark.line + 1}: {reason}; {remedy}"


def _has_special_space(data: bytes, line: int) -> bool:
    # In the line, or in the one before.
    around = data.decode("utf-8", "replace").split("\n")[max(line - 1, 0) : line + 1]
    return bool(set(SPECIAL_SPACES) & set("".join(around)))


def _find_reason(error: Exception) -> str:
    if isinstance(error, yaml.YAMLError | ValueError):
        reason = getattr(error, "problem", None) or (str(error).splitlines() or ["damaged"])[0]
        return str(reason).partition("; use sys.")[0]
    return "it nests too deeply" if isinstance(error, RecursionError) else "a value has a wrong tag"
