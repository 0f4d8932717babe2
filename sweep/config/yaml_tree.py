"""YAML files as trees of plain values; a key that stands twice, and text that is no YAML, are
refused in one sentence."""

import re
from pathlib import Path
from typing import Any

import yaml

from sweep.errors import ConfigError, format_value

MALFORMED = (yaml.YAMLError, ValueError, TypeError, LookupError, AttributeError, RecursionError)
"""What PyYAML raises over a text that is not plain YAML: its readers of numbers, dates and sets
let errors of their own through."""

MERGE = "tag:yaml.org,2002:merge"

# What YAML 1.1 reads as octal or as minutes and hours, where a person means the digits.
OCTAL = re.compile(r"[-+]?0[0-7_]+")
SIXTIES = re.compile(r"[-+]?[0-9][0-9_]*(:[0-5]?[0-9])+(\.[0-9_]*)?")
# A study's configuration has a few kilobytes; reading YAML takes seconds per megabyte.
MOST_BYTES = 4 * 2**20

SINGLE_QUOTES = "put the value in single quotes: in double ones a \\ is special"
REMEDIES = {
    "but found another document": "keep one document, without a line of ---",
    "found character '\\t' that cannot start any token": "replace its tabs by spaces",
    "expected escape sequence": SINGLE_QUOTES,
    "found unknown escape character": SINGLE_QUOTES,
    "mapping values are not allowed here": "check the indentation, and for a space after each "
    "colon up to there; quote a text with ': ' in it",
    "found unhashable key": "write a word as its key",
    "Exceeds the limit": "write fewer digits",
}
"""What PyYAML says (or how that begins), and what helps; without an entry: 'fix it'."""

ODD_SPACES = "\u00a0\u2000\u2001\u2002\u2003\u2007\u2009\u200b\u202f\u3000"


class RepeatedKeyError(yaml.YAMLError):
    """A mapping has a key twice; PyYAML would let the last one win."""


class OddNumberError(yaml.YAMLError):
    """A number means something else in YAML than it seems to."""


class Loader(yaml.SafeLoader):
    """PyYAML's safe loader, strict about keys and about numbers that are not what they seem."""

    def construct_odd_number(self, node: yaml.ScalarNode) -> Any:
        """Return the number of ``node``; raise OddNumberError."""
        text = str(node.value)
        kind = "octal" if OCTAL.fullmatch(text) else "base 60" if SIXTIES.fullmatch(text) else ""
        is_whole = node.tag.endswith(":int")
        number = (self.construct_yaml_int if is_whole else self.construct_yaml_float)(node)
        if kind and number:
            raise OddNumberError(
                f"{text} at line {node.start_mark.line + 1} means {number} in YAML ({kind}); write "
                "the number that is meant without leading zeros and colons, or put quotes around a "
                "text"
            )
        return number

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        """Return the mapping of ``node``; raise RepeatedKeyError."""
        lines: dict[Any, int] = {}
        for key_node, _ in node.value:
            # Before merges are put in: a key of one's own may stand before one that is merged.
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
    Loader.add_constructor(f"tag:yaml.org,2002:{tag}", Loader.construct_odd_number)


def parse_value(text: str) -> Any:
    """Return the value that ``text`` holds as YAML; raise one of ``MALFORMED``."""
    # The loader is PyYAML's safe one.
    return yaml.load(text, Loader)


def read_tree(path: Path) -> dict[str, Any]:
    """Return the mapping in the YAML file ``path``; raise ConfigError with the line and remedy."""
    try:
        with path.open("rb") as file:
            data = file.read(MOST_BYTES + 1)
    except OSError as error:
        raise ConfigError(
            f"{path}: cannot be read ({error.strerror}); name a YAML file, "
            "for example sweep_configs/quickstart.yaml"
        ) from None
    if len(data) > MOST_BYTES:
        raise ConfigError(f"{path}: is too large for a configuration; name a YAML file")
    try:
        # From bytes, PyYAML takes UTF-8 and, with a byte order mark, UTF-16.
        tree = yaml.load(data, Loader)
    except (RepeatedKeyError, OddNumberError) as error:
        raise ConfigError(f"{path}: {error}") from None
    except yaml.reader.ReaderError as error:
        raise ConfigError(f"{path}: {_explain_bytes(error)}") from None
    except MALFORMED as error:
        raise ConfigError(f"{path}: {_explain(error, data)}") from None
    if not isinstance(tree, dict):
        raise ConfigError(f"{path}: needs keys such as 'grid:' at the top, and has none")
    return tree


def _explain_bytes(error: yaml.reader.ReaderError) -> str:
    if isinstance(error.character, int) and error.encoding != "unicode":
        return "is not UTF-8 text; save it as UTF-8"
    character = format_value(chr(error.character))
    return f"holds the character {character}, which YAML does not take; delete it"


def _explain(error: Exception, data: bytes) -> str:
    reason = _reason(error)
    mark = getattr(error, "problem_mark", None)
    remedy = next((text for start, text in REMEDIES.items() if reason.startswith(start)), "fix it")
    if mark is None:
        return f"invalid YAML: {reason}; {remedy}"
    odd = _find_odd_space(data, mark.line)
    if odd:
        remedy = f"replace the {odd} in it by plain spaces"
    return f"invalid YAML at line {mark.line + 1}: {reason}; {remedy}"


def _find_odd_space(data: bytes, line: int) -> str:
    """Return the name of a space other than the plain one in the line, or the one before."""
    around = data.decode("utf-8", "replace").split("\n")[max(line - 1, 0) : line + 1]
    return "non-breaking or other special spaces" if set(ODD_SPACES) & set("".join(around)) else ""


def _reason(error: Exception) -> str:
    """Return what PyYAML says is wrong, where it says so in words."""
    if isinstance(error, yaml.YAMLError | ValueError):
        reason = getattr(error, "problem", None) or (str(error).splitlines() or ["damaged"])[0]
        return str(reason).partition("; use sys.")[0]
    return "it nests too deep" if isinstance(error, RecursionError) else "a value has a wrong tag"
