"""The configuration: strict models, the YAML reader, and dotted overrides."""

import difflib
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    PlainSerializer,
    ValidationError,
    field_validator,
    model_validator,
)

from sweep.errors import ConfigError
from sweep.space import Space, dump_space, read_space

NAME_PATTERN = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")


def check_name(value: str) -> str:
    """Return ``value`` if it is safe as a folder name; else raise ValueError."""
    if not NAME_PATTERN.fullmatch(value) or ".." in value:
        raise ValueError(
            f"{value!r} is not a usable name: take letters, digits, '.', '_' and '-', "
            "starting with a letter or digit"
        )
    return value


def _coerce_number(value: Any) -> Any:
    # YAML 1.1 reads 1e-4 as text; a person means a number.
    if isinstance(value, str):
        try:
            return float(value)
        except ValueError:
            return value
    return value


def _no_bool(value: Any) -> Any:
    if isinstance(value, bool):
        raise ValueError("a number is needed here, not true or false")
    return value


def _unique(values: Sequence[Any]) -> Sequence[Any]:
    seen = set(values)
    if len(seen) != len(values):
        raise ValueError("a value is listed twice")
    return values


Name = Annotated[str, AfterValidator(check_name)]
Number = Annotated[
    float, BeforeValidator(_no_bool), BeforeValidator(_coerce_number), Field(allow_inf_nan=False)
]
PositiveInt = Annotated[int, BeforeValidator(_no_bool), Field(gt=0)]
Count = Annotated[int, BeforeValidator(_no_bool), Field(ge=0)]
TuneSpace = Annotated[Space, BeforeValidator(read_space), PlainSerializer(dump_space)]


class Section(BaseModel):
    """A part of the configuration: unknown keys are refused, values cannot change later."""

    model_config = ConfigDict(extra="forbid", frozen=True, arbitrary_types_allowed=True)


class DataConfig(Section):
    """Where the texts come from and which labels count."""

    source: Literal["hub", "files", "synthetic"] = "synthetic"
    path: str | None = None
    """A dataset of the Hub; or a folder, or one file, on disk."""
    config: str | None = None
    revision: str | None = None
    text_column: str | None = None
    label_column: str | None = None
    label_separator: Annotated[str, Field(min_length=1)] | None = None
    """What parts the labels of a text such as ``joy,anger``; None: such a text is one label."""
    labels_file: str | None = None
    """Label names, one a line, for labels that are whole numbers from 0; beside ``path``."""
    quoted: bool = True
    """Whether CSV and TSV files put quotes around texts that hold the separator or line ends."""
    splits: dict[Literal["train", "validation", "test"], str] | None = None
    """The split's name on the Hub, or its file (beside ``path``); left out: the usual names."""
    validation_fraction: Annotated[Number, Field(gt=0, lt=1)] = 0.1
    test_fraction: Annotated[Number, Field(gt=0, lt=1)] = 0.1
    """The part of the training texts that becomes the split, where the data lack it."""
    split_seed: Count = 0
    exclude_labels: list[str] = ["neutral"]
    label_order: Annotated[list[str], AfterValidator(_unique)] | None = None
    max_eval_per_label: PositiveInt | None = None
    """Upper bound on validation and on test texts per label; None: all that balance allows."""

    @model_validator(mode="after")
    def _path_fits_source(self) -> "DataConfig":
        named = self.path or (self.source == "files" and (self.splits or {}).get("train"))
        if self.source != "synthetic" and not named:
            other = " or data.splits.train" if self.source == "files" else ""
            raise ValueError(f"source {self.source!r} needs data.path{other}")
        return self

    @model_validator(mode="after")
    def _training_is_left(self) -> "DataConfig":
        if self.validation_fraction + self.test_fraction >= 1:
            raise ValueError(
                "validation_fraction and test_fraction leave nothing to train on: "
                "together they must be below 1"
            )
        return self


class ModelConfig(Section):
    """One base model of the grid."""

    name: Name
    path: Annotated[str, Field(min_length=1)]
    """Hub id, local folder, or ``tiny:FAMILY`` for a small random-weight model."""
    revision: str | None = None
    trust_remote_code: bool = False
    allow_pickle: bool = False
    target_modules: list[str] | None = None


class GridConfig(Section):
    """The axes: every combination of these is a cell."""

    models: Annotated[list[ModelConfig], Field(min_length=1)]
    n_labels: Annotated[
        list[Annotated[PositiveInt, Field(ge=2)]], Field(min_length=1), AfterValidator(_unique)
    ]
    n_samples: Annotated[list[PositiveInt], Field(min_length=1), AfterValidator(_unique)]
    seeds: Annotated[list[Count], Field(min_length=1), AfterValidator(_unique)] = [0]

    @field_validator("models")
    @classmethod
    def _models_differ(cls, models: list[ModelConfig]) -> list[ModelConfig]:
        for what in ("name", "path"):
            keys = [
                (m.name,) if what == "name" else (m.path, m.revision, str(m.target_modules))
                for m in models
            ]
            twice = next((key for key in keys if keys.count(key) > 1), None)
            if twice:
                raise ValueError(f"two models have the same {what} {twice[0]!r}")
        return models

    @model_validator(mode="after")
    def _samples_divide(self) -> "GridConfig":
        for k in self.n_labels:
            for n in self.n_samples:
                if n % k:
                    below, above = n - n % k, n - n % k + k
                    near = " or ".join(str(v) for v in (below, above) if v > 0)
                    raise ValueError(
                        f"n_samples {n} cannot be balanced over n_labels {k}: take {near}"
                    )
        return self


class TuneConfig(Section):
    """What is tuned inside each cell; each value is a number, a list, or a distribution."""

    candidates: PositiveInt = 8
    lora_rank: TuneSpace = read_space([4, 8, 16, 32])
    learning_rate: TuneSpace = read_space({"loguniform": [5e-5, 2e-3]})
    lora_alpha_ratio: TuneSpace = read_space(2.0)
    """LoRA's alpha divided by its rank: the factor on the adapter's output."""
    lora_dropout: TuneSpace = read_space(0.0)
    weight_decay: TuneSpace = read_space(0.01)
    seed: Count = 0

    @model_validator(mode="after")
    def _bounds(self) -> "TuneConfig":
        if not self.lora_rank.is_whole or self.lora_rank.low < 1:
            raise ValueError("lora_rank takes whole numbers from 1 up")
        if self.learning_rate.low <= 0:
            raise ValueError("learning_rate must be above 0")
        if self.lora_alpha_ratio.low <= 0:
            raise ValueError("lora_alpha_ratio must be above 0")
        if self.lora_dropout.low < 0 or self.lora_dropout.high >= 1:
            raise ValueError("lora_dropout must lie in [0, 1)")
        if self.weight_decay.low < 0:
            raise ValueError("weight_decay must not be below 0")
        return self


class AshaConfig(Section):
    """Asynchronous successive halving inside a cell (Li et al. 2020, arXiv:1810.05934)."""

    max_epochs: PositiveInt = 8
    grace_epochs: PositiveInt = 1
    reduction_factor: Annotated[Number, Field(gt=1)] = 3

    @model_validator(mode="after")
    def _grace_fits(self) -> "AshaConfig":
        if self.grace_epochs > self.max_epochs:
            raise ValueError(
                f"grace_epochs {self.grace_epochs} is above max_epochs {self.max_epochs}"
            )
        return self


class TrainConfig(Section):
    """How one candidate is trained; the same for every trial of the sweep."""

    batch_size: PositiveInt = 16
    eval_batch_size: PositiveInt = 64
    max_batch_tokens: Annotated[PositiveInt, Field(ge=64)] = 8192
    """Most tokens (padding included) that pass through the model at once; a larger batch is taken
    in parts, whose gradients add up to the same step."""
    max_length: Annotated[PositiveInt, Field(ge=4)] = 64
    dtype: Literal["auto", "float32", "bfloat16"] = "auto"
    gradient_checkpointing: Literal["auto"] | bool = "auto"
    """Work activations out again in the backward pass instead of keeping them; auto: on a GPU
    whose free memory they would not fit."""
    warmup_ratio: Annotated[Number, Field(ge=0, lt=1)] = 0.1
    max_grad_norm: Annotated[Number, Field(gt=0)] = 1.0
    patience: PositiveInt | None = 3
    """Epochs without a better validation accuracy before a trial ends; None: never."""


class ResourcesConfig(Section):
    """What one trial gets from Ray."""

    gpus_per_trial: Literal["auto"] | Annotated[Number, Field(ge=0)] = "auto"
    cpus_per_trial: Annotated[Number, Field(gt=0)] = 1
    max_retries: Count = 2
    """How often a trial whose worker or machine died is started again."""


def _expand_switch(value: Any) -> Any:
    # ``true`` turns a tracker on with its defaults, ``false`` turns it off.
    if isinstance(value, bool):
        return {} if value else None
    if value is None or isinstance(value, dict | Section):
        return value
    raise ValueError(f"write true, false, or the tracker's own keys, not {value!r}")


class MlflowConfig(Section):
    """Where MLflow keeps the runs."""

    tracking_uri: str | None = None
    """None: what MLFLOW_TRACKING_URI says, else the folder ``mlflow`` of the run."""
    experiment: Annotated[str, Field(min_length=1)] = "sweep"

    @field_validator("tracking_uri")
    @classmethod
    def _holds_no_secret(cls, uri: str | None) -> str | None:
        # The message must not repeat the value: it would end up in logs.
        if uri and "@" in uri.partition("://")[2].partition("/")[0]:
            raise ValueError(
                "holds a user name or password; take it out and set MLFLOW_TRACKING_USERNAME and "
                "MLFLOW_TRACKING_PASSWORD"
            )
        return uri


class WandbConfig(Section):
    """Where Weights & Biases keeps the runs; the key comes from WANDB_API_KEY or its login."""

    project: Annotated[str, Field(min_length=1)] = "sweep"
    entity: str | None = None


class TrackersConfig(Section):
    """Experiment trackers that hear every epoch; all are off by default."""

    tensorboard: bool = False
    mlflow: Annotated[MlflowConfig | None, BeforeValidator(_expand_switch)] = None
    wandb: Annotated[WandbConfig | None, BeforeValidator(_expand_switch)] = None


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
    baselines: Annotated[list[Literal["majority", "tf-idf"]], AfterValidator(_unique)] = [
        "majority",
        "tf-idf",
    ]
    """Reference methods run on the same subsets; [] for none."""


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
    message = first["msg"].removeprefix("Value error, ")
    if first["type"] == "missing":
        return f"{key} is missing; add it"
    given = "" if first["type"] == "value_error" else f", not {_shorten(first['input'])}"
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
