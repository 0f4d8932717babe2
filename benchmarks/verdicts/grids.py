"""A drawn grid of recipes, and its comparisons."""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import combinations

import numpy as np
import numpy.typing as npt
from scipy import stats

from sweep.verdicts import Contest

# Right or wrong: grid points x recipes x seeds x texts.
Right = npt.NDArray[np.bool_]
# How recipes' standard deviations between seeds differ.
SCHEMES = ("alike", "by recipe", "by cell", "one wild")


@dataclass(frozen=True)
class Grid:
    """Recipes at some label counts and sample sizes; accuracies are fractions."""

    points: int
    recipes: int
    texts: int = 500
    # How far each recipe's mean accuracy is above the others', from the first on.
    gaps: tuple[float, ...] = ()
    accuracy: float = 0.8
    # Median standard deviation of a recipe's true accuracy between seeds.
    spread: float = 0.025
    scheme: str = "alike"
    # By recipe and by cell: the standard deviation's own, log-normal, as a factor; one wild: the
    # first recipe's factor.
    factor: float = 2.5
    # Correlation of a seed's effect on a recipe between grid points.
    correlation: float = 0.0
    # As in ``benchmarks.verdicts.pairs.Setting``.
    shared: float = 0.5
    own: float = 0.2

    @property
    def pairs(self) -> int:
        return self.points * math.comb(self.recipes, 2)


def draw_right(grid: Grid, seeds: int, rng: np.random.Generator) -> Right:
    """Return which texts each recipe gets right with each of ``seeds`` seeds."""
    shape = (grid.points, grid.recipes, seeds, 1)
    gaps = np.zeros(grid.recipes)
    gaps[: len(grid.gaps)] = grid.gaps
    accuracies = grid.accuracy + gaps[:, None, None] + draw_effects(grid, seeds, rng)
    texts = (grid.points, 1, 1, grid.texts), (grid.points, grid.recipes, 1, grid.texts)
    difficulty = math.sqrt(grid.shared) * rng.normal(size=texts[0])
    difficulty = difficulty + math.sqrt(grid.own) * rng.normal(size=texts[1])
    noise = rng.normal(size=(*shape[:3], grid.texts))
    difficulty = difficulty + math.sqrt(1 - grid.shared - grid.own) * noise
    return np.asarray(difficulty < stats.norm.ppf(accuracies.clip(0.001, 0.999)))


def draw_effects(grid: Grid, seeds: int, rng: np.random.Generator) -> npt.NDArray[np.float64]:
    """Return how far each seed's true accuracy is from its recipe's: points x recipes x seeds x
    1."""
    shape = (grid.points, grid.recipes, seeds, 1)
    effects = math.sqrt(grid.correlation) * rng.normal(size=(1, *shape[1:]))
    effects = effects + math.sqrt(1 - grid.correlation) * rng.normal(size=shape)
    return np.asarray(_draw_spreads(grid, rng) * effects)


def _draw_spreads(grid: Grid, rng: np.random.Generator) -> npt.NDArray[np.float64]:
    factors = np.ones((grid.points, grid.recipes))
    if grid.scheme == "one wild":
        factors[:, 0] = grid.factor
    elif grid.scheme != "alike":
        rows = 1 if grid.scheme == "by recipe" else grid.points
        logs = rng.normal(size=(rows, grid.recipes)) * math.log(grid.factor)
        factors = factors * np.exp(logs)
    return np.asarray(grid.spread * factors[:, :, None, None])


def draw_many(grid: Grid, seeds: int, draws: int) -> Iterator[Right]:
    """Yield ``draws`` grids, the same ones each time."""
    rng = np.random.default_rng([grid.points, grid.recipes, seeds, SCHEMES.index(grid.scheme)])
    for _ in range(draws):
        yield draw_right(grid, seeds, rng)


def list_contests(right: Right, given: npt.NDArray[np.int64] | None = None) -> list[Contest]:
    """Return all comparisons, each on the seeds that both recipes were ``given`` (points x
    recipes; None: all of them)."""
    points, recipes, seeds, _ = right.shape
    if given is None:
        given = np.full((points, recipes), seeds)
    values = right.astype(float)
    return [
        Contest(2, point, str(a), str(b), values[point, a, :shared] - values[point, b, :shared])
        for point in range(points)
        for a, b in combinations(range(recipes), 2)
        for shared in [min(given[point, a], given[point, b])]
    ]


def list_true(grid: Grid) -> npt.NDArray[np.bool_]:
    """Return which comparisons of ``grid`` are of recipes that differ."""
    gaps = np.zeros(grid.recipes)
    gaps[: len(grid.gaps)] = grid.gaps
    return np.array(
        [gaps[a] != gaps[b] for a, b in combinations(range(grid.recipes), 2)] * grid.points
    )
