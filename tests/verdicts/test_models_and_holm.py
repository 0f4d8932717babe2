"""Tests of two trained models, and families of tests, against reference implementations."""

from itertools import product

import numpy as np
import pytest
from scipy import stats
from statsmodels.stats.contingency_tables import mcnemar
from statsmodels.stats.multitest import multipletests

from sweep.verdicts.holm import adjust_holm, judge
from sweep.verdicts.models import difference_interval, sign_flip_p

# Enough for a standard error of coverage below 0.2 points.
DRAWS = 20_000


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
