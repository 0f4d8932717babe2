"""When comparisons are tested: after how many seeds, and how much of the level each time gets.

Whoever tests again and again, and stops once p is small, is wrong more often than p says. So a look
has a fixed weight; the weights of all looks add up to 1 at most, and a comparison's p is the
smallest of its looks' ``p / weight``. By Bonferroni's inequality its chance of a false alarm at any
look stays below the level, whatever the rule by which seeds are added or not. (Weighted Bonferroni:
R. Rosenthal and D. B. Rubin, "Ensemble-adjusted p values", Psychological Bulletin 94 (1983),
540-541. Spending the level over looks: K. K. G. Lan and D. L. DeMets, "Discrete sequential
boundaries for clinical trials", Biometrika 70 (1983), 659-663.)

Confidence sequences (S. R. Howard, A. Ramdas, J. McAuliffe and J. Sekhon, "Time-uniform,
nonparametric, nonasymptotic confidence sequences", Annals of Statistics 49 (2021), 1055-1080, arXiv
1810.08240) and other mixtures need no looks: they hold after every observation. They are made for
thousands of independent observations with bounded tails, and are widest after the first few. Here
a handful of looks is taken at 2 to 40 seeds, the seeds have to estimate their own variance, and
texts, which do not become more with seeds, are random too. Weighting the looks costs less and
leaves the test of each look as it is.
"""

from collections.abc import Iterable
from dataclasses import dataclass

# Of the schedule's first looks, at 2, 3, 5, 8, 12, 18 and 27 seeds. Two and three seeds find
# little, whatever their weight; in simulated grids of 30 and 252 pairs these weights find more with
# 8 and 12 seeds than even or earlier ones. Each later look gets half of what is left.
FIRST_WEIGHTS = (0.02, 0.05, 0.15, 0.3, 0.25, 0.12, 0.06)
# More seeds than a configuration may ask for.
MOST_SEEDS = 1001
# As many seeds as there are.
_ALL = 10**9


@dataclass(frozen=True)
class Looks:
    """The numbers of seeds at which comparisons are tested, and the weight of each."""

    sizes: tuple[int, ...]
    weights: tuple[float, ...]
    # Whether a look is also taken before its seeds are complete, at those that are there.
    incomplete: bool = False

    def list_passed(self, seeds: int) -> list[tuple[int, float]]:
        """Return the looks that a comparison with ``seeds`` seeds has passed: size and weight."""
        looks = list(zip(self.sizes, self.weights, strict=True))
        passed = [look for look in looks if look[0] <= seeds]
        if (
            self.incomplete
            and seeds
            and len(passed) < len(looks)
            and (not passed or passed[-1][0] < seeds)
        ):
            passed.append((seeds, looks[len(passed)][1]))
        return passed

    def best_weight(self, seeds: int) -> float:
        """Return the largest weight of a look at more than ``seeds`` seeds; 0 if there is none."""
        pairs = zip(self.sizes, self.weights, strict=True)
        return max((weight for size, weight in pairs if size > seeds), default=0.0)


def next_look(seeds: int) -> int:
    """Return the number of seeds at the first look of the schedule after ``seeds`` seeds: 2, 3, 5,
    8, 12, 18, 27, ..., half as many again each time, whatever a run's limits are."""
    size = 2
    while size <= seeds:
        size += (size + 1) // 2
    return size


def list_looks(sizes: Iterable[int]) -> Looks:
    """Return the looks of a run that was given fixed numbers of seeds, first one, then another.

    The first report of such a run, which knows of one number, tests once; from the second on, the
    looks share the level: one half, one quarter, and so on.
    """
    known = sorted({size for size in sizes if size})
    if len(known) < 2:
        return ONE_LOOK
    weights = tuple(0.5 ** (1 + place) for place in range(len(known)))
    return Looks((*known[:-1], _ALL), weights, incomplete=True)


ONE_LOOK = Looks((_ALL,), (1.0,), incomplete=True)


def _make_schedule() -> Looks:
    sizes = [next_look(0)]
    while sizes[-1] < MOST_SEEDS:
        sizes.append(next_look(sizes[-1]))
    later = len(sizes) - len(FIRST_WEIGHTS)
    left = 1 - sum(FIRST_WEIGHTS)
    weights = [left * 0.5 ** (1 + place) for place in range(later)]
    return Looks(tuple(sizes), (*FIRST_WEIGHTS, *weights))


SCHEDULE = _make_schedule()
