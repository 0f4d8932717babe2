"""The sections of the configuration, as strict models."""

import math
from typing import Annotated, Any, Literal

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    field_validator,
    model_validator,
)

from sweep.config.search_space import read_space
from sweep.config.types import (
    BASELINES,
    AnyPath,
    BaselineNames,
    ColumnNames,
    Count,
    Delimiter,
    Name,
    Number,
    OneOrMoreNames,
    PositiveInt,
    Share,
    StoragePlace,
    TuneSpace,
    check_encoding,
    holds_password,
    refuse_repeats,
)
from sweep.errors import show_value


class Section(BaseModel):
    """A part of the configuration: unknown keys are refused, values cannot change later."""

    model_config = ConfigDict(extra="forbid", frozen=True, arbitrary_types_allowed=True)


WITHOUT_EFFECT = {
    "files": ("config", "revision"),
    "hub": ("quoted", "delimiter", "columns", "encoding"),
    "synthetic": (
        "path",
        "config",
        "revision",
        "validation_fraction",
        "test_fraction",
        "split_seed",
    ),
}
"""The keys of ``data`` that each source does not read, and that say that another one is meant."""


class DataConfig(Section):
    """Where the texts come from and which labels count."""

    source: Literal["hub", "files", "synthetic"] = "synthetic"
    """Left out: ``files`` where a path or splits are given, else ``synthetic``."""
    path: AnyPath | None = None
    """A dataset of the Hub; or a folder, or one file, on disk."""
    config: str | None = None
    revision: str | None = None
    text_column: OneOrMoreNames | None = None
    """One column, or a list of columns, whose texts are joined by line ends."""
    label_column: str | None = None
    label_separator: Annotated[str, Field(min_length=1)] | None = None
    """What parts the labels of a text such as ``joy,anger``; None: such a text is one label."""
    labels_file: AnyPath | None = None
    """Label names, one a line, for labels that are whole numbers from 0; beside ``path``."""
    columns: ColumnNames | None = None
    """The names of all columns of CSV and TSV files whose first line is data already."""
    delimiter: Delimiter | None = None
    """What parts the fields of CSV and TSV files: a character, or tab, comma, semicolon, pipe,
    space or colon; None: found in each file."""
    quoted: bool = True
    """Whether CSV and TSV files put quotes around texts that hold the separator or line ends."""
    encoding: Annotated[str, AfterValidator(check_encoding)] | None = None
    """What text files are that are not UTF-8, such as ``cp1252``."""
    splits: dict[Literal["train", "validation", "test"], AnyPath | None] | None = None
    """The split's name on the Hub, or its file, folder or pattern (beside ``path``); left out: the
    usual names; None: it is cut from training."""
    validation_fraction: Annotated[Number, Field(gt=0, lt=1)] = 0.1
    test_fraction: Annotated[Number, Field(gt=0, lt=1)] = 0.1
    """The part of the training texts that becomes the split, where the data lack it."""
    split_seed: Count = 0
    exclude_labels: list[str] = ["neutral"]
    label_order: Annotated[list[str], AfterValidator(refuse_repeats)] | None = None
    max_eval_per_label: PositiveInt | None = None
    """Upper bound on validation and on test texts per label; None: all that balance allows."""

    @model_validator(mode="before")
    @classmethod
    def _path_means_files(cls, tree: Any) -> Any:
        if not isinstance(tree, dict) or "source" in tree:
            return tree
        named = [name for name in ("path", "splits") if name in tree]
        if named and not any(tree[name] for name in named):
            # A shell's variable that is not set looks like this.
            raise ValueError(
                f"{named[0]} is empty; give a value, or leave it out for the built-in corpus"
            )
        return {**tree, "source": "files"} if named else tree

    @model_validator(mode="after")
    def _keys_fit_source(self) -> "DataConfig":
        other = "data.source=hub" if self.source == "files" else "data.source=files"
        for name in WITHOUT_EFFECT[self.source]:
            if getattr(self, name) != DataConfig.model_fields[name].default:
                raise ValueError(
                    f"{name} has no effect with source {self.source!r}; leave it out or set {other}"
                )
        return self

    @property
    def text_columns(self) -> list[str] | None:
        """The columns that ``text_column`` names; None where they are to be found."""
        return [self.text_column] if isinstance(self.text_column, str) else self.text_column

    @model_validator(mode="after")
    def _path_fits_source(self) -> "DataConfig":
        named = self.path or (self.source == "files" and (self.splits or {}).get("train"))
        if self.source != "synthetic" and not named:
            other = " or data.splits.train" if self.source == "files" else ""
            raise ValueError(f"source {self.source!r} needs data.path{other}")
        return self

    @model_validator(mode="after")
    def _training_is_there(self) -> "DataConfig":
        if self.splits and self.splits.get("train", "") is None:
            raise ValueError("splits.train needs a file; only validation and test may be null")
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
    path: Annotated[AnyPath, Field(min_length=1)]
    """Hub id, local folder, or ``tiny:FAMILY`` for a small random-weight model."""
    revision: str | None = None
    trust_remote_code: bool = False
    allow_pickle: bool = False
    target_modules: Annotated[list[str], Field(min_length=1)] | None = None


class GridConfig(Section):
    """The axes: every combination of these is a cell."""

    models: Annotated[list[ModelConfig], Field(min_length=1)]
    n_labels: Annotated[
        list[Annotated[PositiveInt, Field(ge=2)]],
        Field(min_length=1),
        AfterValidator(refuse_repeats),
    ]
    n_samples: Annotated[list[PositiveInt], Field(min_length=1), AfterValidator(refuse_repeats)]
    seeds: Annotated[list[Count], Field(min_length=1), AfterValidator(refuse_repeats)] = [0]

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
                same = show_value(twice[0])
                raise ValueError(f"two models have the same {what} {same}; give each its own")
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


MOST_RANK = MOST_RATIO = 65_536
"""Wider than any layer of the models that a sweep can train."""
MOST_STEP = MOST_NORM = 1e12
"""Far past any use, and well inside what the journal takes."""


class TuneConfig(Section):
    """What is tuned inside each cell; each value is a number, a list, or a distribution."""

    candidates: Annotated[PositiveInt, Field(le=10_000)] = 8
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
        if self.lora_rank.high > MOST_RANK or self.lora_alpha_ratio.high > MOST_RATIO:
            raise ValueError(
                f"lora_rank goes up to {MOST_RANK} and lora_alpha_ratio to {MOST_RATIO}; lower it"
            )
        if max(self.learning_rate.high, self.weight_decay.high) > MOST_STEP:
            raise ValueError(
                f"learning_rate and weight_decay go up to {MOST_STEP:g}; write a smaller number"
            )
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

    max_epochs: Annotated[PositiveInt, Field(le=10**6)] = 8
    grace_epochs: PositiveInt = 1
    reduction_factor: Annotated[Number, Field(gt=1)] = 3

    @model_validator(mode="after")
    def _grace_fits(self) -> "AshaConfig":
        if self.grace_epochs > self.max_epochs:
            raise ValueError(
                f"grace_epochs {self.grace_epochs} is above max_epochs {self.max_epochs}; lower it"
            )
        return self

    @model_validator(mode="after")
    def _rungs_are_few(self) -> "AshaConfig":
        steps = math.log(self.max_epochs / self.grace_epochs) / math.log(self.reduction_factor)
        if steps > 100:
            raise ValueError(
                f"reduction_factor {self.reduction_factor:g} is so close to 1 that a trial would "
                "be compared more than 100 times; take 2 or more"
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
    max_grad_norm: Annotated[Number, Field(gt=0, le=MOST_NORM)] = 1.0
    patience: PositiveInt | None = 3
    """Epochs without a better validation accuracy before a trial ends; None: never."""


class ResourcesConfig(Section):
    """What one trial gets from Ray."""

    engine: Literal["solo", "packed", "auto"] = "solo"
    """``solo``: a trial trains alone in its worker; ``packed``: trials of one base model share it
    on each GPU or, without GPUs, CPU, step by step; ``auto``: packed where there are GPUs."""
    slots: Literal["auto"] | Annotated[PositiveInt, Field(le=256)] = "auto"
    """Packed trials at a time on each GPU, or, without GPUs, on each ``cpus_per_trial`` CPUs; auto:
    as memory allows, or 4 on CPUs."""
    gpus_per_trial: Literal["auto"] | Share = "auto"
    cpus_per_trial: Annotated[Share, Field(gt=0)] = 1
    max_retries: Count = 2
    """How often a trial whose worker or machine died is started again without an epoch between."""
    max_epoch_minutes: Annotated[Number, Field(gt=0)] = 240
    """A worker that gives no epoch for so long hangs: it is ended, and counts as lost."""


class StorageConfig(Section):
    """Where a run keeps what is too large for its journal."""

    checkpoints: StoragePlace | None = None
    """s3://BUCKET/PREFIX, gs://BUCKET/PREFIX, or a path that every machine sees; below it comes the
    run's name. None: the run folder."""


def _expand_switch(value: Any) -> Any:
    # ``true`` turns a tracker on with its defaults, ``false`` turns it off.
    if isinstance(value, bool):
        return {} if value else None
    if value is None or isinstance(value, dict | Section):
        return value
    raise ValueError(f"write true, false, or the tracker's own keys, not {show_value(value)}")


class MlflowConfig(Section):
    """Where MLflow keeps the runs."""

    tracking_uri: str | None = None
    """None: what MLFLOW_TRACKING_URI says, else the folder ``mlflow`` of the run."""
    experiment: Annotated[str, Field(min_length=1)] = "sweep"

    @field_validator("tracking_uri")
    @classmethod
    def _holds_no_secret(cls, uri: str | None) -> str | None:
        # The message must not repeat the value: it would end up in logs.
        if uri and holds_password(uri):
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
    storage: StorageConfig = StorageConfig()
    trackers: TrackersConfig = TrackersConfig()
    baselines: BaselineNames = Field(default=["majority", "tf-idf"])
    """Reference methods run on the same subsets; [] for none."""

    @model_validator(mode="after")
    def _names_are_free(self) -> "Config":
        for index, model in enumerate(self.grid.models):
            # Also where it is not run: an earlier session may have done so.
            if model.name in BASELINES:
                raise ValueError(
                    f"grid.models.{index}.name: {model.name} is the name of a baseline; give the "
                    "model another"
                )
        return self
