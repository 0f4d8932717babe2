"""How long the parts of a trial take, as measured in a run's journal."""

from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median

from sweep.config import load_config
from sweep.errors import RunFolderError
from sweep.plan import TrialSpec
from sweep.storage.journal import read_events
from sweep.storage.record import RunRecord, TrialRecord, replay
from sweep.storage.run_folder import CONFIG_NAME

# Model name, n_labels, n_samples.
CellKey = tuple[str, int, int]


@dataclass(frozen=True)
class Durations:
    """Seconds of a trial's parts; a model without its own value has the median of all models."""

    # Model -> seconds of one epoch, validation included, per training text.
    per_sample: dict[str, float]
    # Model -> seconds to start a trial that has to load the base model, and one that does not.
    load: dict[str, float]
    setup: dict[str, float]
    # Time to score the test texts, as a fraction of an epoch.
    test_share: float
    # Seconds of one epoch in the cells that were measured.
    cells: dict[CellKey, float] = field(default_factory=dict)

    def epoch_seconds(self, spec: TrialSpec) -> float:
        """Return the seconds of one epoch: measured in its cell, else scaled by samples."""
        cell = spec.cell
        known = self.cells.get((cell.model, cell.n_labels, cell.n_samples))
        return known or choose(self.per_sample, cell.model) * cell.n_samples


@dataclass(frozen=True)
class MeasuredRun:
    """A finished run: its record, and the Unix times at which it was opened and closed."""

    record: RunRecord
    opened: float
    closed: float
    # Whether trials shared a base model: the times of each are then its share of common steps.
    packed: bool

    @property
    def on_cpus(self) -> bool:
        return _is_on_cpus(self.record)

    @property
    def trials(self) -> list[TrialSpec]:
        return [record.spec for record in self.record.trials.values()]

    @property
    def start_seconds(self) -> float:
        """Seconds from opening the run to its first trial, while Ray and the workers start."""
        return min(_started(record) for record in _ended(self.record)) - self.opened

    @property
    def process_seconds(self) -> float:
        """Seconds from a base model's first trial to the call of its engine, while the process of
        the packed engine starts; the solo engine trains where the trial started."""
        waits = []
        for trials in _by_model(_ended(self.record)).values():
            first = min(trials, key=_started)
            if first.ended and first.ended.get("wall_seconds") is not None:
                lived = first.ended["time"] - _started(first)
                waits.append(max(0.0, lived - first.ended["wall_seconds"]))
        return median(waits) if waits else 0.0


def read_run(folder: Path) -> MeasuredRun:
    """Return the run in ``folder``; raise RunFolderError unless a single session completed it."""
    events = list(read_events(folder))
    opened, closed = (
        [event for event in events if event["event"] == kind] for kind in ("opened", "closed")
    )
    record = replay(events)
    complete = len(opened) == len(closed) == 1 and not closed[0]["trials_left"]
    if not complete or not _ended(record):
        raise RunFolderError(f"{folder}: name a run that a single session completed")
    engine = load_config(folder / CONFIG_NAME).resources.engine
    return MeasuredRun(record, opened[0]["time"], closed[0]["time"], _is_packed(engine, record))


def measure_durations(record: RunRecord) -> Durations:
    """Return the medians of the journal's times of training, scoring and loading; the time between
    these parts, and of the complete run, is not used."""
    epochs: dict[CellKey, list[float]] = {}
    rates: dict[str, list[float]] = {}
    for trial in _ended(record):
        cell = trial.spec.cell
        seconds = _epoch_seconds(trial)
        key = cell.model, cell.n_labels, cell.n_samples
        epochs.setdefault(key, []).extend(seconds)
        rates.setdefault(cell.model, []).extend(s / cell.n_samples for s in seconds)
    load, setup = _measure_starts(record)
    return Durations(
        per_sample={model: median(values) for model, values in rates.items() if values},
        load=load,
        setup=setup,
        test_share=_measure_test_share(record),
        cells={key: median(values) for key, values in epochs.items() if values},
    )


def count_hosts(record: RunRecord) -> int:
    return len({trial.ended.get("host") for trial in _ended(record) if trial.ended})


def count_workers(record: RunRecord) -> int:
    """Return the largest number of trials that ran at the same time."""
    changes = [(_started(trial), 1) for trial in _ended(record)]
    changes += [(trial.ended["time"], -1) for trial in _ended(record) if trial.ended]
    busy = most = 0
    # At equal times a trial ends before the next one starts.
    for _, change in sorted(changes):
        busy += change
        most = max(most, busy)
    return most


def choose(values: dict[str, float], model: str) -> float:
    """Return the model's own value, or the median of all models."""
    return values[model] if model in values else median(values.values())


def _ended(record: RunRecord) -> list[TrialRecord]:
    return [trial for trial in record.trials.values() if trial.started and trial.ended]


def _is_packed(engine: str, record: RunRecord) -> bool:
    return engine == "packed" or (engine == "auto" and not _is_on_cpus(record))


def _is_on_cpus(record: RunRecord) -> bool:
    devices = [str(trial.ended.get("device")) for trial in _ended(record) if trial.ended]
    return all(device.startswith("CPU") for device in devices)


def _started(trial: TrialRecord) -> float:
    return float(trial.started["time"]) if trial.started else 0.0


def _epoch_seconds(trial: TrialRecord) -> list[float]:
    parts = [(e["train_seconds"], e["eval_seconds"]) for e in trial.epochs.values()]
    return [train + score for train, score in parts if train is not None and score is not None]


def _measure_test_share(record: RunRecord) -> float:
    """Return the median of test seconds / epoch seconds; 0 if no trial was tested."""
    shares = []
    for trial in _ended(record):
        seconds = _epoch_seconds(trial)
        if trial.ended and seconds and trial.ended.get("test_accuracy") is not None:
            scored = sum(epoch["eval_seconds"] or 0.0 for epoch in trial.epochs.values())
            shares.append(max(0.0, trial.ended["eval_seconds"] - scored) / median(seconds))
    return median(shares) if shares else 0.0


def _measure_starts(record: RunRecord) -> tuple[dict[str, float], dict[str, float]]:
    """Return model -> median seconds of starts that load the base model, and of those that do not.

    The journal does not say which is which: each worker loads a model once, so the first trials of
    a model, as many as there are workers, count as having loaded it.
    """
    workers = count_workers(record)
    load, setup = {}, {}
    for model, trials in _by_model(_ended(record)).items():
        known = [t for t in trials if t.ended and t.ended.get("load_seconds") is not None]
        seconds = [t.ended["load_seconds"] for t in sorted(known, key=_started) if t.ended]
        if seconds:
            load[model] = median(seconds[:workers])
            setup[model] = median(seconds[workers:] or [0.0])
    return load, setup


def _by_model(trials: Iterable[TrialRecord]) -> dict[str, list[TrialRecord]]:
    models: dict[str, list[TrialRecord]] = {}
    for trial in trials:
        models.setdefault(trial.spec.cell.model, []).append(trial)
    return models
