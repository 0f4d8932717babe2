"""The time left: running and waiting trials, scheduled on the available workers.

It counts epochs, not trials. ``Survival`` says how many each trial still has to run, ``Pace`` how
long they take; then each trial goes to the worker that is free first, as in the run. If few trials
are left, this is simulated many times with random draws, because then the longest trial decides.
"""

import heapq
import math
import random
from collections import deque
from collections.abc import Iterable, Mapping
from statistics import mean

from sweep.display.counts import ProgressCounts
from sweep.display.pace import GAIN
from sweep.display.survival import Arrivals
from sweep.plan import TrialSpec
from sweep.storage.forecast import RUN_START_SECONDS, Forecast, PaceForecast
from sweep.storage.record import RunRecord

MAX_SLOWDOWN = 2.0
# For how long workers count that pause between two trials or are about to start.
SETTLE_SECONDS = 20.0
# Time left of an epoch that takes longer than expected, as a fraction of the time taken so far.
OVERDUE = 0.15
# Allowance for a model's first epoch, before which its worker loads the base model.
LOAD_SECONDS = 5.0
FEW_TRIALS = 60
SIMULATIONS = 30


class TimeLeft:
    """Estimates how long a run still takes."""

    def __init__(self, counts: ProgressCounts, record: RunRecord) -> None:
        self._counts = counts
        self._left_before = counts.trials_left
        forecast, pace = (record.list_forecasts() or [(Forecast(), PaceForecast())])[-1]
        # Concurrent trials that the preflight expects; None if unknown.
        self._expected = pace.trials_at_a_time
        # Seconds that it expects of the entire run; None if unknown.
        self._total_seconds = forecast.seconds[1] if forecast.seconds else None
        self._seen: deque[tuple[float, int]] = deque()
        self._first_start: float | None = None
        self._started_after = 0.0

    def observe(self, now: float, running: int, elapsed: float) -> None:
        """Add how many trials are running ``now``, by any clock in seconds, and how many seconds
        have ``elapsed`` since the driver's start."""
        self._counts.pace.running = running
        if running and self._first_start is None:
            self._first_start, self._started_after = now, elapsed
        self._seen.append((now, running))
        while self._seen[0][0] < now - SETTLE_SECONDS:
            self._seen.popleft()

    def estimate(self, now: float, running: Mapping[str, float], elapsed: float) -> float | None:
        """Return the seconds left, ``elapsed`` after the driver's start; None if nothing is known
        yet.

        ``running`` maps each trial that a worker has to the time it was last heard of, by the same
        clock as ``now``.
        """
        if not self._counts.pace.is_known:
            return self._guess(elapsed)
        slots = self._count_slots(now)
        if not slots:
            return None
        waited = {
            i: max(0.0, now - heard) for i, heard in running.items() if i in self._counts.specs
        }
        layout = Layout(self._counts, waited, slots, self._expected)
        starting = max(1.0, RUN_START_SECONDS - elapsed) if self._first_start is None else 0.0
        return starting + self._judge_start(elapsed) * layout.seconds()

    def _judge_start(self, elapsed: float) -> float:
        """Return how many times slower the machine is than the preflight assumed: before an epoch
        is measured, only the time that the run's start took indicates it."""
        if self._counts.pace.is_measured():
            return 1.0
        taken = elapsed if self._first_start is None else self._started_after
        return min(MAX_SLOWDOWN, math.sqrt(max(1.0, taken / RUN_START_SECONDS)))

    def _guess(self, elapsed: float) -> float | None:
        """Return the seconds left without any knowledge about epochs."""
        if self._total_seconds is not None:
            return subtract(self._total_seconds, elapsed)
        left = self._counts.trials_left
        ended = self._left_before - left
        return elapsed * left / ended if ended else None

    def _count_slots(self, now: float) -> int:
        """Return how many trials run at a time."""
        slots = max((count for _, count in self._seen), default=0)
        settled = self._first_start is not None and now - self._first_start > SETTLE_SECONDS
        if not settled and self._expected:
            slots = max(slots, self._expected)
        return min(slots, self._counts.trials_left)


def subtract(expected: float, passed: float) -> float:
    """Return what is left of ``expected`` seconds after ``passed`` seconds."""
    return max(expected - passed, OVERDUE * passed)


class Layout:
    """The unfinished trials at one moment, with the seconds that each still needs."""

    def __init__(
        self, counts: ProgressCounts, waited: Mapping[str, float], slots: int, hosts: int | None
    ) -> None:
        """``waited`` is how long each running trial's current epoch has taken so far; ``slots`` is
        how many trials run at a time, on ``hosts``."""
        self._counts, self._pace = counts, counts.pace
        self._waited, self._slots = waited, max(slots, len(waited))
        self._hosts = hosts
        self._slowness = self._slow_down(len(waited) or self._slots)
        self._start = counts.pace.start_seconds()
        self._chances: dict[str, dict[int, float]] = {}
        self._late: dict[str, float] = {}
        self._late = self._find_late_models()

    def seconds(self) -> float:
        """Return how long all the trials take."""
        specs = sorted(self._counts.unfinished(), key=self._is_waiting)
        loading = self._pace.load_seconds({spec.cell.model for spec in specs})
        if len(specs) > FEW_TRIALS:
            return loading + self._simulate(specs, None)
        dice = random.Random(0)
        return loading + mean(self._simulate(specs, dice) for _ in range(SIMULATIONS))

    def _is_waiting(self, spec: TrialSpec) -> bool:
        return spec.trial_id not in self._waited

    def _simulate(self, specs: Iterable[TrialSpec], dice: random.Random | None) -> float:
        """Return when the last of ``specs`` (running ones first) ends: in one random draw or,
        without ``dice``, with the average epochs of each."""
        arrivals = dict(self._counts.survival.arrivals)
        running: list[float] = []
        waiting: list[float] = []
        for spec in specs:
            seconds = self._add_up(spec, *self._count_epochs(spec, arrivals, dice))
            (waiting if self._is_waiting(spec) else running).append(seconds)
        return self._lay_out(running, waiting)

    def _count_epochs(
        self, spec: TrialSpec, arrivals: Arrivals, dice: random.Random | None
    ) -> tuple[float, float]:
        survival, found = self._counts.survival, self._counts.reached(spec.trial_id)
        chances: Mapping[int, float] = self._chances_of(spec.cell.model)
        reached = found.epoch
        if reached:
            chances = survival.sharpen(chances, spec, reached, found.best)
        if dice is None:
            return survival.expect(spec, reached, chances, arrivals)
        return survival.draw(spec, reached, chances, arrivals, dice)

    def _lay_out(self, running: list[float], waiting: list[float]) -> float:
        """Return when the last trial ends, if each waiting one takes the first free slot.

        The seconds are for as many trials per host as now. Once fewer are left, each gets faster.
        """
        ends = running + [0.0] * (self._slots - len(running))
        heapq.heapify(ends)
        for seconds in waiting:
            heapq.heapreplace(ends, ends[0] + seconds)
        passed = total = 0.0
        for active, end in zip(range(len(ends), 0, -1), sorted(ends), strict=True):
            total += (end - passed) * self._slow_down(active) / self._slowness
            passed = end
        return total

    def _slow_down(self, active: int) -> float:
        """Return the factor by which a trial is slower with ``active`` trials than alone."""
        return float(self._pace.share_of(active, self._hosts) ** (1.0 - GAIN))

    def _add_up(self, spec: TrialSpec, epochs: float, complete: float) -> float:
        """Return the seconds that a trial needs for ``epochs`` more epochs, given the chance
        ``complete`` that it reaches its last epoch and scores the test texts."""
        epoch = self.epoch_seconds(spec)
        last = complete * self._scale(spec.cell.model) * self._pace.work_of(spec.cell).score
        if self._is_waiting(spec):
            return self._start + epochs * epoch + last
        if self._counts.reached(spec.trial_id).epoch >= spec.recipe.max_epochs:
            return 0.0
        return self._finish_epoch(spec) + max(0.0, epochs - 1) * epoch + last

    def _finish_epoch(self, spec: TrialSpec) -> float:
        """Return the seconds to the end of a running trial's current epoch."""
        waited, first = self._waited[spec.trial_id], not self._counts.reached(spec.trial_id).epoch
        expected = self.epoch_seconds(spec) + (self._start if first else 0.0)
        return subtract(expected, waited)

    def epoch_seconds(self, spec: TrialSpec) -> float:
        """Return the wall seconds of an epoch of a trial."""
        return self._scale(spec.cell.model) * sum(self._pace.work_of(spec.cell))

    def _scale(self, model: str) -> float:
        late = self._late.get(model, 1.0 if self._pace.is_measured() else self._latest)
        return self._slowness * late * self._pace.ratio(model)

    @property
    def _latest(self) -> float:
        return max(self._late.values(), default=1.0)

    def _find_late_models(self) -> dict[str, float]:
        """Return the largest ratio of a running epoch's time to the expected time, for each model
        of which this session has not seen an epoch end."""
        late: dict[str, float] = {}
        for trial_id, waited in self._waited.items():
            spec = self._counts.specs[trial_id]
            expected = self.epoch_seconds(spec) + max(self._start, LOAD_SECONDS)
            if not self._pace.is_measured(spec.cell.model):
                late[spec.cell.model] = max(late.get(spec.cell.model, 1.0), waited / expected)
        return late

    def _chances_of(self, model: str) -> dict[int, float]:
        if model not in self._chances:
            self._chances[model] = self._counts.survival.chances(model)
        return self._chances[model]
