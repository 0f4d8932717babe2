"""Statistics agree with reference implementations, and intervals have their nominal coverage."""

import numpy as np
import pytest
from statsmodels.stats.proportion import proportion_confint
from statsmodels.stats.weightstats import DescrStatsW

from analysis.stats.tests import (
    normalize_accuracy,
    split_spread,
    t_interval,
)
from sweep.verdicts.intervals import wilson_interval

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
