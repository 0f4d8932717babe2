"""The time left: the trials that run and those that wait, laid out on the workers there are.

It counts epochs, not trials. How many each trial has to come follows from ``Survival``, how long
they take from ``Pace``; then trial after trial goes to the worker that is free first, as in the
run. A few trials are played many times by chance, since then the longest one decides.
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
from sweep.storage.forecast import Forecast, PaceForecast
from sweep.storage.record import RunRecord

RUN_START_SECONDS = 12.0
"""From the driver's start to the first trial: Ray and its workers importing PyTorch."""
MOST_SLOWED = 2.0
SETTLE_SECONDS = 20.0
"""Workers that pause between two trials, or are about to start, count for so long."""
OVERDUE = 0.15
"""An epoch that takes longer than expected is given so much more of the time it has taken."""
LOAD_SECONDS = 5.0
"""A model's first epoch is late only beyond these: its worker loads the base model before."""
FEW_TRIALS = 60
PLAYS = 30


class TimeLeft:
    """Estimates how long a run still takes."""

    def __init__(self, tally: ProgressCounts, record: RunRecord) -> None:
        self._tally = tally
        self._left_before = tally.trials_left
        forecast, pace = (record.list_forecasts() or [(Forecast(), PaceForecast())])[-1]
        self._expected = pace.trials_at_a_time
        """Trials at once, as the preflight expects; None where it does not know."""
        self._whole = forecast.seconds[1] if forecast.seconds else None
        """The whole run's seconds, likewise."""
        self._seen: deque[tuple[float, int]] = deque()
        self._first_start: float | None = None
        self._started_after = 0.0

    def observe(self, now: float, running: int, elapsed: float) -> None:
        """Note how many trials are running ``now``, by any clock in seconds, and how many have
        ``elapsed`` since the driver's start."""
        self._tally.pace.running = running
        if running and self._first_start is None:
            self._first_start, self._started_after = now, elapsed
        self._seen.append((now, running))
        while self._seen[0][0] < now - SETTLE_SECONDS:
            self._seen.popleft()

    def estimate(self, now: float, running: Mapping[str, float], elapsed: float) -> float | None:
        """Return the seconds left, ``elapsed`` after the driver's start; None where nothing is
        known yet.

        ``running`` holds the trials that workers have, and when they were last heard of, by the
        clock that told ``now``.
        """
        if not self._tally.pace.is_known:
            return self._guess(elapsed)
        places = self._count_places(now)
        if not places:
            return None
        waited = {
            i: max(0.0, now - heard) for i, heard in running.items() if i in self._tally.specs
        }
        layout = Layout(self._tally, waited, places, self._expected)
        starting = max(1.0, RUN_START_SECONDS - elapsed) if self._first_start is None else 0.0
        return starting + self._judge_start(elapsed) * layout.seconds()

    def _judge_start(self, elapsed: float) -> float:
        """Return by how much the machine is slower than the preflight took it for: before an epoch
        is measured, only the time that the start of the run took tells of it."""
        if self._tally.pace.is_measured():
            return 1.0
        taken = elapsed if self._first_start is None else self._started_after
        return min(MOST_SLOWED, math.sqrt(max(1.0, taken / RUN_START_SECONDS)))

    def _guess(self, elapsed: float) -> float | None:
        """Return the seconds left where no epoch tells of its own."""
        if self._whole is not None:
            return subtract(self._whole, elapsed)
        left = self._tally.trials_left
        ended = self._left_before - left
        return elapsed * left / ended if ended else None

    def _count_places(self, now: float) -> int:
        places = max((count for _, count in self._seen), default=0)
        settled = self._first_start is not None and now - self._first_start > SETTLE_SECONDS
        if not settled and self._expected:
            places = max(places, self._expected)
        return min(places, self._tally.trials_left)


def subtract(expected: float, passed: float) -> float:
    """Return what is left of ``expected`` seconds after those that have ``passed``."""
    return max(expected - passed, OVERDUE * passed)


class Layout:
    """The trials of one moment, with the seconds that each has to come."""

    def __init__(
        self, tally: ProgressCounts, waited: Mapping[str, float], places: int, hosts: int | None
    ) -> None:
        """``waited`` says for each running trial how long its epoch has taken so far."""
        self._tally, self._pace = tally, tally.pace
        self._waited, self._places = waited, max(places, len(waited))
        self._hosts = hosts
        self._slowness = self._slow_down(len(waited) or self._places)
        self._start = tally.pace.start_seconds()
        self._chances: dict[str, dict[int, float]] = {}
        self._late: dict[str, float] = {}
        self._late = self._find_late_models()

    def seconds(self) -> float:
        """Return how long the trials take."""
        specs = sorted(self._tally.unfinished(), key=self._is_waiting)
        loading = self._pace.load_seconds({spec.cell.model for spec in specs})
        if len(specs) > FEW_TRIALS:
            return loading + self._play(specs, None)
        dice = random.Random(0)
        return loading + mean(self._play(specs, dice) for _ in range(PLAYS))

    def _is_waiting(self, spec: TrialSpec) -> bool:
        return spec.trial_id not in self._waited

    def _play(self, specs: Iterable[TrialSpec], dice: random.Random | None) -> float:
        """Return when the last of ``specs`` ends, those that run first: by chance, or with what is
        expected of each on average."""
        arrivals = dict(self._tally.survival.arrivals)
        running: list[float] = []
        waiting: list[float] = []
        for spec in specs:
            seconds = self._add_up(spec, *self._count_epochs(spec, arrivals, dice))
            (waiting if self._is_waiting(spec) else running).append(seconds)
        return self._lay_out(running, waiting)

    def _count_epochs(
        self, spec: TrialSpec, arrivals: Arrivals, dice: random.Random | None
    ) -> tuple[float, float]:
        survival, found = self._tally.survival, self._tally.reached(spec.trial_id)
        chances: Mapping[int, float] = self._chances_of(spec.cell.model)
        reached = found.epoch
        if reached:
            chances = survival.sharpen(chances, spec, reached, found.best)
        if dice is None:
            return survival.expect(spec, reached, chances, arrivals)
        return survival.draw(spec, reached, chances, arrivals, dice)

    def _lay_out(self, running: list[float], waiting: list[float]) -> float:
        """Return when the last trial ends, if each that waits goes to the first free place.

        The seconds are those of trials that share hosts as now. Where fewer are left than that,
        what is left of each goes faster.
        """
        places = running + [0.0] * (self._places - len(running))
        heapq.heapify(places)
        for seconds in waiting:
            heapq.heapreplace(places, places[0] + seconds)
        passed = total = 0.0
        for active, end in zip(range(len(places), 0, -1), sorted(places), strict=True):
            total += (end - passed) * self._slow_down(active) / self._slowness
            passed = end
        return total

    def _slow_down(self, active: int) -> float:
        """Return by which factor a trial is slower where so many are ``active`` than alone."""
        return float(self._pace.share_of(active, self._hosts) ** (1.0 - GAIN))

    def _add_up(self, spec: TrialSpec, epochs: float, whole: float) -> float:
        """Return the seconds of so many ``epochs``; of the trials, the part ``whole`` comes to the
        last and scores the test texts."""
        epoch = self.epoch_seconds(spec)
        last = whole * self._scale(spec.cell.model) * self._pace.work_of(spec.cell).score
        if self._is_waiting(spec):
            return self._start + epochs * epoch + last
        if self._tally.reached(spec.trial_id).epoch >= spec.recipe.max_epochs:
            return 0.0
        return self._finish_epoch(spec) + max(0.0, epochs - 1) * epoch + last

    def _finish_epoch(self, spec: TrialSpec) -> float:
        """Return the seconds to the end of the epoch at which a running trial is."""
        waited, first = self._waited[spec.trial_id], not self._tally.reached(spec.trial_id).epoch
        whole = self.epoch_seconds(spec) + (self._start if first else 0.0)
        return subtract(whole, waited)

    def epoch_seconds(self, spec: TrialSpec) -> float:
        """Return the seconds that pass during an epoch of a trial."""
        return self._scale(spec.cell.model) * sum(self._pace.work_of(spec.cell))

    def _scale(self, model: str) -> float:
        late = self._late.get(model, 1.0 if self._pace.is_measured() else self._latest)
        return self._slowness * late * self._pace.ratio(model)

    @property
    def _latest(self) -> float:
        return max(self._late.values(), default=1.0)

    def _find_late_models(self) -> dict[str, float]:
        """Return by how much a running epoch exceeds what was expected of it, for the models of
        which this session has not seen one end."""
        late: dict[str, float] = {}
        for trial_id, waited in self._waited.items():
            spec = self._tally.specs[trial_id]
            expected = self.epoch_seconds(spec) + max(self._start, LOAD_SECONDS)
            if not self._pace.is_measured(spec.cell.model):
                late[spec.cell.model] = max(late.get(spec.cell.model, 1.0), waited / expected)
        return late

    def _chances_of(self, model: str) -> dict[int, float]:
        if model not in self._chances:
            self._chances[model] = self._tally.survival.chances(model)
        return self._chances[model]
