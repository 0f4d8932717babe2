"""Simulates the trials of a plan on GPUs, event by event (a discrete-event simulation)."""

import heapq
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import count
from types import SimpleNamespace
from typing import Any

from ray.tune.schedulers import TrialScheduler

from sweep.tuning.scheduler import METRIC, CellASHA

# A step with less work left than this, in seconds, counts as done.
CLOSE = 1e-9


@dataclass(frozen=True)
class SimulatedTrial:
    """What the simulation knows about a trial; times in seconds, alone on its GPU."""

    trial_id: str
    cell_id: str
    model: str
    # Training and validation of one epoch.
    epoch_seconds: float
    # Scoring the test texts once, unless ASHA stops the trial.
    test_seconds: float
    # The start of a trial whose base model has to be loaded, and of one whose base model is loaded.
    load_seconds: float
    setup_seconds: float
    # Validation accuracy after each epoch; the last one holds for all later epochs.
    accuracies: tuple[float, ...]
    # Epochs without a better accuracy before the trial ends; None: never.
    patience: int | None = None

    def best_at(self, epoch: int) -> float:
        return max(self.accuracies[:epoch])

    def last_epoch(self, max_epochs: int) -> int:
        """Return the epoch after which the trial ends if ASHA does not stop it."""
        best, best_epoch = -1.0, 0
        for epoch in range(1, max_epochs + 1):
            accuracy = self.accuracies[min(epoch, len(self.accuracies)) - 1]
            if accuracy > best:
                best, best_epoch = accuracy, epoch
            if self.patience is not None and epoch - best_epoch >= self.patience:
                return epoch
        return max_epochs


@dataclass(frozen=True)
class Asha:
    max_epochs: int
    grace_epochs: int
    reduction_factor: float


@dataclass(frozen=True)
class Gain:
    """How much work a GPU does by the number of trials that train on it; 1 for a trial alone."""

    # (trials, gain), increasing in both; linear in between, constant beyond the last.
    points: tuple[tuple[int, float], ...] = ((1, 1.0),)

    def at(self, trials: int) -> float:
        below = max((p for p in self.points if p[0] <= trials), default=self.points[0])
        above = min((p for p in self.points if p[0] >= trials), default=self.points[-1])
        if below[0] == above[0] or trials < below[0] or trials > above[0]:
            return below[1]
        part = (trials - below[0]) / (above[0] - below[0])
        return below[1] + part * (above[1] - below[1])


@dataclass(frozen=True)
class Fleet:
    """Identical GPUs, and how an engine uses them."""

    gpus: int
    # Trials at a time on each GPU.
    slots: int = 1
    # Whether the trials of a GPU share one process and its base model.
    packed: bool = False
    gain: Gain = field(default_factory=Gain)
    # The start of a process that trains.
    process_seconds: float = 0.0


@dataclass(frozen=True)
class Outcome:
    """What became of a plan: wall seconds, utilization (the work done as a fraction of what busy
    GPUs could do in that time), and the epochs of all trials together."""

    seconds: float
    utilization: float
    epochs: int


@dataclass
class _Slot:
    """Room for one trial, and the trial that occupies it."""

    model: str | None = None
    trial: SimulatedTrial | None = None
    epoch: int = 0
    # Seconds of work to the end of the epoch; None while the trial does not train.
    left: float | None = None


@dataclass
class _Gpu:
    slots: list[_Slot]
    # Packed engine: when the base model of each process is loaded.
    hosts: dict[str, float] = field(default_factory=dict)
    time: float = 0.0
    version: int = 0

    def training(self) -> list[_Slot]:
        return [slot for slot in self.slots if slot.left is not None]


class Playback:
    """One run of a plan on one fleet; a free slot takes the first waiting trial."""

    def __init__(self, trials: Sequence[SimulatedTrial], fleet: Fleet, asha: Asha) -> None:
        self._waiting = list(reversed(trials))
        self._fleet, self._asha = fleet, asha
        self._gpus = [_Gpu([_Slot() for _ in range(fleet.slots)]) for _ in range(fleet.gpus)]
        self._scheduler = CellASHA(asha.max_epochs, asha.grace_epochs, asha.reduction_factor)
        self._events: list[tuple[float, int, _Gpu, _Slot | int]] = []
        self._numbers = count()
        self._work = 0.0
        # Trial id -> epochs that it trained.
        self.epochs: dict[str, int] = {}

    def run(self) -> Outcome:
        # Ray spreads workers over the GPUs before it puts a second one on any.
        for index in range(self._fleet.slots):
            for gpu in self._gpus:
                self._take_trial(gpu, gpu.slots[index], 0.0)
        now = 0.0
        while self._events:
            time, _, gpu, what = heapq.heappop(self._events)
            if isinstance(what, _Slot):
                now = time
                self._begin_epoch(gpu, what, now)
            elif what == gpu.version:
                now = time
                self._end_epochs(gpu, now)
        full = now * self._fleet.gpus * self._fleet.gain.at(self._fleet.slots)
        return Outcome(now, self._work / full if full else 0.0, sum(self.epochs.values()))

    def _push(self, time: float, gpu: _Gpu, what: _Slot | int) -> None:
        heapq.heappush(self._events, (time, next(self._numbers), gpu, what))

    def _take_trial(self, gpu: _Gpu, slot: _Slot, now: float) -> None:
        if not self._waiting:
            return
        trial = self._waiting.pop()
        slot.trial, slot.epoch = trial, 0
        self._scheduler.on_trial_add(None, _stand_in(trial))
        start = self._start_in_host if self._fleet.packed else self._start_alone
        self._push(start(gpu, slot, trial, now), gpu, slot)

    def _start_alone(self, gpu: _Gpu, slot: _Slot, trial: SimulatedTrial, now: float) -> float:
        """Return when the trial can train in a worker that has the base model to itself."""
        process = self._fleet.process_seconds if slot.model is None else 0.0
        loaded = slot.model == trial.model
        slot.model = trial.model
        return now + process + (trial.setup_seconds if loaded else trial.load_seconds)

    def _start_in_host(self, gpu: _Gpu, slot: _Slot, trial: SimulatedTrial, now: float) -> float:
        """Return when the trial can train in its GPU's process for the base model; a process whose
        trials have all ended makes room for another model."""
        alive = {other.trial.model for other in gpu.slots if other.trial}
        gpu.hosts = {
            model: time
            for model, time in gpu.hosts.items()
            if model in alive or model == trial.model
        }
        if trial.model not in gpu.hosts:
            base = trial.load_seconds - trial.setup_seconds
            gpu.hosts[trial.model] = now + self._fleet.process_seconds + base
        return max(now, gpu.hosts[trial.model]) + trial.setup_seconds

    def _advance(self, gpu: _Gpu, now: float) -> None:
        """Account for the work of the trials on ``gpu`` up to ``now``."""
        training = gpu.training()
        if training:
            gain = self._fleet.gain.at(len(training))
            self._work += gain * (now - gpu.time)
            for slot in training:
                assert slot.left is not None
                slot.left -= (now - gpu.time) * gain / len(training)
        gpu.time = now

    def _plan_step(self, gpu: _Gpu) -> None:
        """Schedule the next end of an epoch on ``gpu``, in place of the one scheduled so far."""
        gpu.version += 1
        left = [slot.left for slot in gpu.training() if slot.left is not None]
        if left:
            pace = self._fleet.gain.at(len(left)) / len(left)
            self._push(gpu.time + max(0.0, min(left)) / pace, gpu, gpu.version)

    def _begin_epoch(self, gpu: _Gpu, slot: _Slot, now: float) -> None:
        self._advance(gpu, now)
        trial = slot.trial
        assert trial is not None
        slot.epoch += 1
        last = slot.epoch == trial.last_epoch(self._asha.max_epochs)
        slot.left = trial.epoch_seconds + (trial.test_seconds if last else 0.0)
        self._plan_step(gpu)

    def _end_epochs(self, gpu: _Gpu, now: float) -> None:
        self._advance(gpu, now)
        # Do not wait forever for an epoch whose rest is below the clock's resolution.
        most = min(slot.left for slot in gpu.training() if slot.left is not None) + CLOSE
        for slot in [s for s in gpu.training() if s.left is not None and s.left <= most]:
            slot.left = None
            if self._continues(slot):
                self._begin_epoch(gpu, slot, now)
            else:
                slot.trial = None
                self._take_trial(gpu, slot, now)
        self._plan_step(gpu)

    def _continues(self, slot: _Slot) -> bool:
        """Report the epoch to ASHA; return whether the trial trains another one."""
        trial = slot.trial
        assert trial is not None
        self.epochs[trial.trial_id] = slot.epoch
        result = {"epoch": slot.epoch, METRIC: trial.best_at(slot.epoch)}
        stand_in = _stand_in(trial)
        if slot.epoch < trial.last_epoch(self._asha.max_epochs):
            action = self._scheduler.on_trial_result(None, stand_in, result)
            if action == TrialScheduler.CONTINUE:
                return True
        self._scheduler.on_trial_complete(None, stand_in, result)
        return False


def _stand_in(trial: SimulatedTrial) -> Any:
    """Return an object with the attributes of a Tune trial that the scheduler reads."""
    config = {"trial": SimpleNamespace(cell=SimpleNamespace(cell_id=trial.cell_id))}
    return SimpleNamespace(trial_id=trial.trial_id, config=config)
