"""What can be known before training starts: findings, and what the run will need."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from sweep.cluster.allocation import Arrangement, use_gpus
from sweep.cluster.hardware import Machine
from sweep.config import Config, count_candidates
from sweep.errors import Finding, format_bytes, format_duration, format_names
from sweep.models.facts import TrialLoad
from sweep.models.file_check import ResolvedModel, check_model
from sweep.models.load_check import Tried, check_loading
from sweep.models.shape import read_positions
from sweep.plan import CellKey, Plan
from sweep.preflight.checks import (
    check_disk,
    check_length,
    check_memory,
    check_pack,
    check_resources,
    check_workers,
)
from sweep.preflight.effects import check_engine
from sweep.preflight.features import check_feature_files
from sweep.preflight.forecast import Forecaster, ModelEstimate, ModelWorkload, Total, measure_texts
from sweep.preflight.inputs import ResolvedInputs
from sweep.preflight.runtime import estimate_rungs
from sweep.preflight.setup import Target
from sweep.storage.account import DataAccount, format_account
from sweep.storage.forecast import Forecast, PaceForecast, PackBytes

LEVELS = ("error", "warning", "note")


@dataclass
class Preflight:
    """Findings, worst first, what became of the data, and estimates for the models of known
    shape."""

    findings: list[Finding] = field(default_factory=list)
    models: list[ModelEstimate] = field(default_factory=list)
    total: Total | None = None
    data: DataAccount | None = None
    epochs: dict[str, tuple[float, float]] = field(default_factory=dict)
    """Cell id -> seconds of an epoch's training, and of scoring validation once."""
    rungs: list[tuple[int, float]] = field(default_factory=list)
    """Epoch -> fraction of the trials there that ASHA is expected to let continue."""
    trials_at_a_time: int | None = None
    """None while the machines that train are unknown."""
    packable: frozenset[str] = frozenset()
    """The models whose trials can share a base model."""
    arranged: dict[str, Arrangement] = field(default_factory=dict)
    """How the trials of each model share the machine."""

    def errors(self) -> list[Finding]:
        """Return the findings that prevent the run from starting."""
        return [finding for finding in self.findings if finding.level == "error"]

    def memory_bytes(self) -> int | None:
        """Return the memory of the largest trial, or None if some model's is unknown."""
        if self.total is None:
            return None
        return max(each.memory_bytes_per_trial for each in self.models)

    def forecast(self) -> Forecast:
        """Return the run's needs, as kept in the journal."""
        low, likely, high = self.total.seconds if self.total else (0.0, 0.0, 0.0)
        seconds = (round(low, 1), round(likely, 1), round(high, 1)) if self.total else None
        memory = {each.model: each.memory_bytes_per_trial for each in self.models}
        slots = {each.model: each.slot_bytes for each in self.models}
        packs = {name: self._pack_of(name) for name in memory if name in self.packable}
        return Forecast(seconds, memory, slots, packs)

    def _pack_of(self, name: str) -> PackBytes:
        return next(each.pack for each in self.models if each.model == name)

    def pace(self) -> PaceForecast:
        """Return what the time left is estimated from, as kept in the journal."""
        epochs = {
            cell_id: (round(training, 4), round(scoring, 4))
            for cell_id, (training, scoring) in self.epochs.items()
        }
        rungs = tuple((epoch, round(share, 4)) for epoch, share in self.rungs)
        return PaceForecast(epochs, rungs, self.trials_at_a_time)

    def to_dict(self) -> dict[str, Any]:
        """Return plain values, ready for JSON."""
        total = asdict(self.total) if self.total else None
        if self.total and total:
            total["seconds"] = self.total.seconds._asdict()
        estimates = {"models": [asdict(each) for each in self.models], "total": total}
        return {
            "findings": [asdict(each) for each in self.findings],
            "data": self.data.to_dict() if self.data else None,
            "estimates": estimates,
        }


def check_plan(
    config: Config,
    inputs: ResolvedInputs,
    plan: Plan | None,
    done: frozenset[str],
    folder: Path,
    target: Target,
    repeated: Mapping[CellKey, int] | None = None,
) -> Preflight:
    """Return what is known about the sweep before it runs in ``folder``; ``plan`` is None if data
    or models are missing. ``repeated`` counts each cell's repeats with a result."""
    here = use_gpus(config.resources, target.known or Machine(cpus=1, memory_bytes=0))
    texts = measure_texts(config, inputs.subsets)
    forecaster = Forecaster(config, texts, here, folder, count_left(plan, done), repeated or {})
    preflight = Preflight(list(inputs.findings), data=inputs.account)
    preflight.findings += inputs.account.remarks if inputs.account else ()
    loads = {
        index: forecaster.build_load(index)
        for index, model in enumerate(config.grid.models)
        if model.name in inputs.models
    }
    tried = _check_models(config, inputs, loads)
    preflight.findings += tried.findings
    refused = {finding.key for finding in preflight.errors()}
    workloads = []
    for index, model in enumerate(config.grid.models):
        if found := inputs.models.get(model.name):
            workload = forecaster.build_workload(index, found, tried.facts.get(index))
            if f"grid.models.{index}" not in refused:
                preflight.findings += _check_shape(config, index, workload, found)
            workloads += [workload] if workload else []
    preflight.models = [forecaster.estimate_model(workload) for workload in workloads]
    preflight.packable = frozenset(each.name for each in workloads if each.facts.packable)
    preflight.arranged = forecaster.arrange(workloads, preflight.models)
    if len(workloads) == len(config.grid.models):
        preflight.total = forecaster.estimate_total(workloads, preflight.arranged)
        preflight.trials_at_a_time = preflight.total.trials_at_a_time if target.known else None
        seconds = forecaster.estimate_epochs(workloads, preflight.arranged)
        for cell in plan.cells if plan else ():
            preflight.epochs[cell.cell_id] = seconds[cell.axes]
    asha = config.asha
    most = max(count_candidates(config.tune, model.overrides) for model in config.grid.models)
    preflight.rungs = estimate_rungs(
        most, asha.max_epochs, asha.grace_epochs, asha.reduction_factor
    )
    preflight.findings += _check_machine(config, preflight, folder, target)
    has_gpus = bool(target.machine.gpus) if target.machine else None
    alone = len(preflight.packable) < len(config.grid.models)
    preflight.findings += check_engine(config.resources, has_gpus, alone)
    preflight.findings.sort(key=lambda finding: LEVELS.index(finding.level))
    return preflight


def _check_models(config: Config, inputs: ResolvedInputs, loads: Mapping[int, TrialLoad]) -> Tried:
    """Return the findings about the models' files and, for those without errors, about loading
    them, and what trials with these ``loads`` take."""
    findings, sound, frozen = [], [], []
    for index, model in enumerate(config.grid.models):
        if found := inputs.models.get(model.name):
            problems = check_model(index, model, found)
            findings += problems
            if all(finding.level != "error" for finding in problems):
                sound.append((index, model, found))
    for index, entry in config.list_features():
        if features := inputs.features.get(entry.model.name):
            problems = check_feature_files(config, index, features.model)
            findings += problems
            if all(finding.level != "error" for finding in problems):
                frozen.append((index, entry.model, features.model))
    tried = check_loading(sound, frozen, loads)
    return Tried(findings + tried.findings, tried.facts)


def count_left(plan: Plan | None, done: frozenset[str]) -> dict[CellKey, int]:
    """Return how many trials of each planned cell have no result yet."""
    left: Counter[CellKey] = Counter()
    for trial in plan.trials if plan else ():
        left[trial.cell.axes] += trial.trial_id not in done
    return dict(left)


def _check_shape(
    config: Config, index: int, workload: ModelWorkload | None, found: ResolvedModel
) -> list[Finding]:
    key, name = f"grid.models.{index}", config.grid.models[index].name
    positions = workload.facts.positions if workload else read_positions(found.tree)
    length = check_length(key, name, config.train.max_length, positions)
    if workload and not workload.guessed:
        return length
    text = f"{key}: {name}'s config.json has no known size keys, so memory and time are unknown"
    if workload:
        text = f"{key}: {name} could not be measured: memory and time are those of a Llama's sizes"
    return [*length, Finding("note", key, text)]


def _check_machine(
    config: Config,
    preflight: Preflight,
    folder: Path,
    target: Target,
) -> list[Finding]:
    machine = target.machine
    here = preflight.total is not None and config.storage.checkpoints is None
    disk = check_disk(preflight.total.disk_bytes, folder) if preflight.total and here else []
    if machine is None:
        return [*disk, Finding("note", "--address", _describe_cluster(target.expected))]
    findings = check_resources(config.resources, machine)
    for each in preflight.models if not findings else ():
        findings += _check_contender(each, preflight.arranged[each.model], config, machine)
    return [*findings, *disk]


def _check_contender(
    estimate: ModelEstimate, sharing: Arrangement, config: Config, machine: Machine
) -> list[Finding]:
    """Return what is wrong with the memory of one model's trials."""
    name, resources, least = estimate.model, config.resources, estimate.checkpointed_bytes
    if sharing.engine == "packed":
        found = check_pack(name, estimate.pack, sharing, machine, least)
    else:
        found = check_memory(name, estimate.memory_bytes_per_trial, resources, machine, least)
    if estimate.worker_bytes is None or found:
        return found
    return check_workers(name, estimate.worker_bytes, sharing, machine)


def _describe_cluster(expected: Machine | None) -> str:
    later = "GPUs, memory and storage are checked once it is connected"
    if expected is None:
        return f"the cluster's {later}"
    kinds = sorted({gpu.name for gpu in expected.gpus})
    gpus = f"{len(expected.gpus)} GPUs ({', '.join(kinds)})" if kinds else "no GPU"
    return f"the cluster may grow to {expected.cpus} CPUs and {gpus}; its {later}"


def format_preflight(preflight: Preflight) -> str:
    """Return the preflight as text: the data, findings, a line per model, and the run's needs."""
    lines = [*format_data(preflight), "preflight:"]
    lines += [f"  {each.level}: {each.sentence}" for each in preflight.findings]
    width = max((len(each.model) for each in preflight.models), default=0)
    lines += [
        f"  {each.model:<{width}}  {format_count(each.parameters):>6} parameters, "
        f"{_describe_trained(each)} trained, "
        f"{format_bytes(each.memory_bytes_per_trial)} of memory per trial, "
        f"{format_bytes(each.checkpoint_bytes)} per checkpoint"
        for each in preflight.models
    ]
    return "\n".join([*lines, *format_total(preflight)])


def _describe_trained(estimate: ModelEstimate) -> str:
    everything = estimate.trained >= estimate.parameters
    return "all" if everything else format_count(estimate.trained)


def format_data(preflight: Preflight) -> list[str]:
    """Return what became of the data as lines; none if it could not be read."""
    return format_account(preflight.data) if preflight.data else []


def format_total(preflight: Preflight) -> list[str]:
    """Return lines on the run's time and disk, and last on the speed; none if unknown."""
    total = preflight.total
    if total is None:
        return []
    low, likely, high = (format_duration(value, rough=True) for value in total.seconds)
    return [
        f"  time: about {likely} (from {low} to {high}), {total.trials_at_a_time} trial(s) at a "
        f"time{_describe_packs(total)}; checkpoints: up to {format_bytes(total.disk_bytes)}",
        *_describe_repeats(total),
        f"  speed {total.rate}",
    ]


def _describe_repeats(total: Total) -> list[str]:
    if total.repeats is None:
        return []
    repeats = total.repeats
    low, _, high = (format_duration(value, rough=True) for value in repeats.seconds)
    seeds = f"{repeats.fewest} to " if repeats.fewest < repeats.most else ""
    return [
        f"  repeats, part of that: at most {repeats.trials} trials, {seeds}{repeats.most} further "
        f"seeds for each cell's best candidate; from {low} to {high}"
    ]


def _describe_packs(total: Total) -> str:
    if total.engine != "packed":
        return ""
    alone = f", but {format_names(total.alone)} alone" if total.alone else ""
    return f" in packs of up to {total.slots}{alone}"


def format_warnings(preflight: Preflight, limit: int = 4) -> Sequence[str]:
    """Return what a run prints before it starts: up to ``limit`` of its warnings, and its needs."""
    warnings = [each.sentence for each in preflight.findings if each.level == "warning"]
    lines = [f"warning: {sentence}" for sentence in warnings[:limit]]
    if len(warnings) > limit:
        lines.append(f"and {len(warnings) - limit} more warnings; --dry-run lists them")
    memory = preflight.memory_bytes()
    if memory:
        lines += [line.strip() for line in format_total(preflight)[:-1]]
        lines.append(f"memory: up to {format_bytes(memory)} per trial")
    return lines


def format_count(count: int) -> str:
    """Return a number of parameters in short form, e.g. ``1.54B``."""
    for unit, size in (("B", 1e9), ("M", 1e6), ("k", 1e3)):
        if count >= size:
            return f"{count / size:.3g}{unit}"
    return str(count)
