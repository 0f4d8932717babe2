"""The statistics of the report: pure functions of numbers, each with its source."""

from typing import Any

import numpy as np
import numpy.typing as npt
from scipy import stats

Numbers = npt.ArrayLike
Array = npt.NDArray[np.float64]


def wilson_interval(
    accuracy: Numbers, n_texts: Numbers, confidence: float = 0.95
) -> tuple[Array, Array]:
    """Return the lower and upper end of Wilson's score interval, as fractions.

    ``accuracy`` is the fraction correct of ``n_texts`` texts; NaN gives NaN. Source: E. B. Wilson,
    "Probable inference, the law of succession, and statistical inference", JASA 22 (1927), 209-212;
    recommended over the Wald interval by Brown, Cai and DasGupta, Statistical Science 16 (2001),
    101-133.
    """
    p, n = np.asarray(accuracy, dtype=float), np.asarray(n_texts, dtype=float)
    z = float(stats.norm.ppf(0.5 + confidence / 2))
    scale = 1 + z**2 / n
    centre = (p + z**2 / (2 * n)) / scale
    half = z / scale * np.sqrt(p * (1 - p) / n + z**2 / (4 * n**2))
    # At p = 0 and p = 1 the ends are exactly 0 and 1; rounding may miss them.
    low = np.where(p == 0, 0.0, centre - half)
    high = np.where(p == 1, 1.0, centre + half)
    return low, high


def normalise_accuracy(accuracy: Numbers, n_labels: Numbers) -> Array:
    """Return the chance-normalised score: 0 at chance, 1 when every text is right.

    ``(accuracy - 1/k) / (1 - 1/k)`` for ``k`` balanced labels: Cohen's kappa where the true labels
    are balanced. Source: J. Cohen, "A coefficient of agreement for nominal scales", Educational
    and Psychological Measurement 20 (1960), 37-46; the free-marginal form is R. L. Brennan and
    D. J. Prediger's, the same journal 41 (1981), 687-699.
    """
    chance: Any = chance_level(n_labels)
    return np.asarray((np.asarray(accuracy, dtype=float) - chance) / (1 - chance))


def chance_level(n_labels: Numbers) -> Array:
    """Return the accuracy of a guess among ``n_labels`` balanced labels."""
    return np.asarray(1 / np.asarray(n_labels, dtype=float))
