"""Moderated variances: Smyth's numbers by another way, and where nothing is borrowed."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import optimize, stats

from sweep.verdicts.crossed import CrossedMean, split_variance
from sweep.verdicts.moderation import FEWEST, fit_prior, invert_trigamma, log_bias, moderate


def draw_variances(count: int, freedom: int, prior: float, scale: float) -> np.ndarray:
    """Return variances with ``freedom``, whose true values are scaled inverse chi-squares."""
    rng = np.random.default_rng([count, freedom])
    true = scale * prior / rng.chisquare(prior, count)
    return np.asarray(true * rng.chisquare(freedom, count) / freedom)


@given(st.floats(1e-4, 1e4))
def test_the_inverse_of_the_trigamma_function_is_its_inverse(value: float) -> None:
    at = invert_trigamma(value)
    # The derivative of digamma, by the variance of a log-gamma variable.
    assert stats.loggamma.var(at) == pytest.approx(value, rel=1e-6)


def test_the_bias_of_a_log_variance_is_the_mean_of_a_log_chi_square() -> None:
    mean = stats.chi2.expect(np.log, args=(5,)) - np.log(5)
    assert log_bias(np.array([5.0]))[0] == pytest.approx(mean, rel=1e-6)


def test_with_many_comparisons_the_prior_is_smyths() -> None:
    variances = draw_variances(200_000, 4, prior=6.0, scale=1.5)
    prior = fit_prior(variances, np.full(variances.size, 4.0), variances.size)
    # Marginally, a variance is ``scale`` times an F: fitted by its log's variance with scipy alone.
    spread = np.log(variances).var(ddof=1)
    excess = spread - stats.loggamma.var(2)
    smyth = optimize.brentq(lambda d: stats.loggamma.var(d / 2) - excess, 0.1, 100)
    assert smyth == pytest.approx(6.0, rel=0.05)
    assert 0.95 * smyth < prior.freedom < smyth
    # The mean of an inverse chi-square is ``scale d0 / (d0 - 2)``.
    assert prior.scale == pytest.approx(1.5 * 6 / 4, rel=0.02)


def test_a_moderated_variance_is_the_mean_weighted_by_degrees_of_freedom() -> None:
    rng = np.random.default_rng(0)
    tables = rng.normal(0, 0.3, (40, 3, 200)) + rng.normal(0, 0.02, (40, 3, 1))
    means = [mean for table in tables if (mean := split_variance(table))]
    ratios = np.array([mean.ms_seeds / mean.ms_residual for mean in means])
    prior = fit_prior(ratios, np.full(40, 2.0), 40)
    assert 1 < prior.freedom < 78
    for mean, moderated in zip(means, moderate(means, 40), strict=True):
        pooled = prior.scale * mean.ms_residual
        expected = (prior.freedom * pooled + 2 * mean.ms_seeds) / (prior.freedom + 2)
        assert moderated.ms_seeds == pytest.approx(expected)
        assert moderated.seed_df == pytest.approx(prior.freedom + 2)
        assert (moderated.mean, moderated.by_text) == (mean.mean, mean.by_text)


def test_no_variance_gets_more_degrees_of_freedom_than_all_comparisons_have() -> None:
    rng = np.random.default_rng(1)
    for table in rng.normal(0, 0.3, (50, 4, 5, 100)):
        means = [mean for each in table if (mean := split_variance(each))]
        assert max(mean.seed_df for mean in moderate(means, FEWEST)) <= FEWEST * 4


@pytest.mark.parametrize(("count", "independent"), [(1, 1), (3, 2), (2, 5)])
def test_few_comparisons_borrow_nothing(count: int, independent: int) -> None:
    tables = np.random.default_rng(2).normal(0, 0.3, (count, 3, 50))
    means = [mean for table in tables if (mean := split_variance(table))]
    assert moderate(means, independent) == means


def test_variances_that_differ_widely_borrow_little() -> None:
    calm = fit_prior(draw_variances(60, 4, 1e6, 1.0), np.full(60, 4.0), 60)
    wild = fit_prior(draw_variances(60, 4, 1.0, 1.0), np.full(60, 4.0), 60)
    assert wild.freedom < 1.5 < 5 < calm.freedom


def test_seeds_that_get_the_same_texts_right_neither_lend_nor_borrow() -> None:
    rng = np.random.default_rng(3)
    same_texts = np.tile(rng.choice([-1.0, 0, 1], 50), (3, 1))
    tables = [same_texts, *rng.choice([-1.0, 0, 1], (8, 3, 50))]
    means = [mean for table in tables if (mean := split_variance(table))]
    same, *others = moderate(means, 9)
    assert same == means[0]
    assert others == moderate(means[1:], 9)


def test_comparisons_with_unequal_seeds_share_one_prior() -> None:
    rng = np.random.default_rng(4)
    tables = [rng.normal(0, 0.3, (seeds, 100)) for seeds in (2, 3, 5, 8) for _ in range(10)]
    means: list[CrossedMean] = [mean for table in tables if (mean := split_variance(table))]
    gained = {
        after.seed_df - before.seed_df
        for before, after in zip(means, moderate(means, 40), strict=True)
    }
    assert max(gained) == pytest.approx(min(gained))
    assert min(gained) > 3
