"""Tests over seeds and texts at once, against reference implementations and by hand."""

import numpy as np
import pandas as pd
import pytest
from statsmodels.formula.api import ols
from statsmodels.stats.anova import anova_lm

from analysis.stats.tests import t_interval
from sweep.verdicts.crossed import (
    TINY,
    crossed_interval,
    crossed_p,
    drop_incomplete,
    measure_squares,
    split_variance,
)


def draw_table(seeds: int, texts: int, shift: float = 0.1) -> np.ndarray:
    rng = np.random.default_rng([seeds, texts])
    by_seed, by_text = rng.normal(0, 0.03, (seeds, 1)), rng.normal(0, 0.2, texts)
    return (shift + by_seed + by_text + rng.normal(0, 0.3, (seeds, texts))).round().clip(-1, 1)


def test_mean_squares_agree_with_statsmodels() -> None:
    table = draw_table(4, 30)
    seed, text = np.indices(table.shape)
    frame = pd.DataFrame({"y": table.ravel(), "s": seed.ravel(), "t": text.ravel()})
    anova = anova_lm(ols("y ~ C(s) + C(t)", frame).fit())
    assert measure_squares(table) == pytest.approx(anova["mean_sq"].tolist())


def test_the_variance_of_the_mean_is_that_of_two_crossed_random_effects() -> None:
    table = draw_table(6, 80)
    by_seed, by_text, residual = measure_squares(table)
    crossed = split_variance(table)
    assert crossed is not None
    expected = (by_seed + by_text - residual) / table.size
    assert crossed.by_seed + crossed.by_text == pytest.approx(expected)


def test_where_texts_add_nothing_the_interval_is_students_over_seeds() -> None:
    rng = np.random.default_rng(4)
    table = rng.choice([-1.0, 0, 1], (4, 20_000)) + rng.normal(0, 0.1, (4, 1))
    expected = t_interval(table.mean(axis=1))
    assert crossed_interval(table) == pytest.approx(expected, abs=2e-3)


@pytest.mark.parametrize(("seeds", "texts"), [(2, 50), (3, 200), (8, 400)])
def test_p_is_the_level_at_which_the_interval_excludes_zero(seeds: int, texts: int) -> None:
    table = draw_table(seeds, texts)
    p = crossed_p(table)
    assert TINY < p < 1
    low, high = crossed_interval(table, 1 - p)
    assert min(abs(low), abs(high)) == pytest.approx(0, abs=1e-9)


def test_turning_a_difference_round_turns_its_interval_and_leaves_p() -> None:
    table = draw_table(3, 60)
    low, high = crossed_interval(table)
    assert crossed_interval(-table) == pytest.approx((-high, -low))
    assert crossed_p(-table) == pytest.approx(crossed_p(table))


@pytest.mark.parametrize("shape", [(1, 40), (3, 1), (0, 0), (3, 0)])
def test_one_seed_or_one_text_says_nothing_about_recipes(shape: tuple[int, int]) -> None:
    assert crossed_interval(np.ones(shape)) == (-1, 1)
    assert crossed_p(np.ones(shape)) == 1


def test_models_that_agree_on_every_text_are_not_different() -> None:
    assert crossed_p(np.zeros((3, 100))) == 1
    low, high = crossed_interval(np.zeros((3, 100)))
    assert -0.1 < low < 0 < high < 0.1


def test_equal_numbers_are_not_taken_for_certainty() -> None:
    assert TINY < crossed_p(np.ones((2, 300))) < 0.01
    assert crossed_p(np.ones((10, 3))) > 0.05
    low, high = crossed_interval(np.ones((2, 300)))
    assert low < high == 1


def test_missing_seeds_and_texts_are_left_out() -> None:
    table = draw_table(4, 60)
    holes = np.vstack([table, np.full((1, 60), np.nan)])
    holes[2, 5] = holes[0, 7] = np.nan
    kept = np.delete(table, [5, 7], axis=1)
    assert drop_incomplete(holes).tolist() == kept.tolist()
    assert crossed_interval(holes) == crossed_interval(kept)
    assert crossed_p(holes) == crossed_p(kept)


def test_more_texts_do_not_settle_what_two_seeds_leave_open() -> None:
    ends = [np.tile([[1.0, 0, 0, 0], [0, 0, 0, -1]], n) for n in (50, 5000)]
    assert all(crossed_p(table) > 0.5 for table in ends)
