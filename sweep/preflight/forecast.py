"""What a sweep will need on a machine: memory for each model's trials, time and disk in total."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property, partial
from itertools import product
from pathlib import Path
from typing import Literal

from sweep.cluster.allocation import USABLE_GPU, Arrangement, EngineName, arrange, choose_engine
from sweep.cluster.hardware import Machine
from sweep.config import Config, count_candidates
from sweep.data import Subsets
from sweep.models.facts import ModelFacts, TrialLoad
from sweep.models.file_check import ResolvedModel
from sweep.models.formulas import derive_facts
from sweep.models.memory import (
    checkpoint_bytes,
    estimate_memory,
    estimate_pack,
    estimate_worker,
    result_bytes,
)
from sweep.models.shape import FAMILIES, count_weights, read_shape
from sweep.plan import CellKey, draw_candidates, scored_at_once
from sweep.preflight.repeat_forecast import CellRepeats, RepeatForecast, estimate_repeats
from sweep.preflight.runtime import (
    ALONE,
    GPU_LOAD_BYTES_PER_SECOND,
    LOAD_BYTES_PER_SECOND,
    CellWork,
    Range,
    Rate,
    TextSizes,
    cell_seconds,
    choose_rate,
    epoch_seconds,
    estimate_epochs,
    estimate_tokens,
    read_token_rates,
    total_seconds,
)
from sweep.storage.checkpoints import KEPT_CHECKPOINTS
from sweep.storage.forecast import PackBytes

# How far off a rate measured earlier in the same run may be.
HISTORY_SPREAD = (0.8, 1.3)
# The most tokens of a pack's pass on a CPU (``sweep.training.packed.microbatches.MOST_TOKENS``).
CPU_PASS_TOKENS = 2048
# Validation texts assumed where the data cannot be read.
UNKNOWN_TEXTS = 500

# n_labels, n_samples, seed.
TextKey = tuple[int, int, int]


@dataclass(frozen=True)
class ModelEstimate:
    """What one contender needs: parameters of the base model and those that are trained, bytes per
    trial in memory and per checkpoint."""

    model: str
    parameters: int
    trained: int
    memory_bytes_per_trial: int
    checkpoint_bytes: int
    slot_bytes: int
    """What one more trial takes at most if trials share the base model."""
    pack: PackBytes
    """What a host takes if they do."""
    worker_bytes: int | None
    """What a process that trains on a GPU takes of the machine's own memory; None on CPUs."""
    checkpointed_bytes: int | None = None
    """What a trial alone, or on a host of its own, takes with gradient checkpointing; None if it is
    on already, or the model does not support it."""


@dataclass(frozen=True)
class Total:
    """What the entire run needs: wall seconds, bytes of checkpoints if no trial is stopped, trials
    at a time, and the source of the rate. With the packed engine, ``slots`` trials share each host,
    and those of the models ``alone`` train beside the packs. The seconds include ``repeats``."""

    seconds: Range
    disk_bytes: int
    trials_at_a_time: int
    rate: str
    engine: EngineName = "solo"
    slots: int = 1
    alone: tuple[str, ...] = ()
    repeats: RepeatForecast | None = None


@dataclass(frozen=True)
class ModelWorkload:
    """One contender with everything that its estimate is based on; ``guessed`` if its architecture
    is unknown and could not be measured."""

    name: str
    facts: ModelFacts
    load: TrialLoad
    candidates: int
    guessed: bool = False


@dataclass(frozen=True)
class CellTexts:
    """The texts of a cell: tokens of the training texts, and the number of validation texts."""

    training: TextSizes
    validation: int


def measure_texts(config: Config, subsets: Subsets | None) -> dict[TextKey, CellTexts]:
    """Return the texts of each n_labels, n_samples and seed of the grid.

    ``subsets`` is None if the data is unavailable: each text then counts as max_length tokens.
    """
    grid, length = config.grid, config.train.max_length
    if subsets is None:
        unknown = CellTexts(TextSizes(float(length), length), UNKNOWN_TEXTS)
        return dict.fromkeys(product(grid.n_labels, grid.n_samples, grid.seeds), unknown)
    scored = {k: len(subsets.evaluation("validation", k)) for k in grid.n_labels}
    return {
        (k, n, seed): CellTexts(
            estimate_tokens(subsets.training(k, n, seed).texts, length), scored[k]
        )
        for k, n, seed in product(grid.n_labels, grid.n_samples, grid.seeds)
    }


@dataclass(frozen=True)
class Forecaster:
    """Estimates one sweep on one machine.

    ``left`` is the number of trials left in each cell; a cell that is not in it runs them all.
    """

    config: Config
    texts: Mapping[TextKey, CellTexts]
    machine: Machine
    folder: Path
    left: Mapping[CellKey, int]
    repeated: Mapping[CellKey, int] = field(default_factory=dict)
    """The number of repeats with a result in each cell that has any."""
    speed: Rate | None = None
    """The speed of a trial if it is known already; None: measure or assume it."""

    def build_workload(
        self, index: int, found: ResolvedModel, facts: ModelFacts | None
    ) -> ModelWorkload | None:
        """Return the workload of the ``index``-th model: by its ``facts`` or, where it could not be
        measured, by its shape; None if that is unknown too."""
        model, load = self.config.grid.models[index], self.build_load(index)
        candidates = count_candidates(self.config.tune, model.overrides)
        if facts is not None:
            load = self._settle_checkpointing(facts, load)
            return ModelWorkload(model.name, facts, load, candidates)
        shape = read_shape(found.tree)
        if shape is None:
            return None
        counted = count_weights(found.folder) if found.folder else None
        guessed = shape.family not in FAMILIES
        facts = derive_facts(shape, load, counted)
        load = self._settle_checkpointing(facts, load)
        return ModelWorkload(model.name, facts, load, candidates, guessed)

    def build_load(self, index: int) -> TrialLoad:
        """Return the largest trial of the ``index``-th model."""
        train, model = self.config.train, self.config.grid.models[index]
        candidates = draw_candidates(self.config, model)
        longest = max(texts.training.longest for texts in self.texts.values())
        limit = max(train.max_batch_tokens, longest)
        return TrialLoad(
            min(train.batch_size * longest, limit),
            min(scored_at_once(train, bool(self.machine.gpus)) * longest, limit),
            max(each.lora_rank or 0 for each in candidates),
            max(self.config.grid.n_labels),
            tuple(model.target_modules) if model.target_modules else None,
            # What "auto" means depends on facts: see ``_settle_checkpointing``.
            train.gradient_checkpointing is True,
            method=model.method,
            longest=longest,
            dropout=max(each.lora_dropout or 0.0 for each in candidates),
            dtype=self._choose_dtype(),
            on_gpu=bool(self.machine.gpus),
            pass_tokens=limit if self.machine.gpus else max(min(limit, CPU_PASS_TOKENS), longest),
        )

    def _settle_checkpointing(self, facts: ModelFacts, load: TrialLoad) -> TrialLoad:
        """Return ``load`` with gradient checkpointing where ``auto`` means that workers turn it on:
        on GPUs that cannot hold a trial, or the slots asked for, without it."""
        wanted, slots = self.config.train.gradient_checkpointing, self.config.resources.slots
        size = min((gpu.memory_bytes for gpu in self.machine.gpus), default=0)
        if wanted != "auto" or not size or not facts.checkpointable:
            return load
        needed = self._least_bytes(facts, load, 1 if slots == "auto" else slots)
        return replace(load, checkpointed=needed > USABLE_GPU * size)

    def _least_bytes(self, facts: ModelFacts, load: TrialLoad, slots: int = 1) -> int:
        """Return the bytes of one trial alone or, with packs, of a host with ``slots``."""
        engine = choose_engine(self.config.resources, bool(self.machine.gpus))
        if engine == "packed" and facts.packable:
            return estimate_pack(facts, load).total(slots)
        return estimate_memory(facts, load)

    def _choose_dtype(self) -> Literal["float32", "bfloat16", "float16"]:
        # On a CPU, "auto" measures and may choose either; float32 is the larger.
        dtype = self.config.train.dtype
        if dtype == "auto":
            return "bfloat16" if self.machine.gpus else "float32"
        return dtype

    def estimate_model(self, workload: ModelWorkload) -> ModelEstimate:
        """Return the memory and the checkpoint size of one model's trials."""
        facts, load = workload.facts, workload.load
        pack = estimate_pack(facts, load)
        can_save = facts.checkpointable and not load.checkpointed
        return ModelEstimate(
            workload.name,
            facts.parameters,
            facts.trained,
            estimate_memory(facts, load),
            checkpoint_bytes(facts),
            int(pack.slot + pack.batch),
            pack,
            estimate_worker(facts, load) if load.on_gpu else None,
            self._least_bytes(facts, replace(load, checkpointed=True)) if can_save else None,
        )

    def arrange(
        self, workloads: list[ModelWorkload], estimates: list[ModelEstimate]
    ) -> dict[str, Arrangement]:
        """Return how the trials of each model share the machine: in packs or each on its own."""
        resources, sizes = self.config.resources, {each.model: each for each in estimates}
        packable = [workload.name for workload in workloads if workload.facts.packable]
        engine = choose_engine(resources, bool(self.machine.gpus))
        packed = packable if engine == "packed" else []
        alone = [each.model for each in estimates if each.model not in packed]
        found = {}
        if packed:
            packs = [sizes[name].pack for name in packed]
            found = dict.fromkeys(packed, arrange("packed", resources, self.machine, 0, packs))
        # A GPU's share is one for all trials, unless they train beside packs.
        largest = max((sizes[name].memory_bytes_per_trial for name in alone), default=0)
        for name in alone:
            size = sizes[name].memory_bytes_per_trial if packed else largest
            found[name] = arrange("solo", resources, self.machine, size)
        return found

    @cached_property
    def _rate(self) -> Rate:
        if self.speed is not None:
            return self.speed
        threads = max(1, int(self.config.resources.cpus_per_trial))
        return choose_rate(self.machine, threads, self._choose_dtype())

    @cached_property
    def _token_rates(self) -> dict[str, float]:
        return read_token_rates(self.folder)

    def estimate_epochs(
        self, workloads: list[ModelWorkload], arranged: Mapping[str, Arrangement]
    ) -> dict[CellKey, tuple[float, float]]:
        """Return for each cell, done or not, the seconds of an epoch's training and of scoring
        validation (or test) once, while others train as ``arranged``."""
        return {
            (workload.name, *key): self._time_epoch(
                self._describe_work(key, 1), workload, arranged[workload.name]
            )
            for workload in workloads
            for key in self.texts
        }

    def _time_epoch(
        self, work: CellWork, workload: ModelWorkload, sharing: Arrangement
    ) -> tuple[float, float]:
        known = self._token_rates.get(workload.name)
        return epoch_seconds(work, workload.facts, workload.load, self._rate, known, sharing)

    def _describe_work(self, key: TextKey, trials: int) -> CellWork:
        train, texts, (_, n, _) = self.config.train, self.texts[key], key
        mean, scored = texts.training.mean, texts.validation
        fitting = max(1, int(train.max_batch_tokens / mean))
        at_once = min(scored_at_once(train, bool(self.machine.gpus)), fitting)
        sizes = (train.batch_size, n * mean, scored, at_once, scored * mean)
        return CellWork(trials, n, *sizes)

    def _list_work(self, workload: ModelWorkload) -> list[CellWork]:
        work = []
        for key in self.texts:
            trials = self.left.get((workload.name, *key), workload.candidates)
            if trials:
                work.append(self._describe_work(key, trials))
        return work

    def estimate_total(
        self, workloads: list[ModelWorkload], arranged: Mapping[str, Arrangement]
    ) -> Total:
        """Return the run's time and disk, with the trials of each model as ``arranged``."""
        rate, known = self._rate, self._token_rates
        work = {workload.name: self._list_work(workload) for workload in workloads}
        cells = [
            (workload.name, *self._time_cell(cell, workload, arranged[workload.name]))
            for workload in workloads
            for cell in work[workload.name]
        ]
        packs = [each for each in arranged.values() if each.engine == "packed"]
        slots = int(packs[0].per_device) if packs else 1
        trials = {name: each.trials for name, each in arranged.items()}
        most = packs[0].trials if packs else max(trials.values())
        speed = GPU_LOAD_BYTES_PER_SECOND if self.machine.gpus else LOAD_BYTES_PER_SECOND
        loading = sum(
            (workload.facts.parameters + workload.facts.unused) * workload.load.bytes_per_value
            for workload in workloads
            if work[workload.name]
        )
        seconds = total_seconds(
            cells, trials, loading / speed, partial(_choose_spread, rate=rate, known=known)
        )
        apart = [name for name, each in arranged.items() if packs and each.engine == "solo"]
        repeats = estimate_repeats(self.config.repeat, self._list_repeated(workloads, arranged))
        if repeats:
            seconds = Range(*map(sum, zip(seconds, repeats.seconds, strict=True)))
        return Total(
            seconds,
            _count_disk(workloads, work, self._count_repeats(workloads), most),
            most,
            _name_source(rate, known),
            "packed" if packs else "solo",
            slots,
            tuple(apart),
            repeats,
        )

    def _list_repeated(
        self, workloads: list[ModelWorkload], arranged: Mapping[str, Arrangement]
    ) -> Iterator[CellRepeats]:
        """Yield what is repeated: the best candidate of each cell, to its last epoch."""
        for workload in workloads:
            sharing = arranged[workload.name]
            spread = _choose_spread(workload.name, self._rate, self._token_rates)
            for key in self.texts:
                train, score = self._time_epoch(self._describe_work(key, 1), workload, sharing)
                seconds = self.config.asha.max_epochs * (train + score) + score
                done = self.repeated.get((workload.name, *key), 0)
                yield CellRepeats(seconds, spread, sharing.trials, done)

    def _count_repeats(self, workloads: list[ModelWorkload]) -> dict[str, int]:
        """Return for each model how many repeats are left at most."""
        most, done = self.config.repeat.most_seeds, self.repeated
        return {
            each.name: sum(max(0, most - done.get((each.name, *key), 0)) for key in self.texts)
            for each in workloads
        }

    def _time_cell(
        self, work: CellWork, workload: ModelWorkload, sharing: Arrangement
    ) -> tuple[Range, float]:
        """Return the seconds of a cell's work, and those of one trial that is not stopped."""
        asha = self.config.asha
        epochs = estimate_epochs(
            work.trials, asha.max_epochs, asha.grace_epochs, asha.reduction_factor
        )
        # The longest trial may be the last one, with its device to itself.
        train, score = self._time_epoch(work, workload, ALONE)
        longest = asha.max_epochs * (train + score) + score
        return cell_seconds(work, epochs, *self._time_epoch(work, workload, sharing)), longest


def _count_disk(
    workloads: list[ModelWorkload],
    work: Mapping[str, list[CellWork]],
    repeats: Mapping[str, int],
    slots: int,
) -> int:
    """Return the bytes of what is left of each trial once it has finished, and those of the newest
    checkpoints of running ones, with one more that is being written."""
    facts = {workload.name: workload.facts for workload in workloads}
    left = {
        name: sum(cell.trials for cell in cells) + repeats[name] for name, cells in work.items()
    }
    kept = sum(result_bytes(facts[name]) * count for name, count in left.items())
    running = max(
        (checkpoint_bytes(facts[name]) for name, count in left.items() if count), default=0
    )
    return kept + (KEPT_CHECKPOINTS + 1) * slots * running


def _choose_spread(model: str, rate: Rate, known: Mapping[str, float]) -> tuple[float, float]:
    return HISTORY_SPREAD if model in known else rate.spread


def _name_source(rate: Rate, known: Mapping[str, float]) -> str:
    if known:
        return f"measured: earlier trials of this run ({', '.join(known)}); otherwise {rate.source}"
    return rate.source
