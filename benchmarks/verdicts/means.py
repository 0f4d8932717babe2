"""A grid's comparisons without its texts: seeds' means alone, drawn in a thousandth of the time.

Texts are taken as so many that they add nothing beyond what they resolve; that makes every test
rely on the variance between seeds alone, where it calls most.
"""

from collections.abc import Iterator
from dataclasses import replace
from itertools import combinations

import numpy as np
import numpy.typing as npt

from benchmarks.verdicts.grids import SCHEMES, Grid, draw_effects, list_true
from sweep.verdicts import ONE_LOOK, Looks
from sweep.verdicts.crossed import CrossedMean, find_levels
from sweep.verdicts.holm import LEVEL, adjust_holm
from sweep.verdicts.moderation import count_independent, moderate

Numbers = npt.NDArray[np.float64]
# Residual variance of one seed's answers to one text, of a pair: as of two recipes that are right
# on 80 % of the texts and share half of what is hard.
RESIDUAL = 0.2


def draw_differences(grid: Grid, seeds: int, draws: int) -> Iterator[Numbers]:
    """Yield the mean difference of each pair of ``grid`` (rows) with each seed."""
    rng = np.random.default_rng([grid.points, grid.recipes, seeds, SCHEMES.index(grid.scheme)])
    gaps = np.zeros(grid.recipes)
    gaps[: len(grid.gaps)] = grid.gaps
    pairs = list(combinations(range(grid.recipes), 2))
    first, second = ([pair[side] for pair in pairs] for side in (0, 1))
    for _ in range(draws):
        means = draw_effects(grid, seeds, rng)[..., 0] + gaps[:, None]
        means = means + rng.normal(size=means.shape) * (RESIDUAL / 2 / grid.texts) ** 0.5
        yield (means[:, first] - means[:, second]).reshape(-1, seeds)


def summarize(differences: Numbers, texts: int) -> list[CrossedMean]:
    """Return the test's view of each row of ``differences`` (pairs x seeds)."""
    seeds = differences.shape[1]
    squares = texts * differences.var(axis=1, ddof=1)
    return [
        CrossedMean(
            mean=float(mean),
            seeds=seeds,
            texts=texts,
            ms_seeds=max(float(square), 0.5 / texts),
            seed_df=seeds - 1,
            ms_texts=RESIDUAL,
            ms_own_texts=2 * seeds / texts,
            ms_residual=RESIDUAL,
        )
        for mean, square in zip(differences.mean(axis=1), squares, strict=True)
    ]


def call_pairs(grid: Grid, differences: Numbers, looks: Looks, moderated: bool) -> Numbers:
    """Return the adjusted p of each pair."""
    pairs = list(combinations(range(grid.recipes), 2))
    independent = grid.points * count_independent(pairs)
    shares = []
    for size, weight in looks.list_passed(differences.shape[1]):
        means = summarize(differences[:, :size], grid.texts)
        shares.append(find_levels(moderate(means, independent) if moderated else means) / weight)
    return adjust_holm(np.minimum(1.0, np.min(shares, axis=0)))


def measure_alarms(
    grid: Grid, seeds: int, draws: int, looks: Looks = ONE_LOOK, moderated: bool = True
) -> float:
    """Return in which share of ``draws`` grids of equal recipes any two are called different, at
    any look."""
    return float(
        np.mean(
            [
                (call_pairs(grid, differences, looks, moderated) < LEVEL).any()
                for differences in draw_differences(replace(grid, gaps=()), seeds, draws)
            ]
        )
    )


def measure_found(grid: Grid, seeds: int, draws: int, moderated: bool = True) -> float:
    """Return the share of true differences that are found, over ``draws`` grids."""
    true = list_true(grid)
    found = [
        (call_pairs(grid, differences, ONE_LOOK, moderated) < LEVEL)[true].mean()
        for differences in draw_differences(grid, seeds, draws)
    ]
    return float(np.mean(found))
