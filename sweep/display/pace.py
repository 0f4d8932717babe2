"""How long an epoch of each cell takes: what the preflight expected, corrected by measurements.

A worker reports the seconds that it spent on an epoch's training and validation; the journal's
clock shows when epochs ended. If ``n`` trials share a host, the reported seconds are one trial's
part of their common steps, so the elapsed time is ``n`` times as long.
"""

from collections import Counter, deque
from collections.abc import Iterable
from statistics import geometric_mean, median
from typing import NamedTuple

from sweep.plan import Cell, Plan, TrialSpec
from sweep.storage.forecast import SCORING_SHARE, TRIAL_START_SECONDS
from sweep.storage.history import NO_ROW
from sweep.storage.record import RunRecord, TrialRecord

# Factor by which each new epoch reduces the weight of earlier ones: a machine's speed changes.
MEMORY = 0.97
# Number of latest epochs from which the number of trials per host is estimated.
RECENT = 15
# From this ratio of elapsed to reported time, trials are assumed to share a host; below it, the
# difference is attributed to pauses.
SHARED = 1.5
# ``n`` trials on a host do ``n ** GAIN`` times the work of one: 0 to 0.2 for real models on CPUs,
# 0.5 for tiny ones, more on GPUs.
GAIN = 0.4
# Weight of the preflight, as a fraction of the entire run's expected seconds: a machine that is
# busy with something else for a minute says little about the next hour.
PRIOR_PART = 0.03
MIN_RATIO = 1e-6


class Work(NamedTuple):
    """Expected seconds of an epoch's training in a cell, and of scoring once. If they are guessed
    (``guess_work``), only their proportions matter."""

    train: float
    score: float


class Ratio:
    """Measured over expected seconds, with the most weight on the newest."""

    def __init__(self) -> None:
        self._measured = self._expected = 0.0
        # Total expected seconds of what was measured.
        self.weight = 0.0

    def add(self, measured: float, expected: float) -> None:
        """Add one measurement."""
        self._measured = MEMORY * self._measured + measured
        self._expected = MEMORY * self._expected + expected
        self.weight += expected

    def blend(self, prior: float, weight: float) -> float:
        """Return the ratio, given that it was assumed to be ``prior`` before, with ``weight``."""
        if not self.weight:
            return prior
        found = max(self._measured / self._expected, MIN_RATIO)
        part = self.weight / (self.weight + weight)
        return float(prior * (found / prior) ** part)


class Pace:
    """Learns from each epoch how long the next ones take."""

    def __init__(self, plan: Plan, record: RunRecord) -> None:
        self._record = record
        forecast = find_forecast(plan, record)
        self._work = forecast or guess_work(plan, record)
        self._is_forecast = forecast is not None
        total = sum(spec.recipe.max_epochs * sum(self.work_of(spec.cell)) for spec in plan.trials)
        self._trust = PRIOR_PART * total
        self._ratios: dict[str, Ratio] = {}
        self._shares: deque[tuple[float, int]] = deque(maxlen=RECENT)
        # How many trials are running.
        self.running = 1
        self._starts: deque[float] = deque([TRIAL_START_SECONDS] * 3, maxlen=RECENT)
        self._loads: deque[float] = deque(maxlen=RECENT)
        self._begun: Counter[str] = Counter()
        self._measured: set[str] = set()

    def add_epoch(self, spec: TrialSpec, row: int) -> None:
        """Add a row of the record's history: an epoch of ``spec``."""
        reals, epoch = self._record.history.reals, self._record.history.epochs[row]
        trial = self._record.trials[spec.trial_id]
        ended, begun = reals["time"][row], self._find_begin(trial, epoch)
        waited = None if begun is None else max(0.0, ended - begun)
        worked = reals["train_seconds"][row] + reals["eval_seconds"][row]
        if worked != worked:
            # NaN: the epoch did not report its seconds.
            if waited is None:
                return
            worked = waited
        share = waited / worked if waited and worked and epoch > 1 else self._share()
        self._add_worked(spec, worked * max(1.0, share) ** GAIN)
        if ended >= self.session_start():
            self._measured.add(spec.cell.model)
        if waited is not None:
            self._add_waited(spec.cell.model, epoch, waited, worked)

    def _find_begin(self, trial: TrialRecord, epoch: int) -> float | None:
        """Return when the epoch began, if that was in this session and no worker was lost since."""
        if epoch > 1:
            before = trial.epochs.row_of(epoch - 1)
            begun = None if before == NO_ROW else self._record.history.reals["time"][before]
        else:
            begun = trial.started["time"] if trial.started else None
        if begun is None or begun < self.session_start() or trial.retries:
            return None
        return float(begun)

    def session_start(self) -> float:
        """Return the journal's time at which the current driver started."""
        opened = self._record.opened
        return float(opened[-1]["time"]) if opened else 0.0

    def _add_worked(self, spec: TrialSpec, seconds: float) -> None:
        expected = sum(self.work_of(spec.cell))
        self._ratios.setdefault(spec.cell.model, Ratio()).add(seconds, expected)

    def _add_waited(self, model: str, epoch: int, waited: float, worked: float) -> None:
        if epoch == 1:
            self._add_start(model, max(0.0, waited - worked * self._share()))
        elif worked > 0:
            self._shares.append((max(1.0, waited / worked), max(1, self.running)))

    def _add_start(self, model: str, seconds: float) -> None:
        """Add the seconds before a trial's first epoch; they include loading the model for its
        first trials, as many as run at a time."""
        loads = self._begun[model] < self.running
        (self._loads if loads else self._starts).append(seconds)
        self._begun[model] += 1

    def _share(self) -> float:
        """Return an estimate of how many trials shared a host recently."""
        found = median(share for share, _ in self._shares) if self._shares else 1.0
        return found if found > SHARED else 1.0

    def share_of(self, active: int, hosts: int | None) -> float:
        """Return how many of ``active`` trials share a host; before anything is measured, assuming
        the preflight's number of ``hosts``."""
        if not self._shares:
            return max(1.0, active / hosts) if hosts else 1.0
        if self._share() < SHARED:
            return 1.0
        return max(1.0, active / median(running / share for share, running in self._shares))

    def work_of(self, cell: Cell) -> Work:
        """Return the expected seconds of the cell."""
        return self._work[cell.cell_id]

    def is_measured(self, model: str | None = None) -> bool:
        """Return whether this session has seen an epoch of ``model``, or of any model if None."""
        return bool(self._measured) if model is None else model in self._measured

    def ratio(self, model: str) -> float:
        """Return measured over expected seconds for ``model``. One that was not measured yet is
        assumed to be like the others, each of which counts once: the preflight's error differs more
        between models than from hour to hour. The others start out at the preflight's estimate."""
        trust = self._trust if self._is_forecast else 0.0
        found = [ratio.blend(1.0, trust) for ratio in self._ratios.values()]
        prior = geometric_mean(found) if found else 1.0
        own = self._ratios.get(model)
        return own.blend(prior, self._trust) if own else prior

    @property
    def is_known(self) -> bool:
        """Whether anything is known about the seconds of an epoch."""
        return self._is_forecast or bool(self._ratios)

    def start_seconds(self) -> float:
        """Return the seconds from a trial's start to the beginning of its first epoch, on a worker
        that already has the base model."""
        return median(self._starts)

    def load_seconds(self, models: Iterable[str]) -> float:
        """Return the seconds that workers need to load those of ``models`` that no trial of this
        session has used yet."""
        new = sum(model not in self._begun for model in models)
        return new * max(0.0, median(self._loads) - self.start_seconds()) if self._loads else 0.0


def find_forecast(plan: Plan, record: RunRecord) -> dict[str, Work] | None:
    """Return cell id -> the expectation of the newest preflight that has one; None unless every
    cell of the plan has one."""
    known: dict[str, Work] = {}
    for _, pace in record.list_forecasts():
        pairs = pace.epoch_seconds or {}
        known |= {cell: Work(*pair) for cell, pair in pairs.items() if sum(pair) > 0}
    return known if known and all(cell.cell_id in known for cell in plan.cells) else None


def guess_work(plan: Plan, record: RunRecord) -> dict[str, Work]:
    """Return cell id -> work in proportion only, for a journal without forecasts of epochs: by the
    number of texts and, if known, by the memory of the model's trials without the base model."""
    sizes: dict[str, float] = {}
    for forecast, _ in record.list_forecasts():
        sizes |= forecast.slot_bytes or {}
    known = all(sizes.get(cell.model) for cell in plan.cells)
    scored = {tuple(each["labels"]): len(each["items"]) for each in record.test_sets.values()}
    work = {}
    for cell in plan.cells:
        size = sizes[cell.model] / max(sizes.values()) if known else 1.0
        score = SCORING_SHARE * scored.get(cell.labels, 0)
        work[cell.cell_id] = Work(size * cell.n_samples, size * score)
    return work
