"""Counts of a plan's trials that are brought up to date without walking over all of them."""

from collections import Counter

from sweep.plan import Plan
from sweep.record import RunRecord


class Tally:
    """What of a plan has ended, and the best accuracy of each cell; ``catch_up`` reads what the
    record has gained since the last time."""

    def __init__(self, plan: Plan, record: RunRecord) -> None:
        self._record = record
        self._specs = {spec.trial_id: spec for spec in plan.trials}
        self._counted: dict[str, str] = {}
        self._rows = self._ends = 0
        self.trials = self.trials_left = len(self._specs)
        self.work = sum(spec.cell.n_samples for spec in self._specs.values())
        """Training texts of all trials: the measure of time left."""
        self.work_done = 0
        self.left = Counter(spec.cell.cell_id for spec in self._specs.values())
        """Cell id -> trials without a result."""
        self.finished: list[str] = []
        """Ids of the cells with none left, in the order in which they came to it."""
        self.statuses: Counter[str] = Counter()
        self.best: dict[str, float] = {}
        """Cell id -> highest validation accuracy of any epoch so far."""

    def catch_up(self) -> None:
        """Take in the epochs and results that are new in the record."""
        history, ends = self._record.history, self._record.ends
        for row in range(self._rows, len(history.epochs)):
            self._add_epoch(row)
        for trial_id in ends[self._ends :]:
            self._add_end(trial_id)
        self._rows, self._ends = len(history.epochs), len(ends)

    def _add_epoch(self, row: int) -> None:
        history = self._record.history
        trial_id, value = history.trial_ids[row], history.reals["val_accuracy"][row]
        spec, known = self._specs.get(trial_id), self._record.trials[trial_id].epochs
        if spec is None or known.row_of(history.epochs[row]) != row:
            return
        # NaN, which an epoch without an accuracy has, is never above the best.
        if value > self.best.get(spec.cell.cell_id, -1.0):
            self.best[spec.cell.cell_id] = value

    def _add_end(self, trial_id: str) -> None:
        spec, ended = self._specs.get(trial_id), self._record.trials[trial_id].ended
        if spec is None or ended is None:
            return
        if trial_id in self._counted:
            self.statuses[self._counted[trial_id]] -= 1
        else:
            self._end_trial(spec.cell.cell_id, spec.cell.n_samples)
        self._counted[trial_id] = ended["status"]
        self.statuses[ended["status"]] += 1

    def _end_trial(self, cell_id: str, work: int) -> None:
        self.trials_left -= 1
        self.work_done += work
        self.left[cell_id] -= 1
        if not self.left[cell_id]:
            self.finished.append(cell_id)
