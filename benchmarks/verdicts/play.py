"""A grid whose comparisons get seeds as they need them, as with ``repeat.seeds: auto``."""

from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from benchmarks.verdicts.grids import Grid, Right, draw_many, list_contests, list_true
from sweep.verdicts import SCHEDULE, Judgment, Looks, State, judge_contests, next_look

Given = npt.NDArray[np.int64]
# Which comparisons go on after a look.
Rule = Callable[[list[Judgment]], list[bool]]


def follow_states(judgments: list[Judgment]) -> list[bool]:
    """``repeat.seeds: auto``: only open comparisons get more seeds."""
    return [each.state == State.OPEN for each in judgments]


def follow_leaders(judgments: list[Judgment]) -> list[bool]:
    """As ``follow_states``, of the comparisons alone that each grid point's most accurate recipe is
    in."""
    scores: dict[int, dict[str, float]] = defaultdict(lambda: defaultdict(float))
    for each in judgments:
        scores[each.contest.n_samples][each.contest.a] += each.difference
        scores[each.contest.n_samples][each.contest.b] -= each.difference
    best = {point: max(sums, key=lambda name: sums[name]) for point, sums in scores.items()}
    return [
        each.state == State.OPEN
        and best[each.contest.n_samples] in (each.contest.a, each.contest.b)
        for each in judgments
    ]


def stop_at_first(judgments: list[Judgment]) -> list[bool]:
    """Whoever wants a result: everything goes on until something is called, and then nothing."""
    nothing = all(each.verdict == "too close to call" for each in judgments)
    return [nothing] * len(judgments)


def go_on_while_uncalled(judgments: list[Judgment]) -> list[bool]:
    """Whoever wants more results: what is not called goes on, hopeless or not."""
    return [each.verdict == "too close to call" for each in judgments]


@dataclass(frozen=True)
class Played:
    """What became of a grid."""

    judgments: list[Judgment]
    trials: int
    # Whether each comparison was called different after any round.
    called: npt.NDArray[np.bool_]


def play(right: Right, rule: Rule, most: int, looks: Looks = SCHEDULE) -> Played:
    """Give each comparison of ``right`` seeds, look by look, while ``rule`` says so, up to
    ``most``."""
    points, recipes, *_ = right.shape
    given = np.full((points, recipes), next_look(0))
    called = np.zeros(len(list_contests(right, given)), dtype=bool)
    while True:
        contests = list_contests(right, given)
        judgments = judge_contests(contests, looks)
        called |= [each.verdict != "too close to call" for each in judgments]
        wanted = given.copy()
        for judgment, more in zip(judgments, rule(judgments), strict=True):
            goal = next_look(judgment.seeds)
            if more and goal <= most:
                place = judgment.contest.n_samples
                for recipe in (int(judgment.contest.a), int(judgment.contest.b)):
                    wanted[place, recipe] = max(wanted[place, recipe], goal)
        if (wanted == given).all():
            return Played(judgments, int(given.sum()), called)
        given = wanted


def measure_stopped_alarms(grid: Grid, rule: Rule, most: int, draws: int) -> float:
    """Return in which share of ``draws`` grids of equal recipes any two are ever called
    different."""
    played = (play(right, rule, most) for right in draw_many(grid, most, draws))
    return float(np.mean([each.called.any() for each in played]))


@dataclass(frozen=True)
class Yield:
    """What seeds brought, on average over grids."""

    trials: float
    # Shares of the true differences that were found: of all, and of those with the best recipe.
    found: float
    found_best: float
    # The share of grids with a false alarm.
    wrong: float


def measure_yield(grid: Grid, most: int, draws: int, rule: Rule | None = follow_states) -> Yield:
    """Return what ``rule`` brings with up to ``most`` seeds; None: a fixed number of them. The
    first recipe of ``grid`` is the best."""
    true = list_true(grid)
    first = np.tile(np.arange(grid.pairs // grid.points) < grid.recipes - 1, grid.points)
    rows = []
    for right in draw_many(grid, most, draws):
        if rule is None:
            trials, judgments = right[..., 0].size, judge_contests(list_contests(right))
        else:
            played = play(right, rule, most)
            trials, judgments = played.trials, played.judgments
        states = np.array([each.state for each in judgments])
        settled = states == State.SETTLED
        shares = settled[true].mean(), settled[true & first].mean()
        rows.append((trials, *shares, (settled & ~true).any()))
    return Yield(*(float(value) for value in np.mean(rows, axis=0)))
