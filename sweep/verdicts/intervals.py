"""The interval of a fraction of texts: how exact an accuracy on so many of them is."""

from statistics import NormalDist

import numpy as np
import numpy.typing as npt

from sweep.verdicts.holm import Array


def wilson_interval(
    accuracy: npt.ArrayLike, n_texts: npt.ArrayLike, confidence: float = 0.95
) -> tuple[Array, Array]:
    """Return the lower and upper end of Wilson's score interval, as fractions.

    ``accuracy`` is the fraction correct of ``n_texts`` texts; NaN gives NaN. Source: E. B. Wilson,
    "Probable inference, the law of succession, and statistical inference", JASA 22 (1927), 209-212;
    recommended over the Wald interval by Brown, Cai and DasGupta, Statistical Science 16 (2001),
    101-133.
    """
    p, n = np.asarray(accuracy, dtype=float), np.asarray(n_texts, dtype=float)
    z = NormalDist().inv_cdf(0.5 + confidence / 2)
    scale = 1 + z**2 / n
    center = (p + z**2 / (2 * n)) / scale
    half = z / scale * np.sqrt(p * (1 - p) / n + z**2 / (4 * n**2))
    # At p = 0 and p = 1 the ends are exactly 0 and 1; rounding may miss them.
    low = np.where(p == 0, 0.0, center - half)
    high = np.where(p == 1, 1.0, center + half)
    return low, high
