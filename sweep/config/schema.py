"""The sections of the configuration, as strict models."""

import math
from typing import Annotated, Any, Literal

from pydantic import (
    AfterValidator,
    Discriminator,
    Field,
    Tag,
    field_validator,
    model_validator,
)

from sweep.config.costs import CostConfig, ServingConfig
from sweep.config.data import DataConfig
from sweep.config.repeats import RepeatConfig, VerdictConfig
from sweep.config.section import Section
from sweep.config.trackers import TrackersConfig
from sweep.config.tuning import LORA_KEYS, MAX_NORM, Method, TuneConfig, TuneOverrides
from sweep.config.types import (
    BASELINES,
    UNIQUE,
    AnyPath,
    BaselineName,
    Count,
    LabelCount,
    Name,
    Number,
    PositiveInt,
    Share,
    StorageUri,
    derive_name,
    refuse_repeats,
)
from sweep.errors import format_value


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
    eval_batch_size: Literal["auto"] | PositiveInt = "auto"
    """Texts scored at once; ``auto``: 64 or, where trials train on a GPU, as many as
    ``max_batch_tokens`` holds."""
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
    compile: Literal["auto"] | bool = "auto"
    """Compile the blocks of Llama, Qwen2, Gemma 3 and GPT-2 with ``torch.compile``, for trials that
    train alone, and without dropout in these blocks; ``auto``: on a GPU, if the forecast expects so
    much training of the model that it pays, and a measured training step gets faster."""
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


class Config(Section):
    """The configuration of a sweep."""

    name: Name = "sweep"
    """Name of the run and of its folder: letters, digits, ``.``, ``_`` and ``-``."""
    data: DataConfig = DataConfig()
    grid: GridConfig
    tune: TuneConfig = TuneConfig()
    asha: AshaConfig = AshaConfig()
    repeat: RepeatConfig = RepeatConfig()
    verdict: VerdictConfig = VerdictConfig()
    cost: CostConfig = CostConfig()
    serving: ServingConfig = ServingConfig()
    train: TrainConfig = TrainConfig()
    resources: ResourcesConfig = ResourcesConfig()
    storage: StorageConfig = StorageConfig()
    trackers: TrackersConfig = TrackersConfig()
    baselines: Annotated[
        list[BaselineEntry], Field(json_schema_extra=UNIQUE), AfterValidator(refuse_repeats)
    ] = Field(default=["majority", "tf-idf"])
    """Baselines that run on the same subsets: the majority class, logistic regression on TF-IDF, or
    on the features of a model; ``[]``: none."""

    @model_validator(mode="after")
    def _seeds_are_one_kind(self) -> "Config":
        if self.repeat.seeds and len(self.grid.seeds) > 1:
            raise ValueError(
                "repeat.seeds: grid.seeds already has several seeds, each tuned anew; keep one in "
                "grid.seeds, or set repeat.seeds to 0"
            )
        return self

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
