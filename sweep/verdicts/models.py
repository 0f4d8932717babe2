"""Two trained models, as they are: only texts are random."""

import math

import numpy as np
import numpy.typing as npt
from scipy import special

from sweep.verdicts.holm import Array


def sign_flip_p(differences: npt.ArrayLike) -> float:
    """Return the two-sided exact p of the sign-flip test on integer ``differences``, one per text.

    A text's difference is how many of A's trained models get it right minus how many of B's. Under
    the null its sign is a coin flip, so the sum's distribution is a convolution of scaled
    binomials. With one model each, this is McNemar's exact test; with more, the unit is still the
    text. Only texts are random here: for the models as trained, its rate of false positives never
    exceeds the nominal one; of the same recipes with another seed it says nothing (``crossed_p``).
    Sources: R. A. Fisher, "The Design of Experiments" (1935), section 21; Q. McNemar, "Note on the
    sampling error of the difference between correlated proportions or percentages", Psychometrika
    12 (1947), 153-157.
    """
    sizes = np.abs(np.asarray(differences, dtype=int))
    total = abs(int(np.asarray(differences, dtype=int).sum()))
    chances = np.ones(1)
    for size in range(1, int(sizes.max(initial=0)) + 1):
        chances = np.convolve(chances, _flip_signs(size, int((sizes == size).sum())))
    sums = np.arange(chances.size) - (chances.size - 1) // 2
    return min(1.0, float(chances[np.abs(sums) >= total].sum()))


def _flip_signs(size: int, count: int) -> Array:
    """Return the distribution of the sum of ``count`` coins worth ``-size`` or ``size``, from the
    sum ``-size * count`` up."""
    heads = np.arange(count + 1)
    log_ways = special.gammaln(count + 1) - special.gammaln([heads + 1, count - heads + 1]).sum(0)
    chances = np.zeros(2 * size * count + 1)
    chances[:: 2 * size] = np.exp(log_ways - count * math.log(2))
    return chances


def difference_interval(
    differences: npt.ArrayLike, confidence: float = 0.95
) -> tuple[float, float]:
    """Return an interval for the mean of paired ``differences``, one per text, each from -1 to 1.

    Wald's interval after adding one text to each side (+1 and -1). Source: D. G. Bonett and R. M.
    Price, "Adjusted Wald confidence interval for a difference of binomial proportions based on
    paired data", Journal of Educational and Behavioral Statistics 37 (2012), 479-488; for one model
    each it is theirs; for several, the differences are means over them.
    """
    padded = np.concatenate([np.asarray(differences, dtype=float), [1.0, -1.0]])
    center = float(padded.mean())
    z = float(special.ndtri(0.5 + confidence / 2))
    half = z * float(padded.std()) / math.sqrt(padded.size)
    return max(-1.0, center - half), min(1.0, center + half)
