"""Loads and dumps a configuration: YAML, dotted overrides, and errors as sentences."""

import difflib
from collections.abc import Mapping, Sequence
from datetime import date
from pathlib import Path
from typing import Any

import yaml
from pydantic import ValidationError

from sweep.config.schema import Config
from sweep.config.section import Section
from sweep.config.yaml_tree import (
    MALFORMED,
    MisleadingNumberError,
    RepeatedKeyError,
    parse_value,
    read_tree,
)
from sweep.errors import ConfigError, format_names, format_value, truncate

# Pydantic's error types in words.
SENTENCES = {
    "float_parsing": "needs a number",
    "float_type": "needs a number",
    "int_parsing": "needs an integer",
    "int_type": "needs an integer",
    "int_from_float": "needs an integer",
    "int_parsing_size": "needs a smaller number",
    "bool_parsing": "needs true or false",
    "string_unicode": "needs text without half characters (lone surrogates)",
    "list_type": "needs a list",
    "dict_type": "needs keys below it",
    "model_type": "needs keys below it",
    "too_short": "is empty; give at least one value",
}

# Words that YAML does not read as text unless they are quoted.
UNQUOTED_WORDS = {
    True: "yes, on or true",
    False: "no, off or false",
    None: "null, ~ or nothing",
}


def load_config(path: Path, overrides: Sequence[str] = ()) -> Config:
    """Read ``path``, apply ``KEY=VALUE`` overrides, and return the checked configuration.

    Raises ConfigError that names the file, the key and the remedy.
    """
    tree = read_tree(path)
    check_overrides(overrides)
    for override in overrides:
        _apply_override(tree, override)
    try:
        return Config.model_validate(tree)
    except ValidationError as error:
        raise ConfigError(f"{path}: {_explain(error)}") from None


def build_config(tree: Mapping[str, Any]) -> Config:
    """Return the configuration with the keys of ``tree``; raise ConfigError that names the key and
    the remedy."""
    try:
        return Config.model_validate(dict(tree))
    except ValidationError as error:
        raise ConfigError(_explain(error)) from None


def dump_config(config: Config) -> str:
    """Return ``config`` as YAML that ``load_config`` reads back to an equal configuration."""
    return yaml.safe_dump(config.model_dump(mode="json"), sort_keys=False, allow_unicode=True)


def check_overrides(overrides: Sequence[str]) -> None:
    """Raise ConfigError if an override is undone by a later one."""
    for index, override in enumerate(overrides):
        key, _, value = override.partition("=")
        for later in overrides[index + 1 :]:
            other, _, new = later.partition("=")
            if f"{key}.".startswith(f"{other}.") and (key, value) != (other, new):
                raise ConfigError(
                    f"--set {truncate(override, 80)} has no effect, since --set "
                    f"{truncate(later, 80)} comes after it; keep one of them"
                )


def _apply_override(tree: dict[str, Any], override: str) -> None:
    """Set one dotted key, e.g. ``grid.models.0.path=/models/x``, inside ``tree``."""
    key, sign, text = override.partition("=")
    option = f"--set {truncate(override, 80)}"
    if not sign or not key:
        raise ConfigError(f"{option}: write KEY=VALUE, for example train.batch_size=8")
    try:
        value = parse_value(text)
    except (RepeatedKeyError, MisleadingNumberError) as error:
        raise ConfigError(f"{option}: {error}") from None
    except MALFORMED:
        raise ConfigError(
            f"{option}: the value is not valid YAML; put quotes around a text"
        ) from None
    *parents, last = key.split(".")
    node: Any = tree
    for part in parents:
        node = _child(node, part, option)
    if isinstance(node, list):
        node[_index(node, last, option)] = value
    elif isinstance(node, dict):
        node[last] = value
    else:
        raise ConfigError(
            f"{option}: {format_value(key)} is not a key of the configuration; remove its last part"
        )


def _child(node: Any, part: str, option: str) -> Any:
    if isinstance(node, list):
        return node[_index(node, part, option)]
    if isinstance(node, dict):
        if node.get(part) is None:
            node[part] = {}
        return node[part]
    raise ConfigError(
        f"{option}: {format_value(part)} is below a value, which has no keys; remove it and what "
        "follows"
    )


def _index(node: list[Any], part: str, option: str) -> int:
    # Not isdigit: it is true for characters such as a superscript 2, which int() refuses.
    if part in map(str, range(len(node))):
        return int(part)
    if not node:
        raise ConfigError(f"{option}: the list is empty; set the complete list")
    raise ConfigError(f"{option}: {format_value(part)} is not an index from 0 to {len(node) - 1}")


def _explain(error: ValidationError) -> str:
    """Return one sentence about the first error."""
    first = error.errors()[0]
    key = _name_key(first["loc"])
    if first["type"] == "extra_forbidden":
        return _explain_unknown(first["loc"])
    if first["type"] == "invalid_key":
        return _explain_key(first["loc"], first["input"])
    if first["type"] == "missing":
        return f"{key} is missing; add it"
    if first["type"] == "string_type":
        return f"{key}: {_explain_not_text(first['input'])}"
    message = first["msg"].removeprefix("Value error, ").removeprefix("Input ")
    message = SENTENCES.get(first["type"], message)
    plain = first["type"] in ("value_error", "too_short")
    given = "" if plain else f", not {format_value(first['input'])}"
    message = message[0].lower() + message[1:]
    return f"{key}: {message}{given}" if key else message


def _explain_key(location: Sequence[int | str], key: Any) -> str:
    above = f"{_name_key(location[:-1])}: " if _name_key(location[:-1]) else ""
    words = UNQUOTED_WORDS.get(key) if key is None or isinstance(key, bool) else None
    given = f"{format_value(key)} (what YAML makes of {words})" if words else format_value(key)
    return f"{above}has the key {given}, which is not text; delete it"


def _explain_not_text(value: Any) -> str:
    option = format_value(str(value)) if isinstance(value, date) else format_value(value)
    words = UNQUOTED_WORDS.get(value) if value is None or isinstance(value, bool) else None
    given = f"{option} (what YAML makes of {words})" if words else option
    return f'needs text, not {given}; put quotes around it (in YAML "...", in --set \'"..."\')'


def _name_key(location: Sequence[int | str]) -> str:
    """Return the dotted key of ``location``, without the names that pydantic adds for members of
    a union and keys of a mapping."""
    model: Any = Config
    parts: list[str] = []
    for part in location:
        fields = getattr(model, "model_fields", {})
        if isinstance(part, int) or (parts[-1:] == ["splits"] and part != "[key]"):
            parts.append(str(part))
        elif part in fields:
            parts.append(part)
            model = _section_of(fields[part].annotation)
    return ".".join(truncate(part, 40) for part in parts)


def _explain_unknown(location: Sequence[int | str]) -> str:
    *parents, last = location
    model: Any = Config
    for part in parents:
        if part in model.model_fields:
            model = _section_of(model.model_fields[part].annotation) or model
    known = list(model.model_fields)
    word = str(last)[:80].lower()
    near = difflib.get_close_matches(word, known, n=1, cutoff=0.5) or _find_elsewhere(word)
    hint = f"did you mean {near[0]!r}?" if near else f"known keys are {', '.join(known)}"
    above = f"{_name_key(parents)}." if parents else ""
    name = format_names([str(last)]) if str(last) == str(last).strip() != "" else format_value(last)
    return f"{above}{name} is not a known key; {hint}"


def _find_elsewhere(name: str) -> list[str]:
    """Return the dotted key, in any section, whose last part is closest to ``name``, if any."""
    keys = {
        key: f"{section}.{key}"
        for section, field in Config.model_fields.items()
        # Not of a list of sections: its keys need a position.
        for key in getattr(field.annotation, "model_fields", ())
    }
    return [keys[near] for near in difflib.get_close_matches(name, keys, n=1, cutoff=0.7)]


def _section_of(annotation: Any) -> Any:
    """Return the section class in a field's annotation, or None."""
    if isinstance(annotation, type) and issubclass(annotation, Section):
        return annotation
    found = (_section_of(part) for part in getattr(annotation, "__args__", ()))
    return next(filter(None, found), None)
