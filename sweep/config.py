"""The configuration as a whole: its YAML reader, dotted overrides, and errors as sentences."""

import difflib
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml
from pydantic import Field, ValidationError

from sweep.errors import ConfigError
from sweep.sections import (
    AshaConfig,
    BaselineNames,
    DataConfig,
    GridConfig,
    MlflowConfig,
    ModelConfig,
    Name,
    ResourcesConfig,
    Section,
    TrackersConfig,
    TrainConfig,
    TuneConfig,
    WandbConfig,
    check_name,
)

__all__ = [
    "Config",
    "DataConfig",
    "MlflowConfig",
    "ModelConfig",
    "ResourcesConfig",
    "TrackersConfig",
    "WandbConfig",
    "check_name",
    "dump_config",
    "load_config",
]


class Config(Section):
    """The whole configuration of a sweep."""

    name: Name = "sweep"
    data: DataConfig = DataConfig()
    grid: GridConfig
    tune: TuneConfig = TuneConfig()
    asha: AshaConfig = AshaConfig()
    train: TrainConfig = TrainConfig()
    resources: ResourcesConfig = ResourcesConfig()
    trackers: TrackersConfig = TrackersConfig()
    baselines: BaselineNames = Field(default=["majority", "tf-idf"])
    """Reference methods run on the same subsets; [] for none."""


SENTENCES = {
    "float_parsing": "needs a number",
    "float_type": "needs a number",
    "int_parsing": "needs a whole number",
    "int_type": "needs a whole number",
    "int_from_float": "needs a whole number",
    "bool_parsing": "needs true or false",
    "string_type": "needs text",
    "list_type": "needs a list",
    "dict_type": "needs keys below it",
    "model_type": "needs keys below it",
    "too_short": "is empty; give at least one value",
}
"""Pydantic's error types in the words of a configuration."""


def load_config(path: Path, overrides: Sequence[str] = ()) -> Config:
    """Read ``path``, apply ``KEY=VALUE`` overrides, and return the checked configuration.

    Raises ConfigError with the file, the key and the remedy.
    """
    tree = _read_yaml(path)
    for override in overrides:
        _apply_override(tree, override)
    try:
        return Config.model_validate(tree)
    except ValidationError as error:
        raise ConfigError(f"{path}: {_explain(error)}") from None


def dump_config(config: Config) -> str:
    """Return ``config`` as YAML that ``load_config`` reads back to an equal configuration."""
    return yaml.safe_dump(config.model_dump(mode="json"), sort_keys=False, allow_unicode=True)


def _read_yaml(path: Path) -> dict[str, Any]:
    try:
        tree = yaml.safe_load(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError(
            f"{path}: cannot be read ({error.strerror}); name a YAML file, "
            "for example sweep_configs/quickstart.yaml"
        ) from None
    except (yaml.YAMLError, UnicodeDecodeError, ValueError, RecursionError) as error:
        where = getattr(error, "problem_mark", None)
        line = f" at line {where.line + 1}" if where else ""
        what = getattr(error, "problem", None) or str(error).splitlines()[0]
        raise ConfigError(f"{path}: not readable as plain YAML{line}: {what}") from None
    if not isinstance(tree, dict):
        raise ConfigError(f"{path}: needs keys such as 'grid:' at the top, and has none")
    return tree


def _apply_override(tree: dict[str, Any], override: str) -> None:
    """Set one dotted key, e.g. ``grid.models.0.path=/models/x``, inside ``tree``."""
    key, sign, text = override.partition("=")
    if not sign or not key:
        raise ConfigError(f"--set {override}: write KEY=VALUE, for example train.batch_size=8")
    try:
        value = yaml.safe_load(text)
    except (yaml.YAMLError, ValueError, RecursionError):
        raise ConfigError(f"--set {override}: the value is not readable as YAML") from None
    *parents, last = key.split(".")
    node: Any = tree
    for part in parents:
        node = _child(node, part, override)
    if isinstance(node, list):
        node[_index(node, last, override)] = value
    elif isinstance(node, dict):
        node[last] = value
    else:
        raise ConfigError(f"--set {override}: {key!r} is not a key of the configuration")


def _child(node: Any, part: str, override: str) -> Any:
    if isinstance(node, list):
        return node[_index(node, part, override)]
    if isinstance(node, dict):
        if node.get(part) is None:
            node[part] = {}
        return node[part]
    raise ConfigError(f"--set {override}: there is nothing below {part!r}")


def _index(node: list[Any], part: str, override: str) -> int:
    if not part.isdigit() or int(part) >= len(node):
        raise ConfigError(f"--set {override}: {part!r} is not an index from 0 to {len(node) - 1}")
    return int(part)


def _explain(error: ValidationError) -> str:
    """Return one sentence for the first thing that is wrong."""
    first = error.errors()[0]
    key = ".".join(str(part) for part in first["loc"] if _is_key(part))
    if first["type"] == "extra_forbidden":
        return _explain_unknown(key)
    if first["type"] == "missing":
        return f"{key} is missing; add it"
    message = first["msg"].removeprefix("Value error, ").removeprefix("Input ")
    message = SENTENCES.get(first["type"], message)
    plain = first["type"] in ("value_error", "too_short")
    given = "" if plain else f", not {_shorten(first['input'])}"
    message = message[0].lower() + message[1:]
    return f"{key}: {message}{given}" if key else message


def _is_key(part: int | str) -> bool:
    # Pydantic adds names of union members such as 'constrained-float' or "literal['auto']".
    return isinstance(part, int) or re.fullmatch(r"[a-z_]+", part) is not None


def _shorten(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else text[:57] + "..."


def _explain_unknown(key: str) -> str:
    *parents, last = key.split(".")
    model: Any = Config
    for part in parents:
        if not part.isdigit():
            model = _section_of(model, part)
    known = list(model.model_fields)
    near = difflib.get_close_matches(last, known, n=1, cutoff=0.5)
    hint = f"did you mean {near[0]!r}?" if near else f"known keys are {', '.join(known)}"
    return f"{key} is not a known key; {hint}"


def _section_of(model: Any, field: str) -> Any:
    annotation = model.model_fields[field].annotation
    for candidate in (annotation, *getattr(annotation, "__args__", ())):
        if isinstance(candidate, type) and issubclass(candidate, Section):
            return candidate
    return model
