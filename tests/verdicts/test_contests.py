"""Verdicts and states of contests whose outcome is known, and what holds for all of them."""

import math
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sweep.verdicts import ONE_LOOK, SCHEDULE, Contest, Judgment, State, judge_contests
from sweep.verdicts.crossed import crossed_interval, crossed_p
from sweep.verdicts.models import sign_flip_p
from sweep.verdicts.moderation import count_independent


def make(differences: object, a: str = "a", b: str = "b", n_labels: int = 2) -> Contest:
    return Contest(n_labels, 800, a, b, np.asarray(differences, dtype=float))


def judge_one(differences: object, *args: object) -> Judgment:
    (judgment,) = judge_contests([make(differences)], *args)  # type: ignore[arg-type]
    return judgment


def draw(
    seeds: int, texts: int = 300, gap: float = 0.0, spread: float = 0.0, at: int = 0
) -> np.ndarray:
    """Return a table whose rows differ by exactly ``gap`` on average, if ``spread`` is 0."""
    rng = np.random.default_rng([seeds, texts, at])
    means = gap + spread * rng.normal(size=seeds)
    table = np.zeros((seeds, texts))
    for row, mean in zip(table, means, strict=True):
        ahead = round(texts * (0.1 + mean / 2))
        behind = round(texts * (0.1 - mean / 2))
        row[:ahead] = 1
        row[ahead : ahead + behind] = -1
        rng.shuffle(row)
    return table


def test_one_contest_and_one_look_is_the_crossed_test() -> None:
    table = draw(5, gap=0.05, spread=0.02)
    judgment = judge_one(table)
    assert judgment.p == judgment.p_holm == pytest.approx(crossed_p(table))
    assert (judgment.low, judgment.high) == pytest.approx(crossed_interval(table))
    assert (judgment.difference, judgment.seeds) == (pytest.approx(table.mean()), 5)


def test_one_seed_keeps_mcnemars_test_and_stays_open() -> None:
    table = np.array([[1.0] * 20 + [-1] * 2 + [0] * 78])
    judgment = judge_one(table, SCHEDULE)
    assert judgment.p == pytest.approx(sign_flip_p(table[0].astype(int)))
    assert (judgment.verdict, judgment.state) == ("A better", State.OPEN)


@pytest.mark.parametrize("shape", [(0, 0), (0, 40), (3, 0)])
def test_a_contest_without_results_is_open(shape: tuple[int, int]) -> None:
    judgment = judge_one(np.empty(shape), SCHEDULE)
    assert math.isnan(judgment.difference)
    assert (judgment.low, judgment.high, judgment.p) == (-1, 1, 1)
    assert (judgment.verdict, judgment.state) == ("too close to call", State.OPEN)


def test_a_clear_difference_is_settled_whoever_is_named_first() -> None:
    table = draw(5, gap=0.15)
    assert judge_one(table, SCHEDULE).verdict == "A better"
    turned = judge_one(-table, SCHEDULE)
    assert (turned.verdict, turned.state) == ("B better", State.SETTLED)


def test_equal_accuracies_with_every_seed_are_too_close_to_matter() -> None:
    judgment = judge_one(draw(8, texts=2000), SCHEDULE)
    assert judgment.state == State.TOO_CLOSE
    assert judge_one(draw(8, texts=2000), SCHEDULE, 0.0).state != State.TOO_CLOSE


def test_few_texts_limit_what_seeds_can_show() -> None:
    # Every seed is right on the same texts, so each further one says the same.
    row = np.array([1.0] * 7 + [-1] * 3 + [0] * 50)
    judgment = judge_one(np.tile(row, (5, 1)), SCHEDULE)
    assert (judgment.verdict, judgment.state) == ("too close to call", State.LIMITED)
    many = judge_one(np.tile(np.repeat(row, 10), (5, 1)), SCHEDULE)
    assert many.state == State.SETTLED


def test_a_difference_that_seeds_hide_is_open() -> None:
    assert judge_one(draw(3, gap=0.04, spread=0.03), SCHEDULE).state == State.OPEN


def test_what_is_given_up_limits_what_others_can_reach() -> None:
    row = np.array([1.0] * 27 + [-1] * 12 + [0] * 401)
    contest = make(np.tile(row, (3, 1)), "x", "y")
    alone = judge_contests([contest], SCHEDULE)[0].state
    close = [make(draw(3, 4000, at=i), "x", f"z{i}") for i in range(60)]
    *others, last = judge_contests([*close, contest], SCHEDULE)
    assert {each.state for each in others} == {State.TOO_CLOSE}
    assert (alone, last.state) == (State.OPEN, State.LIMITED)


def test_a_look_sees_its_first_seeds_alone() -> None:
    table = draw(8, gap=0.06, spread=0.02)
    p = [crossed_p(table[:size]) / weight for size, weight in SCHEDULE.list_passed(8)]
    judgment = judge_one(table, SCHEDULE)
    assert judgment.p == pytest.approx(min(1.0, *p))
    # Seeds since the last look change what is shown, and no verdict.
    more = np.vstack([table, np.ones((3, 300))])
    later = judge_one(more, SCHEDULE)
    assert (later.p, later.low, later.high) == (judgment.p, judgment.low, judgment.high)
    assert later.difference > judgment.difference


def test_a_verdict_stays_whatever_later_seeds_say() -> None:
    first = draw(5, gap=0.15)
    later = np.vstack([first, draw(7, gap=-0.15)])
    assert judge_one(first, SCHEDULE).verdict == "A better"
    assert judge_one(later, SCHEDULE).verdict == "A better"
    assert judge_one(later).verdict == "too close to call"


def test_of_m_recipes_m_less_one_comparisons_are_independent() -> None:
    names = "abcde"
    full = [make([[0]], a, b, k) for k in (2, 4) for a in names for b in names if a < b]
    assert count_independent(each.recipes for each in full) == 2 * 4
    assert count_independent([("a", "b"), ("c", "d")]) == 2
    assert count_independent([]) == 0


def test_no_contests_give_no_judgments() -> None:
    assert judge_contests([]) == []


tables = st.builds(
    lambda seeds, gap, spread, at: draw(seeds, 60, gap, spread, at).round(),
    st.integers(0, 9),
    st.floats(-0.1, 0.1),
    st.floats(0, 0.05),
    st.integers(0, 99),
)
grids = st.lists(tables, min_size=1, max_size=8)


def name(differences: Sequence[np.ndarray]) -> list[Contest]:
    pairs = [(a, b) for b in "abcdefgh" for a in "abcdefgh" if a < b]
    return [make(each, *pair) for each, pair in zip(differences, pairs, strict=False)]


@settings(deadline=None, max_examples=40)
@given(grids, st.randoms(use_true_random=False), st.sampled_from([ONE_LOOK, SCHEDULE]))
def test_the_order_of_contests_does_not_matter(grid, chance, looks) -> None:  # type: ignore[no-untyped-def]
    contests = name(grid)
    before = dict(zip(range(len(contests)), judge_contests(contests, looks), strict=True))
    order = list(before)
    chance.shuffle(order)
    after = judge_contests([contests[i] for i in order], looks)
    for place, judgment in zip(order, after, strict=True):
        old = before[place]
        assert (judgment.verdict, judgment.state) == (old.verdict, old.state)
        assert judgment.p_holm == pytest.approx(old.p_holm)


@settings(deadline=None, max_examples=40)
@given(grids)
def test_no_p_over_looks_is_below_that_of_every_look_alone(grid) -> None:  # type: ignore[no-untyped-def]
    contests = name(grid)
    judgments = judge_contests(contests, SCHEDULE)
    for place, judgment in enumerate(judgments):
        passed = SCHEDULE.list_passed(judgment.seeds)
        short = [
            [replace(each, differences=each.differences[:size]) for each in contests]
            for size, _ in passed
        ]
        alone = [judge_contests(each)[place].p for each in short]
        shares = [p / weight for p, (_, weight) in zip(alone, passed, strict=True)]
        if shares:
            assert judgment.p == pytest.approx(min(1.0, *shares))
            assert judgment.p >= min(alone)


@settings(deadline=None, max_examples=60)
@given(grids, st.sampled_from([ONE_LOOK, SCHEDULE]))
def test_an_interval_excludes_zero_where_p_is_below_the_level(grid, looks) -> None:  # type: ignore[no-untyped-def]
    for judgment in judge_contests(name(grid), looks):
        if judgment.seeds > 1 and abs(judgment.p - 0.05) > 1e-6:
            assert (judgment.low > 0 or judgment.high < 0) == (judgment.p < 0.05)
        assert judgment.p <= judgment.p_holm <= 1
        if judgment.verdict == "A better" and judgment.seeds > 1:
            assert judgment.low > 0
            assert judgment.state == State.SETTLED


def test_missing_predictions_are_left_out_of_their_look() -> None:
    table = draw(5, gap=0.05, spread=0.02)
    holes = np.vstack([table[:2], np.full((1, 300), np.nan), table[2:]])
    assert judge_one(holes, SCHEDULE).p == pytest.approx(judge_one(table, SCHEDULE).p)
    holes[4, 7] = math.nan
    kept = np.delete(table, 7, axis=1)
    # The third look has the seed without the text, the first two do not.
    p = [crossed_p(each) for each in (table[:2], table[:3], kept)]
    shares = [each / weight for each, weight in zip(p, SCHEDULE.weights, strict=False)]
    assert judge_one(holes, SCHEDULE).p == pytest.approx(min(1.0, *shares))
