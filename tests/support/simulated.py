"""Simulated runs: a plan, workers and speeds in, the events of a journal out."""

import random
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from statistics import quantiles

from sweep.plan import Candidate, Cell, ModelRef, Recipe, TrialSpec
from sweep.preflight.runtime import estimate_rungs
from sweep.storage.events import Event
from sweep.storage.forecast import PaceForecast

LABELS = ("joy", "anger", "love", "fear", "pride", "grief", "relief", "envy")
# The fraction of an epoch that is training; the rest scores validation.
TRAIN_SHARE = 0.8


@dataclass
class Setting:
    """What a simulated run is like; times in seconds."""

    # Model -> true seconds of an epoch per 1,000 texts, alone on its worker.
    costs: dict[str, float]
    n_samples: Sequence[int] = (800, 2400)
    n_labels: Sequence[int] = (2, 8)
    candidates: int = 2
    max_epochs: int = 4
    grace: int = 1
    reduction: float = 2.0
    # When each worker joins.
    joins: Sequence[float] = (10.0, 10.0)
    # Trials that share a worker; n of them do n ** gain times the work of one.
    slots: int = 1
    gain: float = 0.4
    noise: float = 0.15
    load_seconds: float = 4.0
    trial_seconds: float = 0.2
    # Model -> factor by which the preflight is wrong (default 1); None: no preflight.
    forecast: dict[str, float] | None = field(default_factory=dict)
    # When a worker is lost; its trials resume from their last epoch 8 seconds later.
    loses: Sequence[float] = ()
    seed: int = 0


@dataclass
class _Slot:
    joins: float
    worker: int
    spec: TrialSpec | None = None
    model: str = ""
    epoch: int = 0
    idle_until: float = 0.0
    left: float = 0.0
    whole: float = 0.0
    worked: float = 0.0
    tests: bool = False


def plan_trials(setting: Setting) -> list[TrialSpec]:
    """Return the trials of the setting's grid, grouped by model."""
    recipe = Recipe(32, 64, 32, "float32", 0.1, 1.0, None, setting.max_epochs)
    trials = []
    for model in setting.costs:
        ref = ModelRef(model, f"/models/{model}", "v1")
        for k in setting.n_labels:
            for n in setting.n_samples:
                cell = Cell(f"{model}-{k}-{n}", model, k, LABELS[:k], n, 0)
                trials += [
                    TrialSpec(f"{cell.cell_id}-{i}", cell, _draw_candidate(i), ref, recipe, "data")
                    for i in range(setting.candidates)
                ]
    return trials


def _draw_candidate(index: int) -> Candidate:
    return Candidate(index, 8, 16.0, 1e-3 * (index + 1), 0.0, 0.0)


class Simulation:
    """One run; ``events`` yields the events of its journal."""

    def __init__(self, setting: Setting) -> None:
        self._setting = setting
        self._draw = random.Random(setting.seed)
        self.trials = plan_trials(setting)
        self._skill = {spec.trial_id: self._draw.random() for spec in self.trials}
        self._rungs: dict[tuple[str, int], list[float]] = defaultdict(list)
        self._reached: dict[str, int] = defaultdict(int)
        self._waiting = list(self.trials)

    def events(self, start: float = 1000.0, most_epochs: int | None = None) -> Iterator[Event]:
        """Yield the events of one session from Unix time ``start``; ``most_epochs`` ends it early,
        and the next call continues with the rest."""
        setting = self._setting
        yield {"event": "opened", "time": start, "predicted": None, "pace": self._forecast()}
        yield from ({"event": "planned", "time": start, "trial": spec} for spec in self.trials)
        slots = [
            _Slot(start + joins, worker)
            for worker, joins in enumerate(setting.joins)
            for _ in range(setting.slots)
        ]
        losses = [start + seconds for seconds in setting.loses]
        now, epochs = start, 0
        while self._waiting or any(slot.spec for slot in slots):
            yield from self._fill(slots, now)
            now, ended = self._advance(slots, now, losses)
            if losses and now >= losses[0]:
                losses.pop(0)
                yield from self._lose(slots, now)
            for slot in ended:
                yield from self._end_epoch(slot, now)
                epochs += 1
            if most_epochs is not None and epochs >= most_epochs:
                self._waiting = [s.spec for s in slots if s.spec] + self._waiting
                break
        yield {"event": "closed", "time": now, "trials_left": len(self._waiting)}

    def _forecast(self) -> PaceForecast | None:
        setting = self._setting
        if setting.forecast is None:
            return None
        epochs = {}
        for spec in self.trials:
            cell = spec.cell
            seconds = setting.costs[cell.model] * cell.n_samples / 1000
            seconds *= setting.forecast.get(cell.model, 1.0)
            epochs[cell.cell_id] = (TRAIN_SHARE * seconds, (1 - TRAIN_SHARE) * seconds)
        asha = setting.max_epochs, setting.grace, setting.reduction
        rungs = tuple(estimate_rungs(setting.candidates, *asha))
        return PaceForecast(epochs, rungs, len(setting.joins))

    def _fill(self, slots: list[_Slot], now: float) -> Iterator[Event]:
        for slot in slots:
            if slot.spec is None and slot.joins <= now and self._waiting:
                slot.spec = self._waiting.pop(0)
                model = slot.spec.cell.model
                starts = self._setting.trial_seconds
                starts += self._setting.load_seconds if slot.model != model else 0.0
                slot.model, slot.idle_until = model, now + starts
                slot.epoch = self._reached[slot.spec.trial_id]
                self._begin_epoch(slot)
                yield {"event": "started", "time": now, "trial_id": slot.spec.trial_id}

    def _begin_epoch(self, slot: _Slot) -> None:
        assert slot.spec is not None
        cell = slot.spec.cell
        seconds = self._setting.costs[cell.model] * cell.n_samples / 1000
        seconds *= self._draw.lognormvariate(0.0, self._setting.noise)
        # A trial that reaches the last epoch scores the test texts after it.
        slot.tests = slot.epoch + 1 == self._setting.max_epochs
        slot.whole = slot.left = seconds * (2.0 - TRAIN_SHARE if slot.tests else 1.0)
        slot.worked = 0.0

    def _advance(
        self, slots: list[_Slot], now: float, losses: list[float]
    ) -> tuple[float, list[_Slot]]:
        """Advance to the next event; return its time and the slots whose epochs end."""
        busy = [slot for slot in slots if slot.spec and slot.idle_until <= now]
        speeds = {id(slot): self._speed(slot, busy) for slot in busy}
        times = [now + slot.left / speeds[id(slot)] for slot in busy]
        times += [slot.idle_until for slot in slots if slot.spec and slot.idle_until > now]
        times += [slot.joins for slot in slots if slot.joins > now and self._waiting]
        until = min(times + [each for each in losses if each > now])
        ended = []
        for slot in busy:
            passed = until - now
            slot.left -= passed * speeds[id(slot)]
            slot.worked += passed / sum(other.worker == slot.worker for other in busy)
            if slot.left <= 1e-9 * slot.whole:
                ended.append(slot)
        return until, ended

    def _speed(self, slot: _Slot, busy: list[_Slot]) -> float:
        sharing = sum(other.worker == slot.worker for other in busy)
        return float(sharing ** (self._setting.gain - 1.0))

    def _end_epoch(self, slot: _Slot, now: float) -> Iterator[Event]:
        spec = slot.spec
        assert spec is not None
        slot.epoch += 1
        self._reached[spec.trial_id] = slot.epoch
        worked = slot.worked / (2.0 - TRAIN_SHARE if slot.tests else 1.0)
        value = self._skill[spec.trial_id] * (1 - 0.5**slot.epoch)
        last = slot.epoch == self._setting.max_epochs
        rung = None if last else self._find_rung(slot.epoch)
        decision = "done" if last else self._decide(spec, value, rung)
        yield {
            "event": "epoch",
            "time": now,
            "trial_id": spec.trial_id,
            "epoch": slot.epoch,
            "decision": decision,
            "rung": rung,
            "train_seconds": TRAIN_SHARE * worked,
            "eval_seconds": (1 - TRAIN_SHARE) * worked,
            "val_accuracy": value,
            "best_val_accuracy": value,
        }
        if decision == "continue":
            self._begin_epoch(slot)
            return
        status = "finished" if decision == "done" else "stopped"
        ended = {"trial_id": spec.trial_id, "status": status, "val_accuracy": value}
        yield {"event": "ended", "time": now, **ended}
        slot.spec = None

    def _find_rung(self, epoch: int) -> float | None:
        rung = float(self._setting.grace)
        while rung < epoch:
            rung *= self._setting.reduction
        return rung if rung == epoch else None

    def _decide(self, spec: TrialSpec, value: float, rung: float | None) -> str:
        """Compare as ASHA does: with the trials of the cell that reached the rung before."""
        if rung is None:
            return "continue"
        before = self._rungs[spec.cell.cell_id, self._reached[spec.trial_id]]
        cutoff = before[0] if len(before) == 1 else self._find_cutoff(before)
        before.append(value)
        return "stop" if len(before) > 1 and value < cutoff else "continue"

    def _find_cutoff(self, values: list[float]) -> float:
        if not values:
            return 0.0
        return quantiles(values, n=100, method="inclusive")[
            min(98, int(100 * (1 - 1 / self._setting.reduction)) - 1)
        ]

    def _lose(self, slots: list[_Slot], now: float) -> Iterator[Event]:
        victim = next((slot.worker for slot in slots if slot.spec), None)
        for slot in slots:
            if slot.worker == victim and slot.spec:
                error = "the worker was lost"
                yield {
                    "event": "retried",
                    "time": now,
                    "trial_id": slot.spec.trial_id,
                    "error": error,
                }
                self._waiting.insert(0, slot.spec)
                slot.spec, slot.joins, slot.model = None, now + 8.0, ""


def simulate(setting: Setting) -> list[Event]:
    """Return the journal of a run of ``setting`` from its start to its end."""
    return list(Simulation(setting).events())
