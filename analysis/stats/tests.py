"""Intervals and scores of accuracies: pure functions of numbers, each with its source."""

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy import stats

from sweep.verdicts.holm import Array

Numbers = npt.ArrayLike


def normalize_accuracy(accuracy: Numbers, n_labels: Numbers) -> Array:
    """Return the chance-normalized score: 0 at chance, 1 if every text is right.

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


@dataclass(frozen=True)
class Spread:
    """Two reasons why an accuracy could have been different, as standard deviations (fractions)."""

    # Another sample of as many test texts, with the same trained model.
    test: float
    # Another seed, with the same test texts; NaN with one seed, which says nothing about it.
    seed: float


def split_spread(accuracies: Numbers, n_texts: float) -> Spread:
    """Return what the test set and what the seed contribute to the spread of ``accuracies``.

    ``accuracies`` has one value per seed, all on the same ``n_texts`` test texts. The first part is
    the binomial standard error of one seed's accuracy, the second the sample standard deviation
    between seeds. They answer different questions and are not added. Source: X. Bouthillier et
    al., "Accounting for variance in machine learning benchmarks", MLSys 2021 (arXiv 2103.03098).
    """
    values = np.asarray(accuracies, dtype=float)
    mean = float(values.mean())
    seed = float(values.std(ddof=1)) if values.size > 1 else math.nan
    return Spread(test=math.sqrt(mean * (1 - mean) / n_texts), seed=seed)


def t_interval(values: Numbers, confidence: float = 0.95) -> tuple[float, float]:
    """Return Student's interval of the mean of ``values``: where the mean over all seeds lies.

    ``mean +- t(n - 1) * s / sqrt(n)``; NaN for fewer than two values, since one seed says nothing
    about the spread between seeds. Source: Student, "The probable error of a mean", Biometrika 6
    (1908), 1-25.
    """
    array = np.asarray(values, dtype=float)
    if array.size < 2:
        return math.nan, math.nan
    quantile = float(stats.t.ppf(0.5 + confidence / 2, array.size - 1))
    half = quantile * float(array.std(ddof=1)) / math.sqrt(array.size)
    return float(array.mean()) - half, float(array.mean()) + half
