"""Tests and intervals: pure functions of numbers, each with its source."""

import math
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
from scipy import optimize, stats

Numbers = npt.ArrayLike
Array = npt.NDArray[np.float64]
Verdict = Literal["A better", "B better", "too close to call"]
# The smallest p that is computed; smaller ones are reported as this.
TINY = 1e-12


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
    center = (p + z**2 / (2 * n)) / scale
    half = z / scale * np.sqrt(p * (1 - p) / n + z**2 / (4 * n**2))
    # At p = 0 and p = 1 the ends are exactly 0 and 1; rounding may miss them.
    low = np.where(p == 0, 0.0, center - half)
    high = np.where(p == 1, 1.0, center + half)
    return low, high


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


def sign_flip_p(differences: Numbers) -> float:
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
    chances = np.zeros(2 * size * count + 1)
    chances[:: 2 * size] = stats.binom.pmf(np.arange(count + 1), count, 0.5)
    return chances


@dataclass(frozen=True)
class CrossedMean:
    """A mean over seeds and texts, and what each of the two adds to its variance."""

    mean: float
    by_seed: float
    by_text: float
    seeds: int
    texts: int

    def square_margin(self, level: float) -> float:
        """Return the square of half the width of the interval that misses with ``level``."""
        of_seeds = float(stats.t.isf(level / 2, self.seeds - 1))
        of_texts = float(stats.t.isf(level / 2, self.texts - 1))
        return of_seeds**2 * self.by_seed + of_texts**2 * self.by_text


def crossed_p(differences: Numbers) -> float:
    """Return the two-sided p of a mean difference over seeds and texts, both drawn at random.

    ``differences`` is as for ``crossed_interval``, and p is the level at which that interval just
    excludes 0. The null says that two recipes are equally accurate over all the seeds and texts
    that could have been drawn. 1 where there is no interval.
    """
    crossed = split_variance(differences)
    if crossed is None or crossed.mean == 0:
        return 1.0
    square = crossed.mean**2
    if crossed.square_margin(TINY) <= square:
        return TINY
    log_p: float = optimize.brentq(
        lambda log: crossed.square_margin(math.exp(log)) - square, math.log(TINY), 0.0
    )
    return math.exp(log_p)


def crossed_interval(differences: Numbers, confidence: float = 0.95) -> tuple[float, float]:
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
    if crossed is None:
        return -1.0, 1.0
    half = math.sqrt(crossed.square_margin(1 - confidence))
    return max(-1.0, crossed.mean - half), min(1.0, crossed.mean + half)


def split_variance(differences: Numbers) -> CrossedMean | None:
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
        by_seed=max(ms_seeds, 0.5 / texts) / values.size,
        by_text=max(ms_texts - ms_residual, 2 * seeds / texts) / values.size,
        seeds=seeds,
        texts=texts,
    )


def drop_incomplete(values: Numbers) -> Array:
    """Return ``values`` (seeds x texts) without seeds that have no value and, of the texts, only
    those that every other seed has."""
    array = np.asarray(values, dtype=float)
    array = array[~np.isnan(array).all(axis=1)]
    return np.asarray(array[:, ~np.isnan(array).any(axis=0)])


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


def difference_interval(differences: Numbers, confidence: float = 0.95) -> tuple[float, float]:
    """Return an interval for the mean of paired ``differences``, one per text, each from -1 to 1.

    Wald's interval after adding one text to each side (+1 and -1). Source: D. G. Bonett and R. M.
    Price, "Adjusted Wald confidence interval for a difference of binomial proportions based on
    paired data", Journal of Educational and Behavioral Statistics 37 (2012), 479-488; for one model
    each it is theirs; for several, the differences are means over them.
    """
    padded = np.concatenate([np.asarray(differences, dtype=float), [1.0, -1.0]])
    center = float(padded.mean())
    z = float(stats.norm.ppf(0.5 + confidence / 2))
    half = z * float(padded.std()) / math.sqrt(padded.size)
    return max(-1.0, center - half), min(1.0, center + half)


def adjust_holm(p_values: Numbers) -> Array:
    """Return the p-values, adjusted for the number of them (the family), in the order given.

    With these, the chance of rejecting any true null stays at the level, however the tests depend
    on each other. Source: S. Holm, "A simple sequentially rejective multiple test
    procedure", Scandinavian Journal of Statistics 6 (1979), 65-70.
    """
    p = np.asarray(p_values, dtype=float)
    order = np.argsort(p, kind="stable")
    steps = np.maximum.accumulate((p.size - np.arange(p.size)) * p[order])
    adjusted = np.empty_like(p)
    adjusted[order] = np.minimum(1.0, steps)
    return adjusted


def judge(difference: float, p: float, level: float = 0.05) -> Verdict:
    """Return which of A and B is better, or that it is too close to call.

    ``difference`` is A's accuracy minus B's, ``p`` the adjusted p-value of their comparison.
    """
    if not p < level or difference == 0:
        return "too close to call"
    return "A better" if difference > 0 else "B better"
