"""Plays the trials of a plan on GPUs that exist on paper: a discrete-event simulation."""

import heapq
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import count
from types import SimpleNamespace
from typing import Any

from ray.tune.schedulers import TrialScheduler

from sweep.tuning.scheduler import METRIC, CellASHA

CLOSE = 1e-9
"""Seconds of work below which a step counts as done."""


@dataclass(frozen=True)
class PaperTrial:
    """What the simulation knows of a trial; all times in seconds, alone on its GPU."""

    trial_id: str
    cell_id: str
    model: str
    epoch_seconds: float
    """Training and validation of one epoch."""
    test_seconds: float
    """Scoring the test texts, once, by a trial that ASHA does not stop."""
    load_seconds: float
    """The start of a trial whose base model is not in memory yet."""
    setup_seconds: float
    """The start of a trial whose base model is."""
    accuracies: tuple[float, ...]
    """Validation accuracy after each epoch; the last one stands for all later epochs."""
    patience: int | None = None
    """Epochs without a better accuracy before the trial ends; None: never."""

    def best_at(self, epoch: int) -> float:
        """Return the best validation accuracy of the first ``epoch`` epochs."""
        return max(self.accuracies[:epoch])

    def last_epoch(self, max_epochs: int) -> int:
        """Return the epoch with which the trial ends if ASHA does not stop it."""
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
    """The settings of ASHA, as in the configuration's section."""

    max_epochs: int
    grace_epochs: int
    reduction_factor: float


@dataclass(frozen=True)
class Gain:
    """How much work a GPU does when so many trials train on it, one trial alone being 1."""

    points: tuple[tuple[int, float], ...] = ((1, 1.0),)
    """(trials, gain), rising in both; linear between them, level beyond the last."""

    def at(self, trials: int) -> float:
        """Return the gain of ``trials`` at a time."""
        below = max((p for p in self.points if p[0] <= trials), default=self.points[0])
        above = min((p for p in self.points if p[0] >= trials), default=self.points[-1])
        if below[0] == above[0] or trials < below[0] or trials > above[0]:
            return below[1]
        part = (trials - below[0]) / (above[0] - below[0])
        return below[1] + part * (above[1] - below[1])


@dataclass(frozen=True)
class Fleet:
    """GPUs that are alike, and how an engine uses them."""

    gpus: int
    slots: int = 1
    """Trials at a time on each GPU."""
    packed: bool = False
    """Whether the trials of a GPU share one process and its base model."""
    gain: Gain = field(default_factory=Gain)
    process_seconds: float = 0.0
    """The start of a process that trains."""


@dataclass(frozen=True)
class Outcome:
    """What became of a plan: wall seconds, the part of what full GPUs would have done in them
    (0 to 1), and the epochs of all trials together."""

    seconds: float
    utilisation: float
    epochs: int


@dataclass
class _Slot:
    """A place for one trial, and the trial that is in it."""

    model: str | None = None
    trial: PaperTrial | None = None
    epoch: int = 0
    left: float | None = None
    """Seconds of work to the end of the epoch; None while the trial does not train."""


@dataclass
class _Gpu:
    slots: list[_Slot]
    hosts: dict[str, float] = field(default_factory=dict)
    """Packed engine: when the base model of each process is in memory."""
    time: float = 0.0
    version: int = 0

    def training(self) -> list[_Slot]:
        return [slot for slot in self.slots if slot.left is not None]


class Playback:
    """One run of a plan on one fleet; a free slot takes the first trial that waits."""

    def __init__(self, trials: Sequence[PaperTrial], fleet: Fleet, asha: Asha) -> None:
        self._waiting = list(reversed(trials))
        self._fleet, self._asha = fleet, asha
        self._gpus = [_Gpu([_Slot() for _ in range(fleet.slots)]) for _ in range(fleet.gpus)]
        self._scheduler = CellASHA(asha.max_epochs, asha.grace_epochs, asha.reduction_factor)
        self._events: list[tuple[float, int, _Gpu, _Slot | int]] = []
        self._numbers = count()
        self._work = 0.0
        self.epochs: dict[str, int] = {}
        """The epochs that each trial trained, by trial id."""

    def run(self) -> Outcome:
        """Play all trials to their ends; return the outcome."""
        # Ray spreads workers over the GPUs before it doubles them up.
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

    def _start_alone(self, gpu: _Gpu, slot: _Slot, trial: PaperTrial, now: float) -> float:
        """Return when the trial can train in a worker that has the base model to itself."""
        process = self._fleet.process_seconds if slot.model is None else 0.0
        loaded = slot.model == trial.model
        slot.model = trial.model
        return now + process + (trial.setup_seconds if loaded else trial.load_seconds)

    def _start_in_host(self, gpu: _Gpu, slot: _Slot, trial: PaperTrial, now: float) -> float:
        """Return when the trial can train in its GPU's process for the base model; a process
        whose trials have all ended makes room for that of another model."""
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
        """Let the trials that train on ``gpu`` work on until ``now``."""
        training = gpu.training()
        if training:
            gain = self._fleet.gain.at(len(training))
            self._work += gain * (now - gpu.time)
            for slot in training:
                assert slot.left is not None
                slot.left -= (now - gpu.time) * gain / len(training)
        gpu.time = now

    def _plan_step(self, gpu: _Gpu) -> None:
        """Await the next end of an epoch on ``gpu``, in place of the one awaited so far."""
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
        # An epoch that the clock cannot tell from a finished one must not be awaited for ever.
        most = min(slot.left for slot in gpu.training() if slot.left is not None) + CLOSE
        for slot in [s for s in gpu.training() if s.left is not None and s.left <= most]:
            slot.left = None
            if self._goes_on(slot):
                self._begin_epoch(gpu, slot, now)
            else:
                slot.trial = None
                self._take_trial(gpu, slot, now)
        self._plan_step(gpu)

    def _goes_on(self, slot: _Slot) -> bool:
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


def _stand_in(trial: PaperTrial) -> Any:
    """Return what the scheduler reads of a Tune trial."""
    config = {"trial": SimpleNamespace(cell=SimpleNamespace(cell_id=trial.cell_id))}
    return SimpleNamespace(trial_id=trial.trial_id, config=config)
