"""The plan: configuration -> cells -> trials, each with an id that hashes what it computes."""

import hashlib
import json
import math
import random
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import cache
from itertools import product
from typing import Annotated, Any, NamedTuple, Protocol

from pydantic import ConfigDict, with_config

from sweep.config import (
    Config,
    Method,
    ModelConfig,
    TrainConfig,
    count_candidates,
    draw_distinct,
    name_spaces,
)
from sweep.config.strict import (
    Amount,
    Count,
    Epoch,
    Flag,
    Fraction,
    Id,
    NameTuple,
    Ordinal,
    Text,
    TextTuple,
)
from sweep.errors import ConfigError

# Raised whenever a change to the training code changes a trial's result; the second one, where it
# changes the result of trials with LoRA dropout alone.
RECIPE_VERSION, DROPOUT_VERSION = 1, 2

# What ``eval_batch_size: auto`` means on a CPU.
SCORED_AT_ONCE = 64

# Model name, n_labels, n_samples, seed.
CellKey = tuple[str, int, int, int]


class SubsetFacts(Protocol):
    """What the plan needs to know about the data."""

    def labels_for(self, n_labels: int) -> tuple[str, ...]:
        """Return the names of the ``n_labels`` labels."""

    def fingerprint(self, n_labels: int, n_samples: int, seed: int) -> str:
        """Return a hash of the training, validation and test texts and labels."""


@dataclass(frozen=True, slots=True)
class Cell:
    """One combination of the grid's axes."""

    cell_id: Id
    model: Id
    n_labels: Ordinal
    labels: NameTuple
    n_samples: Ordinal
    seed: Count

    @property
    def axes(self) -> CellKey:
        """The cell's position in the grid."""
        return self.model, self.n_labels, self.n_samples, self.seed


def format_cell(model: str, n_labels: int, n_samples: int, seed: int) -> str:
    """Return the axes of a cell as text: ``llama, 4 labels x 800 samples, seed 0``."""
    return f"{model}, {n_labels} labels x {n_samples} samples, seed {seed}"


class LoraSettings(NamedTuple):
    """The adapter of a candidate."""

    rank: int
    alpha: float
    dropout: float

    @property
    def scaling(self) -> float:
        """The factor on the adapter's output."""
        return self.alpha / self.rank


@dataclass(frozen=True, slots=True)
class Candidate:
    """One point of a contender's search space; ``index`` is its position in the contender's list.

    Those of LoRA are None where all weights are trained.
    """

    index: Count
    lora_rank: Ordinal | None
    lora_alpha: Amount | None
    learning_rate: Amount
    lora_dropout: Fraction | None
    weight_decay: Amount

    @property
    def lora(self) -> LoraSettings | None:
        """The adapter; None if all weights are trained."""
        if self.lora_rank is None or self.lora_alpha is None:
            return None
        return LoraSettings(self.lora_rank, self.lora_alpha, self.lora_dropout or 0.0)


@dataclass(frozen=True, slots=True)
class ModelRef:
    """A contender: a base model, the exact weights it refers to, and the method."""

    name: Id
    path: Text
    revision: Text
    trust_remote_code: Flag = False
    allow_pickle: Flag = False
    target_modules: TextTuple | None = None
    method: Annotated[Method, "lora or full"] = "lora"


@dataclass(frozen=True, slots=True)
class Recipe:
    """How every trial of a sweep is trained."""

    batch_size: Ordinal
    eval_batch_size: Annotated[int | str, "auto or a whole number from 1"]
    max_length: Ordinal
    dtype: Text
    warmup_ratio: Fraction
    max_grad_norm: Amount
    patience: Ordinal | None
    max_epochs: Epoch
    max_batch_tokens: Ordinal = 8192
    gradient_checkpointing: Annotated[bool | str, "auto, true or false"] = "auto"
    compile: Annotated[bool | str, "auto, true or false"] = "auto"


def scored_at_once(settings: Recipe | TrainConfig, on_gpu: bool = False) -> int:
    """Return the most texts that are scored at once; ``max_batch_tokens`` may allow fewer."""
    if isinstance(settings.eval_batch_size, int):
        return settings.eval_batch_size
    # A text has a token at least.
    return settings.max_batch_tokens if on_gpu else SCORED_AT_ONCE


@dataclass(frozen=True, slots=True)
class Capacity:
    """What a pack of trials has room for: how many at a time, and the largest LoRA rank and number
    of labels among all that may come."""

    slots: int
    rank: int
    classes: int

    @classmethod
    def for_trials(cls, trials: Iterable["TrialSpec"], slots: int) -> "Capacity":
        """Return room for ``slots`` at a time of the LoRA ``trials``."""
        sizes = [(spec.candidate.lora_rank or 1, spec.cell.n_labels) for spec in trials]
        return cls(slots, *map(max, zip((1, 1), *sizes, strict=True)))

    @classmethod
    def by_model(cls, trials: Iterable["TrialSpec"], slots: int) -> dict[str, "Capacity"]:
        """Return for each model room for ``slots`` at a time of its LoRA ``trials``."""
        grouped: dict[str, list[TrialSpec]] = {}
        for spec in trials:
            grouped.setdefault(spec.model.name, []).append(spec)
        return {name: cls.for_trials(group, slots) for name, group in grouped.items()}


# Fields that a later release adds to a trial have no room in its parts.
@with_config(ConfigDict(extra="ignore"))
@dataclass(frozen=True, slots=True)
class TrialSpec:
    """One candidate in one cell: everything a worker needs to train it.

    A journal's ``planned`` events are checked against the fields of this class and its parts.
    """

    trial_id: Id
    cell: Cell
    candidate: Candidate
    model: ModelRef
    recipe: Recipe
    data_fingerprint: Text

    def to_dict(self) -> dict[str, Any]:
        """Return plain values, ready for JSON."""
        return asdict(self)


@dataclass(frozen=True, slots=True)
class FeaturesRef:
    """The features that a baseline reads: for each text the vector of a model's tokens that
    ``pooling`` names, divided by its length if ``normalized``."""

    model: ModelRef
    pooling: str
    normalized: bool
    recipe: Recipe


@dataclass(frozen=True)
class Plan:
    """Every cell and every trial of a sweep, in the order in which trials start, and the features
    of its baselines."""

    cells: tuple[Cell, ...]
    candidates: Mapping[str, tuple[Candidate, ...]]
    """Model name -> the candidates of each of its cells."""
    trials: tuple[TrialSpec, ...]
    features: tuple[FeaturesRef, ...] = ()


def build_plan(config: Config, data: SubsetFacts, revisions: Mapping[str, str]) -> Plan:
    """Return the plan of ``config``; ``revisions`` identifies each model's exact weights.

    Trials are grouped by model, so that workers rarely change their base model. The candidates of a
    cell are shuffled by seed, because ASHA favors those that come first.
    """
    candidates = {model.name: draw_candidates(config, model) for model in config.grid.models}
    recipe = build_recipe(config)
    recipe_content = _recipe_content(recipe)
    content_of = cache(_candidate_content)
    cells, trials = [], []
    for model, k, n, seed in product(
        config.grid.models, config.grid.n_labels, config.grid.n_samples, config.grid.seeds
    ):
        ref = build_model_ref(model, revisions[model.name])
        labels, fingerprint = data.labels_for(k), data.fingerprint(k, n, seed)
        content = _cell_content(fingerprint, labels, n, seed, ref)
        cell = Cell(_hash(content), model.name, k, labels, n, seed)
        cells.append(cell)
        for candidate in shuffle_candidates(candidates[model.name], cell):
            trial_id = _hash([content, content_of(candidate), recipe_content])
            trials.append(TrialSpec(trial_id, cell, candidate, ref, recipe, fingerprint))
    return Plan(tuple(cells), candidates, tuple(trials))


def extend_plan(plan: Plan, trials: Sequence[TrialSpec]) -> Plan:
    """Return ``plan`` with further ``trials`` and their cells at its end."""
    cells = dict.fromkeys([*plan.cells, *(spec.cell for spec in trials)])
    return replace(plan, cells=tuple(cells), trials=(*plan.trials, *trials))


def build_repeat(tuned: TrialSpec, seed: int, data: SubsetFacts) -> TrialSpec:
    """Return the trial that trains the candidate of ``tuned`` with another seed. Its id is the one
    that it would have if that seed were in the grid."""
    at, ref = tuned.cell, tuned.model
    fingerprint = data.fingerprint(at.n_labels, at.n_samples, seed)
    content = _cell_content(fingerprint, at.labels, at.n_samples, seed, ref)
    cell = replace(at, cell_id=_hash(content), seed=seed)
    settings = [_candidate_content(tuned.candidate), _recipe_content(tuned.recipe)]
    return replace(
        tuned, trial_id=_hash([content, *settings]), cell=cell, data_fingerprint=fingerprint
    )


def draw_candidates(config: Config, model: ModelConfig) -> tuple[Candidate, ...]:
    """Return the distinct candidates of a contender, the same list for each of its cells."""
    wanted = count_candidates(config.tune, model.overrides)
    spaces = name_spaces(config.tune, model.method, model.overrides)
    own = model.overrides.candidates is not None
    key = f"grid.models.{config.grid.models.index(model)}.tune" if own else "tune"
    widen = "learning_rate" if model.method == "full" else "lora_rank or learning_rate"
    possible = math.prod(space.size for space in spaces.values())
    if possible < wanted:
        raise ConfigError(
            f"{key}.candidates is {wanted}, but what is tuned for {model.name} allows only "
            f"{possible:.0f} different ones; lower it or widen {widen}"
        )
    points = draw_distinct(spaces, config.tune.seed, wanted)
    if len(points) < wanted:
        raise ConfigError(
            f"{key}.candidates is {wanted}, but what is tuned for {model.name} gives only "
            f"{len(points)} that differ in six digits; lower it or widen learning_rate"
        )
    return tuple(_build_candidate(i, point) for i, point in enumerate(points))


def _build_candidate(index: int, point: Mapping[str, float]) -> Candidate:
    rate, decay = float(point["learning_rate"]), float(point["weight_decay"])
    if "lora_rank" not in point:
        return Candidate(index, None, None, rate, None, decay)
    rank = int(point["lora_rank"])
    alpha = float(f"{rank * point['lora_alpha_ratio']:.6g}")
    return Candidate(index, rank, alpha, rate, float(point["lora_dropout"]), decay)


def build_recipe(config: Config) -> Recipe:
    """Return the training settings that all trials share."""
    train = config.train
    return Recipe(
        batch_size=train.batch_size,
        eval_batch_size=train.eval_batch_size,
        max_batch_tokens=train.max_batch_tokens,
        gradient_checkpointing=train.gradient_checkpointing,
        compile=train.compile,
        max_length=train.max_length,
        dtype=train.dtype,
        warmup_ratio=train.warmup_ratio,
        max_grad_norm=train.max_grad_norm,
        patience=train.patience,
        max_epochs=config.asha.max_epochs,
    )


def build_model_ref(model: ModelConfig, revision: str) -> ModelRef:
    """Return the reference that is sent to the workers."""
    return ModelRef(
        name=model.name,
        path=model.path,
        revision=revision,
        trust_remote_code=model.trust_remote_code,
        allow_pickle=model.allow_pickle,
        target_modules=tuple(model.target_modules) if model.target_modules else None,
        method=model.method,
    )


def shuffle_candidates(candidates: tuple[Candidate, ...], cell: Cell) -> list[Candidate]:
    """Return ``candidates`` in an order that depends on the cell's labels, size and seed only."""
    order = list(candidates)
    random.Random(f"{cell.labels} {cell.n_samples} {cell.seed}").shuffle(order)
    return order


def _cell_content(
    fingerprint: str, labels: Sequence[str], n_samples: int, seed: int, ref: ModelRef
) -> list[Any]:
    return [fingerprint, labels, n_samples, seed, _model_content(ref)]


def _model_content(ref: ModelRef) -> list[Any]:
    # Ids of LoRA trials are older than the methods.
    method = [] if ref.method == "lora" else [ref.method]
    return [ref.revision, ref.target_modules, ref.trust_remote_code, *method]


def _candidate_content(candidate: Candidate) -> dict[str, Any]:
    content = asdict(candidate)
    del content["index"]
    if candidate.lora_dropout:
        content["dropout_version"] = DROPOUT_VERSION
    return content


def _recipe_content(recipe: Recipe) -> dict[str, Any]:
    content = asdict(recipe)
    # How much is processed or kept at a time, and by which code, changes no result beyond rounding.
    for name in ("eval_batch_size", "max_batch_tokens", "gradient_checkpointing", "compile"):
        del content[name]
    content["version"] = RECIPE_VERSION
    return content


def _hash(content: Any) -> str:
    text = json.dumps(content, sort_keys=True, separators=(",", ":"), ensure_ascii=True)
    return hashlib.sha256(text.encode()).hexdigest()[:12]
