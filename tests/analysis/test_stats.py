"""Statistics agree with reference implementations, and intervals have their nominal coverage."""

from itertools import product

import numpy as np
import pandas as pd
import pytest
from scipy import stats
from statsmodels.formula.api import ols
from statsmodels.stats.anova import anova_lm
from statsmodels.stats.contingency_tables import mcnemar
from statsmodels.stats.multitest import multipletests
from statsmodels.stats.proportion import proportion_confint
from statsmodels.stats.weightstats import DescrStatsW

from analysis.stats.tests import (
    TINY,
    adjust_holm,
    crossed_interval,
    crossed_p,
    difference_interval,
    drop_incomplete,
    judge,
    measure_squares,
    normalize_accuracy,
    sign_flip_p,
    split_spread,
    split_variance,
    t_interval,
    wilson_interval,
)

# Enough for a standard error of coverage below 0.2 points.
DRAWS = 20_000

# Agreement with reference implementations


@pytest.mark.parametrize(("right", "texts"), [(0, 10), (1, 10), (250, 320), (10, 10), (1, 1)])
def test_wilson_interval_agrees_with_statsmodels(right: int, texts: int) -> None:
    expected = proportion_confint(right, texts, method="wilson")
    assert wilson_interval(right / texts, texts) == pytest.approx(expected, abs=1e-12)


def test_wilson_interval_of_all_right_ends_at_one() -> None:
    low, high = wilson_interval([0.0, 1.0], [7, 7])
    assert low[0] == 0
    assert high[1] == 1


def test_wilson_interval_of_nothing_is_nothing() -> None:
    assert np.isnan(wilson_interval(float("nan"), float("nan"))).all()


def test_chance_is_zero_and_perfection_is_one() -> None:
    assert normalize_accuracy([0.5, 1.0, 0.25], [2, 2, 4]).tolist() == [0, 1, 0]
    assert normalize_accuracy(0.0, 2) == -1


@pytest.mark.parametrize("confidence", [0.9, 0.95])
def test_t_interval_agrees_with_statsmodels(confidence: float) -> None:
    values = [0.81, 0.78, 0.84, 0.8]
    expected = DescrStatsW(values).tconfint_mean(alpha=1 - confidence)
    assert t_interval(values, confidence) == pytest.approx(expected, abs=1e-12)


def test_one_seed_has_no_t_interval() -> None:
    assert np.isnan(t_interval([0.8])).all()


@pytest.mark.parametrize(("b", "c"), [(0, 0), (1, 0), (5, 5), (3, 11), (40, 21), (300, 250)])
def test_sign_flips_of_one_seed_are_mcnemars_test_of_statsmodels(b: int, c: int) -> None:
    expected = mcnemar([[50, b], [c, 50]], exact=True).pvalue
    assert sign_flip_p([1] * b + [-1] * c) == pytest.approx(expected, abs=1e-12)
    assert sign_flip_p([1] * b + [-1] * c + [0] * 20) == pytest.approx(expected, abs=1e-12)


def test_sign_flips_agree_with_every_flip_counted() -> None:
    differences = np.array([2, 1, 0, -1, 2, 1, 1, -2, 3])
    sums = [abs((differences * signs).sum()) for signs in product([1, -1], repeat=9)]
    expected = np.mean([each >= abs(differences.sum()) for each in sums])
    assert sign_flip_p(differences) == pytest.approx(expected, abs=1e-12)


def test_holm_agrees_with_statsmodels() -> None:
    p = [0.04, 0.001, 0.2, 0.03, 0.9, 0.001]
    assert adjust_holm(p) == pytest.approx(multipletests(p, method="holm")[1], abs=1e-12)
    assert adjust_holm([]).size == 0


def test_difference_interval_agrees_with_the_published_formula() -> None:
    b, c, n = 30, 12, 200
    low, high = difference_interval([1] * b + [-1] * c + [0] * (n - b - c))
    pb, pc = (b + 1) / (n + 2), (c + 1) / (n + 2)
    half = stats.norm.ppf(0.975) * np.sqrt((pb + pc - (pb - pc) ** 2) / (n + 2))
    assert (low, high) == pytest.approx((pb - pc - half, pb - pc + half), abs=1e-12)


def test_the_verdict_needs_a_small_p_and_names_the_better() -> None:
    assert judge(0.1, 0.01) == "A better"
    assert judge(-0.1, 0.01) == "B better"
    assert judge(0.1, 0.05) == judge(0.0, 0.0) == judge(0.1, float("nan")) == "too close to call"


# Seeds and texts at once


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


# Two kinds of spread


def test_seeds_without_difference_leave_the_test_sets_spread() -> None:
    spread = split_spread([0.8, 0.8, 0.8], 400)
    assert spread.seed == pytest.approx(0, abs=1e-12)
    assert spread.test == pytest.approx(0.02)


def test_one_seed_leaves_its_spread_unknown() -> None:
    assert np.isnan(split_spread([0.8], 400).seed)


def test_spread_of_seeds_does_not_shrink_with_more_test_texts() -> None:
    small, large = split_spread([0.7, 0.9], 100), split_spread([0.7, 0.9], 10_000)
    assert small.seed == large.seed == pytest.approx(0.1414, abs=1e-4)
    assert small.test == pytest.approx(10 * large.test)


# Nominal coverage, by simulation


@pytest.mark.parametrize("n", [120, 264, 472, 744, 1056, 1400])
@pytest.mark.parametrize("p", [0.3, 0.5, 0.7, 0.82, 0.9])
def test_wilson_interval_covers_as_often_as_it_says(n: int, p: float) -> None:
    right = np.random.default_rng([n, int(100 * p)]).binomial(n, p, DRAWS)
    low, high = wilson_interval(right / n, n)
    assert 0.93 <= np.mean((low <= p) & (p <= high)) <= 0.97


@pytest.mark.parametrize("seeds", [2, 3, 5])
def test_t_interval_covers_as_often_as_it_says(seeds: int) -> None:
    draws = np.random.default_rng(seeds).normal(0.8, 0.02, (4000, seeds))
    ends = np.array([t_interval(draw) for draw in draws])
    assert 0.93 <= np.mean((ends[:, 0] <= 0.8) & (ends[:, 1] >= 0.8)) <= 0.97


@pytest.mark.parametrize("n", [120, 472, 1400])
@pytest.mark.parametrize(("b", "c"), [(0.1, 0.1), (0.12, 0.06), (0.25, 0.15)])
def test_difference_interval_covers_as_often_as_it_says(n: int, b: float, c: float) -> None:
    counts = np.random.default_rng([n, int(100 * b)]).multinomial(n, [b, c, 1 - b - c], 4000)
    ends = np.array([difference_interval(np.repeat([1, -1, 0], row)) for row in counts])
    covered = (ends[:, 0] <= b - c) & (ends[:, 1] >= b - c)
    assert 0.93 <= covered.mean() <= 0.97


@pytest.mark.parametrize("n", [120, 472, 1400])
@pytest.mark.parametrize("disagreement", [0.05, 0.2, 0.4])
def test_mcnemar_calls_equal_models_different_no_more_often_than_nominal(
    n: int, disagreement: float
) -> None:
    rng = np.random.default_rng([n, int(100 * disagreement)])
    both = rng.binomial(n, disagreement, DRAWS)
    only_a = rng.binomial(both, 0.5)
    pairs, counts = np.unique([only_a, both - only_a], axis=1, return_counts=True)
    wrong = sum(
        k for b, c, k in zip(*pairs, counts, strict=True) if sign_flip_p([1] * b + [-1] * c) < 0.05
    )
    # A rate of exactly 0.05 would exceed this in one of about a thousand simulations.
    assert wrong / DRAWS <= 0.05 + 3 * np.sqrt(0.05 * 0.95 / DRAWS)


def test_sign_flips_over_seeds_call_equal_models_different_no_more_often_than_nominal() -> None:
    rng = np.random.default_rng(7)
    ability = rng.beta(4, 1, (1500, 1, 1, 200))
    right = rng.random((1500, 2, 3, 200)) < ability
    differences = right[:, 0].sum(axis=1).astype(int) - right[:, 1].sum(axis=1)
    wrong = np.mean([sign_flip_p(row) < 0.05 for row in differences])
    assert wrong <= 0.05 + 3 * np.sqrt(0.05 * 0.95 / 1500)


def test_holm_rarely_finds_any_difference_where_there_is_none() -> None:
    p = np.random.default_rng(3).random((4000, 48))
    found = np.mean([(adjust_holm(row) < 0.05).any() for row in p])
    assert 0.035 <= found <= 0.065
