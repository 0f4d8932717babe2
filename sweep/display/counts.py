"""Counts of a plan's trials that are updated without iterating over all of them."""

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from math import isnan

from sweep.display.pace import Pace
from sweep.display.survival import Survival
from sweep.plan import Plan, TrialSpec
from sweep.storage.record import RunRecord


@dataclass(slots=True)
class TrialProgress:
    """How far a trial has got: its last epoch, and the best validation accuracy so far, if any."""

    epoch: int = 0
    best: float | None = None


class ProgressCounts:
    """Which trials and cells of a plan have ended, how far each trial has got, and the best
    accuracy of each cell; ``catch_up`` reads what is new in the record.

    ``pace`` and ``survival`` are updated too: how long epochs take, and how many a trial runs.
    """

    def __init__(self, plan: Plan, record: RunRecord) -> None:
        self._record = record
        self.specs = {spec.trial_id: spec for spec in plan.trials}
        self._counted: dict[str, str] = {}
        self._reached: dict[str, TrialProgress] = {}
        self._rows = self._ends = 0
        self.trials_left = len(self.specs)
        self.epochs_done = 0
        # The most that the trials can run, less the epochs that ended trials did not need.
        self.epochs_planned = sum(spec.recipe.max_epochs for spec in self.specs.values())
        # Cell id -> trials without a result.
        self.left = Counter(spec.cell.cell_id for spec in self.specs.values())
        # Ids of the cells without trials left, in the order in which they finished.
        self.finished: list[str] = []
        self.statuses: Counter[str] = Counter()
        # Cell id -> highest validation accuracy of any epoch so far.
        self.best: dict[str, float] = {}
        self.pace = Pace(plan, record)
        self.survival = Survival(record, max(self.left.values(), default=1))

    def reached(self, trial_id: str) -> TrialProgress:
        """Return how far a trial has got."""
        return self._reached.get(trial_id, TrialProgress())

    def unfinished(self) -> Iterator[TrialSpec]:
        """Yield the trials without a result, in the order of the plan."""
        return (spec for trial_id, spec in self.specs.items() if trial_id not in self._counted)

    def catch_up(self) -> None:
        """Count the epochs and results that are new in the record."""
        history, ends = self._record.history, self._record.ends
        for row in range(self._rows, len(history.epochs)):
            self._add_epoch(row)
        for trial_id in ends[self._ends :]:
            self._add_end(trial_id)
        self._rows, self._ends = len(history.epochs), len(ends)

    def _add_epoch(self, row: int) -> None:
        history = self._record.history
        trial_id, value = history.trial_ids[row], history.reals["val_accuracy"][row]
        spec, known = self.specs.get(trial_id), self._record.trials[trial_id].epochs
        if spec is None or known.row_of(history.epochs[row]) != row:
            return
        self._move_on(spec, row)
        self.pace.add_epoch(spec, row)
        reached = self._reached[trial_id]
        # The NaN of an epoch without an accuracy is never above the best.
        if value > (-1.0 if reached.best is None else reached.best):
            reached.best = value
        if value > self.best.get(spec.cell.cell_id, -1.0):
            self.best[spec.cell.cell_id] = value

    def _move_on(self, spec: TrialSpec, row: int) -> None:
        epoch = self._record.history.epochs[row]
        reached = self._reached.setdefault(spec.trial_id, TrialProgress())
        gained = epoch - reached.epoch
        if gained <= 0:
            return
        reached.epoch = epoch
        self.epochs_done += gained
        if spec.trial_id in self._counted:
            self.epochs_planned += gained
        else:
            reals = self._record.history.reals
            at_rung, best = not isnan(reals["rung"][row]), reals["best_val_accuracy"][row]
            self.survival.add_epoch(spec, epoch, at_rung, best)

    def _add_end(self, trial_id: str) -> None:
        spec, ended = self.specs.get(trial_id), self._record.trials[trial_id].ended
        if spec is None or ended is None:
            return
        if trial_id in self._counted:
            self.statuses[self._counted[trial_id]] -= 1
        else:
            self._end_trial(spec)
        self._counted[trial_id] = ended["status"]
        self.statuses[ended["status"]] += 1

    def _end_trial(self, spec: TrialSpec) -> None:
        epoch, most = self.reached(spec.trial_id).epoch, spec.recipe.max_epochs
        self.trials_left -= 1
        self.epochs_planned -= most - epoch
        if epoch < most:
            self.survival.add_early_end(spec, epoch)
        cell_id = spec.cell.cell_id
        self.left[cell_id] -= 1
        if not self.left[cell_id]:
            self.finished.append(cell_id)
