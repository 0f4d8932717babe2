"""Comparisons of recipes, judged together: verdicts, and which of them more seeds may settle."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

from sweep.verdicts.crossed import CrossedMean, t_quantile
from sweep.verdicts.holm import LEVEL, Array, Verdict, adjust_holm, judge
from sweep.verdicts.looks import ONE_LOOK, Looks
from sweep.verdicts.tables import Tested, run_tests

# Label count, sample size and model.
Recipe = tuple[int, int, str]
# The smallest difference of accuracies that matters (fraction), unless a run says otherwise.
SMALLEST = 0.01
# Of the interval between seeds that says that a difference is too small to matter, and of the
# optimistic ends that say what infinitely many seeds could show.
STATE_LEVEL = 0.05


class State(StrEnum):
    """What more seeds could do for a comparison."""

    SETTLED = "settled"  # one recipe is called better
    # The difference on these test texts, whatever the seed, is too small to matter: a reason to
    # stop, not a claim about other texts.
    TOO_CLOSE = "too close to matter"
    # These test texts are too few: infinitely many seeds would leave it open.
    LIMITED = "limited by texts"
    OPEN = "open"


@dataclass(frozen=True)
class Contest:
    """One comparison of two recipes at one label count and sample size."""

    n_labels: int
    n_samples: int
    a: str
    b: str
    differences: Array
    """A right minus B right, -1, 0 or 1, NaN where missing: a row per seed, in the order in which
    seeds are given out, and a column per test text."""

    @property
    def recipes(self) -> tuple[Recipe, Recipe]:
        place = (self.n_labels, self.n_samples)
        return (*place, self.a), (*place, self.b)


@dataclass(frozen=True)
class Judgment:
    """What is known of a contest. Differences are A's accuracy minus B's, as fractions."""

    contest: Contest
    # Over all seeds that are there, ``seeds`` of them; NaN without any.
    difference: float
    low: float
    high: float
    # Over all looks; and adjusted for all contests.
    p: float
    p_holm: float
    seeds: int
    verdict: Verdict
    state: State


def judge_contests(
    contests: Sequence[Contest],
    looks: Looks = ONE_LOOK,
    smallest: float = SMALLEST,
    level: float = LEVEL,
) -> list[Judgment]:
    """Return what is known of each of ``contests``, in their order.

    They are one family: p is adjusted by Holm for all of them, those without any seed included.
    With one seed, a verdict speaks of the two trained models and the state is open. ``smallest``
    (fraction) is the smallest difference that matters.
    """
    tested = run_tests(
        [each.differences for each in contests], looks, [each.recipes for each in contests]
    )
    p = [each.p for each in tested]
    adjusted = adjust_holm(p)
    verdicts = [judge(t.direction, q, level) for t, q in zip(tested, adjusted, strict=True)]
    states = _find_states(tested, verdicts, looks, smallest, level)
    return [
        Judgment(
            contest=contest,
            difference=test.difference,
            low=low,
            high=high,
            p=own,
            p_holm=float(holm),
            seeds=test.seeds,
            verdict=verdict,
            state=state,
        )
        for contest, test, (low, high), own, holm, verdict, state in zip(
            contests,
            tested,
            (each.interval(level) for each in tested),
            p,
            adjusted,
            verdicts,
            states,
            strict=True,
        )
    ]


def _find_states(
    tested: Sequence[Tested],
    verdicts: Sequence[Verdict],
    looks: Looks,
    smallest: float,
    level: float,
) -> list[State]:
    states = [_find_state(*each, smallest) for each in zip(tested, verdicts, strict=True)]
    # What is given up takes its share of Holm's level for good, which limits others in turn.
    while True:
        given_up = sum(state in (State.TOO_CLOSE, State.LIMITED) for state in states)
        share = level / (given_up + 1)
        limited = [
            place
            for place, (test, state) in enumerate(zip(tested, states, strict=True))
            if state == State.OPEN and _is_limited(test, share * looks.best_weight(test.seeds))
        ]
        if not limited:
            return states
        for place in limited:
            states[place] = State.LIMITED


def _find_state(test: Tested, verdict: Verdict, smallest: float) -> State:
    if not test.means:
        return State.OPEN
    if verdict != "too close to call":
        return State.SETTLED
    last = test.means[-1]
    furthest = abs(last.mean) + _margin_of_seeds(last)
    return State.TOO_CLOSE if furthest <= smallest else State.OPEN


def _margin_of_seeds(mean: CrossedMean) -> float:
    """Return half the width of the interval of the difference on these test texts."""
    return t_quantile(mean.seed_df, STATE_LEVEL) * math.sqrt(mean.by_seed)


def _is_limited(test: Tested, level: float) -> bool:
    """Return whether texts alone would leave the comparison open at ``level``, if the difference on
    them were the largest that seeds allow and the variance of texts the smallest."""
    if not test.means or not level:
        return False
    last = test.means[-1]
    furthest = abs(last.mean) + _margin_of_seeds(last)
    # One standard error of a mean square is this share of it.
    slack = t_quantile(math.inf, 2 * STATE_LEVEL) * math.sqrt(2 / (last.texts - 1))
    least = max(last.ms_texts * (1 - slack) - last.ms_residual, 2 * last.seeds / last.texts)
    by_text = least / (last.seeds * last.texts)
    return furthest < t_quantile(last.texts - 1, level) * math.sqrt(by_text)
