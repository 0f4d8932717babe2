"""What training the best candidates again with further seeds will need."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import NamedTuple

from sweep.config import RepeatConfig
from sweep.preflight.runtime import Range
from sweep.storage.forecast import TRIAL_START_SECONDS

# Further seeds per cell with ``repeat.seeds: auto``: at least, and likely.
AUTO_SEEDS = (2, 3)


class CellRepeats(NamedTuple):
    """A cell to be repeated: the seconds of one whole trial and how far off they may be, how many
    trials run at a time, and how many repeats have a result."""

    seconds: float
    spread: tuple[float, float]
    trials: int
    done: int


@dataclass(frozen=True)
class RepeatForecast:
    """What repeats need at most: trials, and the wall seconds that they add, within the budget;
    from ``fewest`` to ``most`` further seeds per cell."""

    trials: int
    seconds: Range
    fewest: int
    most: int


def estimate_repeats(repeat: RepeatConfig, cells: Iterable[CellRepeats]) -> RepeatForecast | None:
    """Return what the repeats of ``cells`` need; None if none are left.

    How many ``auto`` gives is not known before: from those of its first look to the most allowed.
    """
    cells, most = list(cells), repeat.most_seeds
    trials = sum(max(0, most - cell.done) for cell in cells)
    if not trials:
        return None
    fewest, likely = AUTO_SEEDS if repeat.seeds == "auto" else (most, most)
    counts = (min(fewest, most), min(likely, most), most)
    totals = [0.0, 0.0, 0.0]
    for cell in cells:
        factors = (cell.spread[0], 1.0, cell.spread[1])
        for i, (seeds, factor) in enumerate(zip(counts, factors, strict=True)):
            one = factor * cell.seconds + TRIAL_START_SECONDS
            totals[i] += max(0, seeds - cell.done) * one / cell.trials
    if repeat.budget_seconds is not None:
        # The budget counts the time of each trial.
        limit = repeat.budget_seconds / min(cell.trials for cell in cells)
        totals = [min(total, limit) for total in totals]
    return RepeatForecast(trials, Range(*totals), counts[0], most)
