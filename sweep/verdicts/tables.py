"""Tables of differences (seeds x texts), tested at their looks."""

import math
from collections.abc import Hashable, Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from sweep.verdicts.crossed import CrossedMean, drop_incomplete, find_levels, split_variance
from sweep.verdicts.holm import Array
from sweep.verdicts.looks import Looks
from sweep.verdicts.models import difference_interval, sign_flip_p
from sweep.verdicts.moderation import count_independent, moderate

Pair = tuple[Hashable, Hashable]


@dataclass
class Tested:
    """A table and its tests, one at each look with two or more seeds."""

    # Without seeds that have no value.
    values: Array
    means: list[CrossedMean] = field(default_factory=list)
    # The p of each look, divided by the look's weight, and the weight.
    shares: list[float] = field(default_factory=list)
    weights: list[float] = field(default_factory=list)

    @property
    def seeds(self) -> int:
        return len(self.values)

    @property
    def difference(self) -> float:
        """The mean over all seeds that are there; NaN without any."""
        values = drop_incomplete(self.values)
        return float(values.mean()) if values.size else math.nan

    @property
    def p(self) -> float:
        """The smallest share of the looks; with one seed, McNemar's exact p."""
        if self.seeds == 1:
            return sign_flip_p(drop_incomplete(self.values).sum(axis=0))
        return min(1.0, *self.shares) if self.shares else 1.0

    @property
    def direction(self) -> float:
        """The difference at the look that decides."""
        if not self.means:
            return self.difference
        return self.means[int(np.argmin(self.shares))].mean

    def interval(self, level: float) -> tuple[float, float]:
        """Return what the intervals of all looks have in common, each at ``level`` times its
        weight; if they have nothing in common, the last one.

        So it misses with ``level`` at most wherever the run stops, and excludes 0 where ``p`` is
        below ``level``. (-1, 1) before the first look.
        """
        if self.seeds == 1:
            return difference_interval(drop_incomplete(self.values)[0], 1 - level)
        pairs = zip(self.means, self.weights, strict=True)
        ends = [mean.interval(level * weight) for mean, weight in pairs]
        low = max((low for low, _ in ends), default=-1.0)
        high = min((high for _, high in ends), default=1.0)
        return (low, high) if low <= high else ends[-1]


def run_tests(
    tables: Sequence[npt.ArrayLike], looks: Looks, recipes: Sequence[Pair] | None = None
) -> list[Tested]:
    """Return the tests of ``tables`` at ``looks``: a row per seed, NaN where a value is missing.

    At a look, a table is tested on its first seeds, as many as the look has. The variance between
    seeds is moderated over all tables, each with no more seeds than that: so a look that was taken
    once hardly changes when others get more seeds. ``recipes`` names the two that each table
    compares, of which some may be in several tables; None: all differ.
    """
    found = [Tested(_drop_empty(np.asarray(table, dtype=float))) for table in tables]
    passed = [looks.list_passed(each.seeds) for each in found]
    for place in range(max(map(len, passed), default=0)):
        _test(found, passed, place, recipes)
    return found


def _drop_empty(table: Array) -> Array:
    return table[~np.isnan(table).all(axis=1)]


def _test(
    found: list[Tested],
    passed: list[list[tuple[int, float]]],
    place: int,
    recipes: Sequence[Pair] | None,
) -> None:
    """Add the tests of one look."""
    sizes = [looks[place][0] if place < len(looks) else None for looks in passed]
    split = [split_variance(each.values[:size]) for each, size in zip(found, sizes, strict=True)]
    several = [index for index, mean in enumerate(split) if mean is not None]
    independent = count_independent(recipes[i] for i in several) if recipes else len(several)
    means = moderate([m for m in split if m is not None], independent)
    levels = find_levels(means)
    for index, mean, level in zip(several, means, levels, strict=True):
        if place < len(passed[index]):
            weight = passed[index][place][1]
            found[index].means.append(mean)
            found[index].weights.append(weight)
            found[index].shares.append(float(level) / weight)
