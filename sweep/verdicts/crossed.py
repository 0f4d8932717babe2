"""The mean difference of two recipes over seeds and texts, both drawn at random."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy import special

from sweep.verdicts.holm import Array

# The smallest p that is computed; smaller ones are reported as this.
TINY = 1e-12
# Halvings of the range of log p; the error that they leave is below 1e-10 of p.
_HALVINGS = 40


@dataclass(frozen=True)
class CrossedMean:
    """A mean over seeds and texts, and what each of the two adds to its variance.

    Mean squares are of one seed's answer to one text, from -1 to 1.
    """

    mean: float
    seeds: int
    texts: int
    # Between seeds, with its degrees of freedom.
    ms_seeds: float
    seed_df: float
    # Between texts; and of these, what exceeds the residual.
    ms_texts: float
    ms_own_texts: float
    ms_residual: float

    @property
    def by_seed(self) -> float:
        """What seeds add to the variance of the mean."""
        return self.ms_seeds / (self.seeds * self.texts)

    @property
    def by_text(self) -> float:
        """What texts add to it; about the same for any number of seeds."""
        return self.ms_own_texts / (self.seeds * self.texts)

    def interval(self, level: float) -> tuple[float, float]:
        """Return the interval that misses with ``level``, within -1 and 1."""
        of_seeds = t_quantile(self.seed_df, level) ** 2 * self.by_seed
        of_texts = t_quantile(self.texts - 1, level) ** 2 * self.by_text
        half = math.sqrt(of_seeds + of_texts)
        return max(-1.0, self.mean - half), min(1.0, self.mean + half)


def t_quantile(freedom: float, level: float) -> float:
    """Return what Student's t exceeds in absolute value with probability ``level``."""
    return -float(special.stdtrit(freedom, level / 2))


def find_levels(means: Sequence[CrossedMean]) -> Array:
    """Return the two-sided p of each of ``means``: the level at which its interval just excludes
    0."""
    columns = [(m.mean**2, m.by_seed, m.seed_df, m.by_text, m.texts - 1.0) for m in means]
    square, by_seed, seed_df, by_text, text_df = np.array(columns).reshape(-1, 5).T
    low, high = np.full(len(means), math.log(TINY)), np.zeros(len(means))
    for _ in range(_HALVINGS):
        half = np.exp((low + high) / 2) / 2
        of_seeds = special.stdtrit(seed_df, half) ** 2 * by_seed
        beyond = of_seeds + special.stdtrit(text_df, half) ** 2 * by_text > square
        low, high = (
            np.where(beyond, (low + high) / 2, low),
            np.where(beyond, high, (low + high) / 2),
        )
    return np.asarray(np.exp(high))


def crossed_p(differences: npt.ArrayLike) -> float:
    """Return the two-sided p of a mean difference over seeds and texts, both drawn at random.

    ``differences`` is as for ``crossed_interval``, and p is the level at which that interval just
    excludes 0. The null says that two recipes are equally accurate over all the seeds and texts
    that could have been drawn. 1 where there is no interval.
    """
    crossed = split_variance(differences)
    return float(find_levels([crossed])[0]) if crossed else 1.0


def crossed_interval(differences: npt.ArrayLike, confidence: float = 0.95) -> tuple[float, float]:
    """Return an interval for the mean of ``differences`` over all seeds and texts there could be.

    ``differences`` has a row per seed and a column per text: A right minus B right, from -1 to 1,
    NaN where a prediction is missing. Seeds and texts are crossed random effects (H. H. Clark, "The
    language-as-fixed-effect fallacy", Journal of Verbal Learning and Verbal Behavior 12 (1973),
    335-359; J. G. W. Raaijmakers et al., Journal of Memory and Language 41 (1999), 416-426; for
    trained models X. Bouthillier et al., arXiv 2103.03098). The mean's variance is ``(MS_seeds +
    MS_texts - MS_residual) / (S T)``; its two parts are multiplied by the square of Student's
    quantile, each for its own degrees of freedom: an interval that covers at least as often as it
    says (S. K. Banerjee, "Approximate confidence interval for linear functions of means of k
    populations when the population variances are not equal", Sankhya 22 (1960), 357-358). The usual
    single quantile with F. E. Satterthwaite's degrees of freedom (Biometrics Bulletin 2 (1946),
    110-114) misses up to twice as often with two seeds: see ``python -m benchmarks.verdicts``.

    (-1, 1) with fewer than two seeds or texts, which say nothing about their spread.
    """
    crossed = split_variance(differences)
    return crossed.interval(1 - confidence) if crossed else (-1.0, 1.0)


def split_variance(differences: npt.ArrayLike) -> CrossedMean | None:
    """Return the mean of ``differences`` (seeds x texts) and its variance by seed and by text.

    Seeds without any value do not count, nor do texts that one of the other seeds lacks. None if
    fewer than two seeds or texts are left. Neither part is smaller than what the count of texts can
    resolve: two seeds that differ by one text, and two texts that go one to each side (as in
    ``difference_interval``), so that equal numbers are not taken for certainty.
    """
    values = drop_incomplete(differences)
    seeds, texts = values.shape
    if min(seeds, texts) < 2:
        return None
    ms_seeds, ms_texts, ms_residual = measure_squares(values)
    return CrossedMean(
        mean=float(values.mean()),
        seeds=seeds,
        texts=texts,
        ms_seeds=max(ms_seeds, 0.5 / texts),
        seed_df=seeds - 1,
        ms_texts=ms_texts,
        ms_own_texts=max(ms_texts - ms_residual, 2 * seeds / texts),
        ms_residual=ms_residual,
    )


def drop_incomplete(values: npt.ArrayLike) -> Array:
    """Return ``values`` (seeds x texts) without seeds that have no value and, of the texts, only
    those that every other seed has."""
    array = np.asarray(values, dtype=float)
    missing = np.isnan(array)
    if not missing.any():
        return array if array.shape[1] else array[:0]
    kept = ~missing.all(axis=1)
    return np.asarray(array[kept][:, ~missing[kept].any(axis=0)])


def measure_squares(values: Array) -> tuple[float, float, float]:
    """Return the mean squares of seeds, texts and residual of a complete table, one value each."""
    seeds, texts = values.shape
    by_seed, by_text = values.mean(axis=1), values.mean(axis=0)
    residual = values - by_seed[:, None] - by_text + values.mean()
    return (
        float(texts * by_seed.var(ddof=1)),
        float(seeds * by_text.var(ddof=1)),
        float((residual**2).sum() / ((seeds - 1) * (texts - 1))),
    )
