"""How many epochs a trial runs: ASHA stops it, patience ends it, or it fails."""

import random
from collections import Counter
from collections.abc import Mapping, Sequence

from sweep.plan import TrialSpec
from sweep.storage.record import RunRecord

# Weight of the preflight's expectation of a rung, in trials.
PRIOR_TRIALS = 4.0
# Weight of what happened to all models' trials, in trials of the model itself.
SHARED_TRIALS = 6.0

# The chance that a trial below the cutoff of its next rung is stopped there.
BEHIND = 0.85

# Cell id and rung -> how many trials have been compared there.
Arrivals = dict[tuple[str, int], float]


class Survival:
    """The chances that a trial ends with an epoch, from what happened to the others so far.

    ASHA compares a trial with those of its cell that reached the same rung before, so the first at
    a rung always continues. Before any trial gets there, the preflight's expectation of each rung
    is used, if the journal has one; without it, a trial is assumed to run all its epochs.
    """

    def __init__(self, record: RunRecord, candidates: int) -> None:
        """``candidates`` is the number of trials per cell."""
        self._expected = {
            int(epoch): _stop_later(share, candidates) for epoch, share in _find_rungs(record)
        }
        self._rungs = set(self._expected)
        self.arrivals: Arrivals = {}
        self._values: dict[tuple[str, int], list[float]] = {}
        self._came: dict[str | None, Counter[int]] = {None: Counter()}
        self._ended: dict[str | None, Counter[int]] = {None: Counter()}

    def add_epoch(self, spec: TrialSpec, epoch: int, at_rung: bool, best: float) -> None:
        """Add the end of a trial's ``epoch``: whether ASHA compared it there, and its ``best``
        validation accuracy."""
        cell_rung = spec.cell.cell_id, epoch
        if at_rung:
            self._rungs.add(epoch)
            self.arrivals[cell_rung] = self.arrivals.get(cell_rung, 0) + 1
            self._values.setdefault(cell_rung, []).append(best)
        if not at_rung or self.arrivals[cell_rung] > 1:
            for key in (None, spec.cell.model):
                self._came.setdefault(key, Counter())[epoch] += 1

    def add_early_end(self, spec: TrialSpec, epoch: int) -> None:
        """Add a trial that ended after ``epoch``, before its last; 0: in its first epoch."""
        for key in (None, spec.cell.model):
            self._ended.setdefault(key, Counter())[epoch] += 1

    def chances(self, model: str) -> dict[int, float]:
        """Return epoch -> chance that a trial of ``model`` that gets there goes no further, for the
        epochs where any has ended or is expected to, in order."""
        epochs = sorted({*self._expected, *self._ended[None]})
        return {epoch: self._chance(model, epoch) for epoch in epochs}

    def _chance(self, model: str, epoch: int) -> float:
        expected = self._expected.get(epoch, 0.0)
        shared = self._count(None, epoch, expected, PRIOR_TRIALS)
        return self._count(model, epoch, shared, SHARED_TRIALS)

    def _count(self, key: str | None, epoch: int, expected: float, weight: float) -> float:
        ended = self._ended.get(key, Counter())[epoch]
        came = self._came.get(key, Counter())[epoch or 1]
        # A trial that reached the end of an epoch also passed its start.
        arrived = max(ended, came) if epoch else ended + came
        return (ended + weight * expected) / (arrived + weight)

    def sharpen(
        self, chances: Mapping[int, float], spec: TrialSpec, reached: int, best: float | None
    ) -> Mapping[int, float]:
        """Return ``chances`` for a trial whose ``best`` validation accuracy so far is known: it
        never falls, so a trial above the cutoff of its next rung will continue there."""
        rung = next((epoch for epoch in chances if epoch > reached and epoch in self._rungs), None)
        values = sorted(self._values.get((spec.cell.cell_id, rung or 0), []))
        if best is None or rung is None or not values:
            return chances
        cutoff = values[min(len(values) - 1, int(chances[rung] * len(values)))]
        return {**chances, rung: 0.0 if best >= cutoff else max(BEHIND, chances[rung])}

    def expect(
        self, spec: TrialSpec, reached: int, chances: Mapping[int, float], arrivals: Arrivals
    ) -> tuple[float, float]:
        """Return how many more epochs a continuing trial that has ``reached`` an epoch runs on
        average, and the chance that it reaches the last; add it to ``arrivals``."""
        epochs, alive, at, most = 0.0, 1.0, reached, spec.recipe.max_epochs
        for epoch, chance in chances.items():
            if not _is_ahead(epoch, reached, most):
                continue
            epochs += alive * (epoch - at)
            before = self._arrive(spec, epoch, alive, arrivals)
            alive, at = alive * (1.0 - chance * min(1.0, before)), epoch
        return epochs + alive * (most - at), alive

    def draw(
        self,
        spec: TrialSpec,
        reached: int,
        chances: Mapping[int, float],
        arrivals: Arrivals,
        dice: random.Random,
    ) -> tuple[int, bool]:
        """Return the same for one random draw: the trial's epochs, and whether it reaches the
        last."""
        most = spec.recipe.max_epochs
        for epoch, chance in chances.items():
            if _is_ahead(epoch, reached, most):
                before = self._arrive(spec, epoch, 1.0, arrivals)
                if before and dice.random() < chance:
                    return epoch - reached, False
        return most - reached, True

    def _arrive(self, spec: TrialSpec, epoch: int, alive: float, arrivals: Arrivals) -> float:
        """Add a trial's arrival at an epoch; return with how many it is compared there, or 1 if the
        epoch is not a rung."""
        if epoch not in self._rungs:
            return 1.0
        cell_rung = spec.cell.cell_id, epoch
        before = arrivals.get(cell_rung, 0.0)
        arrivals[cell_rung] = before + alive
        return before


def _is_ahead(epoch: int, reached: int, most: int) -> bool:
    """Return whether a trial that has ``reached`` an epoch may end after ``epoch``; one without a
    completed epoch may fail in its first (0)."""
    return (epoch > reached or epoch == reached == 0) and epoch < most


def _stop_later(share: float, candidates: int) -> float:
    """Return the chance that a trial is stopped at a rung that others reached before, if ``share``
    of all trials that get there continue."""
    later = (candidates * share - 1.0) / (candidates - 1) if candidates > 1 else 1.0
    return 1.0 - min(1.0, max(0.0, later))


def _find_rungs(record: RunRecord) -> Sequence[tuple[float, float]]:
    """Return what the newest preflight in the journal expects at each rung."""
    for _, pace in reversed(record.list_forecasts()):
        if pace.rungs:
            return pace.rungs
    return ()
