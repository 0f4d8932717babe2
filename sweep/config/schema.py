"""The sections of the configuration, as strict models."""

import math
from typing import Annotated, Any, Literal

from pydantic import (
    AfterValidator,
    BeforeValidator,
    Discriminator,
    Field,
    Tag,
    field_validator,
    model_validator,
)

from sweep.config.section import Section
from sweep.config.tuning import LORA_KEYS, MAX_NORM, Method, TuneConfig, TuneOverrides
from sweep.config.types import (
    BASELINES,
    UNIQUE,
    AnyPath,
    BaselineName,
    ColumnNames,
    Count,
    Delimiter,
    LabelCount,
    Name,
    Number,
    OneOrMoreNames,
    PositiveInt,
    Share,
    StorageUri,
    check_encoding,
    derive_name,
    holds_password,
    refuse_repeats,
)
from sweep.errors import format_value

# The keys of ``data`` that a source does not read: setting one shows that another source is meant.
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


class DataConfig(Section):
    """Where the texts come from and which labels count."""

    source: Literal["hub", "files", "synthetic"] = "synthetic"
    """Where the data come from. Default: ``files`` if ``path`` or ``splits`` is set, else
    ``synthetic``, the built-in corpus."""
    path: AnyPath | None = None
    """A dataset id on the Hub; or a folder, file, ZIP archive or pattern such as ``data/*.csv``."""
    config: str | None = None
    """Configuration (subset) of a Hub dataset; null: its default."""
    revision: str | None = None
    """Commit, tag or branch of a Hub dataset; null: its newest commit."""
    text_column: OneOrMoreNames | None = None
    """The column with the texts, or a list of columns whose texts are joined by line breaks; null:
    found by name, then by content."""
    label_column: str | None = None
    """The column with the labels; null: found by name, then by content."""
    label_separator: Annotated[str, Field(min_length=1)] | None = None
    """Separates the labels within a text such as ``joy,anger``; null: such a text is one label."""
    labels_file: AnyPath | None = None
    """A file of label names, one per line, for labels that are integers from 0; relative to the
    data."""
    columns: ColumnNames | None = None
    """The names of all columns, in order, of CSV and TSV files without a header line; null: the
    first line holds the names."""
    delimiter: Delimiter | None = None
    """Separates the fields of CSV and TSV files: a character, or ``tab``, ``comma``,
    ``semicolon``, ``pipe``, ``space`` or ``colon``; null: detected in each file."""
    quoted: bool = True
    """Whether CSV and TSV files put quotes around texts that hold the delimiter or line breaks."""
    encoding: Annotated[str, AfterValidator(check_encoding)] | None = None
    """The encoding of text files that are not UTF-8, such as ``cp1252``; null: UTF-8 only (UTF-16
    and UTF-32 with a byte order mark are recognized)."""
    splits: dict[Literal["train", "validation", "test"], AnyPath | None] | None = None
    """For each split its name on the Hub, or its file, folder or pattern relative to ``path``. A
    split that is not listed is found by its usual names; null instead of a name: hold it out from
    training."""
    validation_fraction: Annotated[Number, Field(gt=0, lt=1)] = 0.1
    """Fraction of the training texts to hold out for validation if the data have no such split."""
    test_fraction: Annotated[Number, Field(gt=0, lt=1)] = 0.1
    """Fraction of the training texts to hold out for test if the data have no such split."""
    split_seed: Count = 0
    """Seed for holding missing splits out from training."""
    exclude_labels: list[str] = Field(default=["neutral"])
    """Labels whose rows are left out; ``[]``: none."""
    label_order: (
        Annotated[list[str], AfterValidator(refuse_repeats), Field(json_schema_extra=UNIQUE)] | None
    ) = None
    """The labels to use, in this order: the first k of them make the set of k; null: all, the most
    frequent in training first."""
    max_eval_per_label: PositiveInt | None = None
    """Upper bound on validation texts and on test texts per label; null: as many as balance
    allows."""

    @model_validator(mode="before")
    @classmethod
    def _path_means_files(cls, tree: Any) -> Any:
        if not isinstance(tree, dict) or "source" in tree:
            return tree
        named = [name for name in ("path", "splits") if name in tree]
        if named and not any(tree[name] for name in named):
            # As from an unset shell variable.
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
        """``text_column`` as a list; None where the columns are to be found."""
        return [self.text_column] if isinstance(self.text_column, str) else self.text_column

    @model_validator(mode="after")
    def _path_fits_source(self) -> "DataConfig":
        named = self.path or (self.source == "files" and (self.splits or {}).get("train"))
        if self.source != "synthetic" and not named:
            other = " or data.splits.train" if self.source == "files" else ""
            raise ValueError(f"source {self.source!r} needs data.path{other}")
        return self

    @model_validator(mode="after")
    def _training_is_named(self) -> "DataConfig":
        if self.splits and self.splits.get("train", "") is None:
            raise ValueError("splits.train needs a file; only validation and test may be null")
        return self

    @model_validator(mode="after")
    def _training_remains(self) -> "DataConfig":
        if self.validation_fraction + self.test_fraction >= 1:
            raise ValueError(
                "validation_fraction and test_fraction leave nothing to train on: "
                "together they must be below 1"
            )
        return self


class ModelConfig(Section):
    """One contender of the grid: a base model and a method."""

    name: Name
    """What tables and charts call the model: letters, digits, ``.``, ``_`` and ``-``."""
    path: Annotated[AnyPath, Field(min_length=1)]
    """A Hub id, a local folder, or ``tiny:FAMILY`` for a tiny random-weight model: ``qwen2``,
    ``llama``, ``gpt2`` or ``gemma3``."""
    revision: str | None = None
    """Commit, tag or branch on the Hub; null: ``main``. Each trial names the commit it trains."""
    trust_remote_code: bool = False
    """Whether to run code that comes with the model. It runs as you: see SECURITY.md."""
    allow_pickle: bool = False
    """Whether to load weights that are not safetensors; converting is safer: see SECURITY.md."""
    method: Method = "lora"
    """``lora``: low-rank adapters on a frozen base model; ``full``: all weights are trained."""
    target_modules: Annotated[list[str], Field(min_length=1)] | None = None
    """Names of the linear layers that get LoRA, such as ``q_proj``; null: all of them."""
    tune: TuneOverrides | None = None
    """What is tuned differently for this entry; null: nothing."""

    @property
    def overrides(self) -> TuneOverrides:
        """``tune``, with null for all that is not tuned differently."""
        return self.tune or TuneOverrides()

    @model_validator(mode="after")
    def _keys_fit_method(self) -> "ModelConfig":
        if self.method == "full":
            named = [f"tune.{key}" for key in LORA_KEYS if getattr(self.overrides, key) is not None]
            named += ["target_modules"] if self.target_modules else []
            if named:
                raise ValueError(
                    f"{named[0]} has no effect with method full, which trains all weights; remove "
                    "it or set method to lora"
                )
        return self


class FeaturesConfig(Section):
    """A baseline: logistic regression on the vectors that a pretrained model gives of the texts."""

    features: Annotated[AnyPath, Field(min_length=1)]
    """The model, which is not trained: a Hub id, a local folder, or ``tiny:FAMILY``."""
    name: Name | None = None
    """What tables and charts call the baseline; null: ``features-`` and the last part of
    ``features``."""
    revision: str | None = None
    """Commit, tag or branch on the Hub; null: ``main``."""
    trust_remote_code: bool = False
    """Whether to run code that comes with the model. It runs as you: see SECURITY.md."""
    allow_pickle: bool = False
    """Whether to load weights that are not safetensors; converting is safer: see SECURITY.md."""
    pooling: Literal["auto", "mean", "last", "cls"] = "auto"
    """Which vector stands for a text: the ``mean`` of its tokens', that of the ``last`` or of the
    first (``cls``); ``auto``: what the model's own ``modules.json`` says, else ``last`` if its
    tokens see only those before them, as in a decoder, and ``mean`` if they see all."""

    @model_validator(mode="before")
    @classmethod
    def _model_names_baseline(cls, tree: Any) -> Any:
        if not isinstance(tree, dict) or tree.get("name") is not None:
            return tree
        path = tree.get("features")
        return {**tree, "name": derive_name(path)} if isinstance(path, str) else tree

    @property
    def model(self) -> ModelConfig:
        """The model, as an entry of the grid would describe it."""
        return ModelConfig(
            name=str(self.name),
            path=self.features,
            revision=self.revision,
            trust_remote_code=self.trust_remote_code,
            allow_pickle=self.allow_pickle,
        )


def _tell_baseline_form(value: Any) -> str:
    return "of a model" if isinstance(value, dict | FeaturesConfig) else "plain"


BaselineEntry = Annotated[
    Annotated[BaselineName, Tag("plain")] | Annotated[FeaturesConfig, Tag("of a model")],
    Discriminator(_tell_baseline_form),
]


class GridConfig(Section):
    """The axes of the grid: every combination of their values is a cell."""

    models: Annotated[list[ModelConfig], Field(min_length=1)]
    """The contenders: base models, each with the method by which it is fine-tuned. A model may be
    listed twice, once per method."""
    n_labels: Annotated[
        list[LabelCount],
        Field(min_length=1, json_schema_extra=UNIQUE),
        AfterValidator(refuse_repeats),
    ]
    """Label counts: k means the first k labels, so smaller sets are part of larger ones."""
    n_samples: Annotated[
        list[PositiveInt],
        Field(min_length=1, json_schema_extra=UNIQUE),
        AfterValidator(refuse_repeats),
    ]
    """Training texts per cell; each must be a multiple of every label count."""
    seeds: Annotated[
        list[Count],
        Field(min_length=1, json_schema_extra=UNIQUE),
        AfterValidator(refuse_repeats),
    ] = Field(default=[0])
    """Seeds for drawing training texts, initial weights and batch order."""

    @field_validator("models")
    @classmethod
    def _models_differ(cls, models: list[ModelConfig]) -> list[ModelConfig]:
        names = [model.name for model in models]
        weights = [(m.path, m.revision, str(m.target_modules), m.method) for m in models]
        for index, model in enumerate(models):
            if names.count(model.name) > 1:
                same = format_value(model.name)
                raise ValueError(f"two models have the same name {same}; give each its own")
            if weights.count(weights[index]) > 1:
                raise ValueError(
                    f"two models have the same path {format_value(model.path)} and method; give "
                    "one another method, or remove it"
                )
        return models

    @model_validator(mode="after")
    def _samples_divide(self) -> "GridConfig":
        for k in self.n_labels:
            for n in self.n_samples:
                if n % k:
                    below, above = n - n % k, n - n % k + k
                    near = " or ".join(str(v) for v in (below, above) if v > 0)
                    raise ValueError(
                        f"n_samples {n} cannot be balanced over n_labels {k}: use {near}"
                    )
        return self


class AshaConfig(Section):
    """When trials are stopped early: asynchronous successive halving within each cell (Li et al.
    2020, arXiv:1810.05934)."""

    max_epochs: Annotated[PositiveInt, Field(le=10**6)] = 8
    """Maximum epochs of a trial; the learning rate reaches 0 there."""
    grace_epochs: PositiveInt = 1
    """Epochs before a trial is first compared with the others of its cell."""
    reduction_factor: Annotated[Number, Field(gt=1)] = 3
    """About one in this many trials continues after each comparison, and the next comparison comes
    after this many times the epochs."""

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
                "be compared more than 100 times; use 2 or more"
            )
        return self


class TrainConfig(Section):
    """How each trial is trained: the same for all of them."""

    batch_size: PositiveInt = 16
    """Texts per optimizer step."""
    eval_batch_size: PositiveInt = 64
    """Texts scored at once."""
    max_batch_tokens: Annotated[PositiveInt, Field(ge=64)] = 8192
    """Maximum number of tokens, padding included, in one forward pass; a larger batch is split, and
    the gradients of its parts add up to the same step."""
    max_length: Annotated[PositiveInt, Field(ge=4)] = 64
    """Maximum number of tokens per text; longer texts are truncated."""
    dtype: Literal["auto", "float32", "bfloat16", "float16"] = "auto"
    """Number format of the base model; ``auto``: bfloat16 on GPUs that compute in it, float16 on
    older ones with tensor cores (V100, T4, RTX 20), float32 on GPUs before them; on CPUs float32 or
    bfloat16, whichever a measured training step of the model is faster with. The adapters are
    float32."""
    gradient_checkpointing: Literal["auto"] | bool = "auto"
    """Recompute activations in the backward pass instead of keeping them in memory; ``auto``: on a
    GPU whose free memory would not hold them."""
    warmup_ratio: Annotated[Number, Field(ge=0, lt=1)] = 0.1
    """Fraction of the steps of ``asha.max_epochs`` over which the learning rate rises; it then
    falls linearly to 0."""
    max_grad_norm: Annotated[Number, Field(gt=0, le=MAX_NORM)] = 1.0
    """Maximum norm of the gradients, which are clipped to it."""
    patience: PositiveInt | None = 3
    """Epochs without a better validation accuracy before a trial ends; null: no limit."""


class ResourcesConfig(Section):
    """How trials share the machines, and when a worker counts as lost."""

    engine: Literal["solo", "packed", "auto"] = "solo"
    """``solo``: each trial trains in a worker of its own; ``packed``: trials of one base model
    train on it together, step by step, on each GPU or, without GPUs, CPU; ``auto``: packed where
    there are GPUs."""
    slots: Literal["auto"] | Annotated[PositiveInt, Field(le=256)] = "auto"
    """Packed trials at a time on each GPU or, without GPUs, on each ``cpus_per_trial`` CPUs;
    ``auto``: as many as memory allows, at most 16, or 4 on CPUs."""
    gpus_per_trial: Literal["auto"] | Share = "auto"
    """GPUs, or a fraction of one, for each trial of the solo engine; ``auto``: by the memory
    estimate, at most 8 trials on a GPU."""
    cpus_per_trial: Annotated[Share, Field(gt=0)] = 1
    """CPUs for each trial."""
    max_retries: Count = 2
    """How often in a row, without an epoch in between, a trial is restarted after its worker or
    machine died."""
    max_epoch_minutes: Annotated[Number, Field(gt=0)] = 240
    """Minutes without a finished epoch after which a worker counts as hung and is stopped."""


class StorageConfig(Section):
    """Where a run keeps its checkpoints."""

    checkpoints: StorageUri | None = None
    """``s3://BUCKET/PREFIX``, ``gs://BUCKET/PREFIX``, or an absolute path that every machine can
    reach: checkpoints go into a folder there, named like the run; null: into the run folder."""


def _expand_switch(value: Any) -> Any:
    # ``true`` enables a tracker with its defaults, ``false`` disables it.
    if isinstance(value, bool):
        return {} if value else None
    if value is None or isinstance(value, dict | Section):
        return value
    raise ValueError(f"write true, false, or the tracker's own keys, not {format_value(value)}")


class MlflowConfig(Section):
    """Where MLflow keeps the metrics."""

    tracking_uri: str | None = None
    """Server or folder; null: what ``MLFLOW_TRACKING_URI`` says, else ``mlflow`` in the run
    folder. Passwords belong in the environment."""
    experiment: Annotated[str, Field(min_length=1)] = "sweep"
    """Name of the experiment."""

    @field_validator("tracking_uri")
    @classmethod
    def _holds_no_secret(cls, uri: str | None) -> str | None:
        # The message must not repeat the value: it would end up in logs.
        if uri and holds_password(uri):
            raise ValueError(
                "holds a user name or password; remove it and set MLFLOW_TRACKING_USERNAME and "
                "MLFLOW_TRACKING_PASSWORD"
            )
        return uri


class WandbConfig(Section):
    """Where Weights & Biases keeps the metrics; its key comes from WANDB_API_KEY or its login."""

    project: Annotated[str, Field(min_length=1)] = "sweep"
    """Name of the project."""
    entity: str | None = None
    """User or team; null: your default."""


class TrackersConfig(Section):
    """Experiment trackers that receive the metrics of every epoch; all are off by default."""

    tensorboard: bool = False
    """Whether to write TensorBoard files, into ``tensorboard`` in the run folder."""
    mlflow: Annotated[
        MlflowConfig | None,
        BeforeValidator(_expand_switch, json_schema_input_type=MlflowConfig | bool | None),
    ] = None
    """Whether, and where, MLflow keeps the metrics; ``true``: with its defaults."""
    wandb: Annotated[
        WandbConfig | None,
        BeforeValidator(_expand_switch, json_schema_input_type=WandbConfig | bool | None),
    ] = None
    """Whether, and where, Weights & Biases keeps the metrics; ``true``: with its defaults."""


class Config(Section):
    """The configuration of a sweep."""

    name: Name = "sweep"
    """Name of the run and of its folder: letters, digits, ``.``, ``_`` and ``-``."""
    data: DataConfig = DataConfig()
    grid: GridConfig
    tune: TuneConfig = TuneConfig()
    asha: AshaConfig = AshaConfig()
    train: TrainConfig = TrainConfig()
    resources: ResourcesConfig = ResourcesConfig()
    storage: StorageConfig = StorageConfig()
    trackers: TrackersConfig = TrackersConfig()
    baselines: Annotated[
        list[BaselineEntry], Field(json_schema_extra=UNIQUE), AfterValidator(refuse_repeats)
    ] = Field(default=["majority", "tf-idf"])
    """Baselines that run on the same subsets: the majority class, logistic regression on TF-IDF, or
    on the features of a model; ``[]``: none."""

    @property
    def baseline_names(self) -> list[str]:
        """What tables and charts call the baselines."""
        return [entry if isinstance(entry, str) else str(entry.name) for entry in self.baselines]

    def list_features(self) -> list[tuple[int, FeaturesConfig]]:
        """Return the baselines on features of models, with their positions in the list."""
        pairs = enumerate(self.baselines)
        return [(index, entry) for index, entry in pairs if isinstance(entry, FeaturesConfig)]

    @model_validator(mode="after")
    def _features_have_names_of_their_own(self) -> "Config":
        taken = {model.name: "a model" for model in self.grid.models}
        # Even if that baseline is off now: an earlier session may have run it.
        taken |= dict.fromkeys(BASELINES, "another baseline")
        for index, entry in self.list_features():
            name = str(entry.name)
            if name in taken:
                raise ValueError(
                    f"baselines.{index}.name: {name} is the name of {taken[name]}; give this "
                    "baseline another"
                )
            taken[name] = "another baseline"
        return self

    @model_validator(mode="after")
    def _features_differ(self) -> "Config":
        seen: dict[tuple[str, ...], int] = {}
        for index, entry in self.list_features():
            key = (entry.features, str(entry.revision), entry.pooling)
            first = seen.setdefault(key, index)
            if first != index:
                raise ValueError(
                    f"baselines.{index}: has the features, revision and pooling of "
                    f"baselines.{first}; keep only one of them"
                )
        return self

    @model_validator(mode="after")
    def _names_are_not_baselines(self) -> "Config":
        for index, model in enumerate(self.grid.models):
            # Even if that baseline is off now: an earlier session may have run it.
            if model.name in BASELINES:
                raise ValueError(
                    f"grid.models.{index}.name: {model.name} is the name of a baseline; give the "
                    "model another"
                )
        return self
