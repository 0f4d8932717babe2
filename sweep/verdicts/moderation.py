"""The variance between seeds, moderated: each comparison borrows strength from all others.

With few seeds a comparison's own variance between seeds has one to four degrees of freedom. Smyth's
empirical Bayes takes the true variances as draws from a scaled inverse chi-square around ``scale``
s0^2 with ``freedom`` d0. The moderated variance ``(d0 s0^2 + d s^2) / (d0 + d)`` has ``d0 + d``
degrees of freedom. d0 comes from the spread of the log variances, whose own noise has the trigamma
function as its variance (G. K. Smyth, "Linear models and empirical Bayes methods for assessing
differential expression in microarray experiments", Statistical Applications in Genetics and
Molecular Biology 3:3 (2004)). What is moderated is a variance's ratio to the residual mean square,
since variances change with the number of labels and texts.

Smyth's own estimates call too much here: there are dozens of comparisons of a few recipes, not
thousands of genes, and one recipe may vary far more than another. With two or three seeds Holm's
family-wise error is then several times its level (``tests/verdicts/test_grid_rates.py``). So each
choice errs on the side of borrowing less:

- d0 comes from the spread of the log variances plus one standard error of that spread. (B. Phipson
  et al., "Robust hyperparameter estimation protects against hypervariable genes", Annals of Applied
  Statistics 10 (2016), 946-963, lower d0 for outliers; this lowers it for all.)
- s0^2 is the mean of the variances, which a wild recipe raises, and not their geometric mean.
- Comparisons that share a recipe are not independent. Of m recipes, m - 1 comparisons count in the
  standard error, and no variance has more degrees of freedom than those have together.
- With fewer than FEWEST such comparisons nothing is borrowed.

``python -m benchmarks.verdicts`` measures what that leaves of the error and of the gain.
"""

import math
from collections.abc import Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from scipy import special

from sweep.verdicts.crossed import CrossedMean
from sweep.verdicts.holm import Array

# With fewer independent comparisons nothing can be said about the spread of their variances.
FEWEST = 3
# More degrees of freedom than this are as good as infinitely many.
_MOST_FREEDOM = 1e9


@dataclass(frozen=True)
class Prior:
    """What the variances of all comparisons have in common, as a scaled inverse chi-square."""

    # What variances are drawn around, as a ratio to the residual mean square.
    scale: float
    # How many degrees of freedom that is worth; 0: nothing.
    freedom: float
    # No moderated variance has more degrees of freedom than this.
    most: float


NO_PRIOR = Prior(1.0, 0.0, 0.0)


def moderate(means: Sequence[CrossedMean], independent: int) -> list[CrossedMean]:
    """Return ``means`` with moderated variances between seeds.

    ``independent`` is the number of comparisons among them that are independent of each other.
    """
    known = [m for m in means if _has_residual(m)]
    ratios = np.array([m.ms_seeds / m.ms_residual for m in known])
    prior = fit_prior(ratios, np.array([m.seed_df for m in known]), independent)
    return [_moderate(m, prior) if _has_residual(m) else m for m in means]


def _has_residual(mean: CrossedMean) -> bool:
    """Return whether seeds differ in the texts that they get right: with all alike there is no
    ratio, and rounding must not make one."""
    return mean.ms_residual >= 0.5 / mean.texts


def _moderate(mean: CrossedMean, prior: Prior) -> CrossedMean:
    freedom = max(mean.seed_df, min(mean.seed_df + prior.freedom, prior.most))
    borrowed = freedom - mean.seed_df
    total = borrowed * prior.scale * mean.ms_residual + mean.seed_df * mean.ms_seeds
    floor = 0.5 / mean.texts
    return replace(mean, ms_seeds=max(total / freedom, floor), seed_df=freedom)


def fit_prior(variances: Array, freedoms: Array, independent: int) -> Prior:
    """Return the prior of ``variances`` with their degrees of freedom, ``independent`` of them
    independent of each other."""
    if min(independent, variances.size) < FEWEST:
        return NO_PRIOR
    logs, noise = np.log(variances) - log_bias(freedoms), trigamma(freedoms / 2)
    weights = 1 / noise
    total = weights.sum()
    center = float(weights @ logs / total)
    # With equal noise, the sample variance less the noise.
    left = weights * (1 - weights / total)
    excess = float(weights @ (logs - center) ** 2 - left @ noise) / float(left.sum())
    excess = max(excess, 0.0)
    error = _measure_error(weights, noise + excess, freedoms) / math.sqrt(independent - 1)
    spread = excess + error
    return Prior(
        scale=float(freedoms @ variances / freedoms.sum()),
        freedom=2 * invert_trigamma(spread),
        most=float(freedoms.mean()) * independent,
    )


def _measure_error(weights: Array, spread: Array, freedoms: Array) -> float:
    """Return the standard deviation of a squared log with variance ``spread``, on average."""
    # The excess kurtosis of the log of a chi-square: 4 with one degree of freedom.
    kurtosis = special.polygamma(3, freedoms / 2) / trigamma(freedoms / 2) ** 2
    shares = weights / weights.mean()
    return float(np.sqrt((shares**2 * spread**2 * (2 + kurtosis)).mean()))


def count_independent(pairs: Iterable[tuple[Hashable, Hashable]]) -> int:
    """Return how many comparisons of ``pairs`` of recipes are independent: of m recipes that are
    all compared with each other, m - 1."""
    above: dict[Hashable, Hashable] = {}
    joined = 0
    for pair in pairs:
        first, second = (_find_root(recipe, above) for recipe in pair)
        joined += first != second
        above[first] = second
    return joined


def _find_root(recipe: Hashable, above: Mapping[Hashable, Hashable]) -> Hashable:
    while above.get(recipe, recipe) != recipe:
        recipe = above[recipe]
    return recipe


def log_bias(freedoms: Array) -> Array:
    """Return the mean of the log of a chi-square divided by its degrees of freedom."""
    return np.asarray(special.digamma(freedoms / 2) - np.log(freedoms / 2))


def trigamma(values: Array) -> Array:
    return np.asarray(special.polygamma(1, values))


def invert_trigamma(value: float) -> float:
    """Return the argument at which the trigamma function is ``value``, by Newton's method on its
    reciprocal, which is nearly linear (Smyth's appendix)."""
    if value * _MOST_FREEDOM < 2:
        return _MOST_FREEDOM / 2
    y = 0.5 + 1 / value
    for _ in range(50):
        at = float(special.polygamma(1, y))
        step = at * (1 - at / value) / float(special.polygamma(2, y))
        y += step
        if -step < 1e-9 * y:
            break
    return y
