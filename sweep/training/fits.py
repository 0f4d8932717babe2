"""The reference methods, fitted: the majority class, and logistic regression on TF-IDF or on the
features of a pretrained model. Imports neither torch nor what computes metrics."""

import warnings
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.exceptions import ConvergenceWarning
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_union
from sklearn.preprocessing import StandardScaler

from sweep.data import Subset
from sweep.training.text_features import TextFeatures

# Inverse regularization strengths of the logistic regression; validation chooses.
STRENGTHS = (1.0, 4.0, 16.0)
# The same on features of a model, for texts whose vectors have a length of about 1.
FEATURE_STRENGTHS = (0.1, 0.3, 1.0, 3.0, 10.0, 30.0, 100.0)

# From texts to class indices.
Predict = Callable[[Sequence[str]], list[int]]


@dataclass(frozen=True)
class Constant:
    """Predicts the same class for every text."""

    index: int

    def __call__(self, texts: Sequence[str]) -> list[int]:
        return [self.index] * len(texts)


@dataclass(frozen=True)
class Linear:
    """A linear model of what ``features`` makes of texts."""

    features: Any
    model: LogisticRegression

    def __call__(self, texts: Sequence[str]) -> list[int]:
        return [int(index) for index in self.model.predict(self.features.transform(texts))]


@dataclass(frozen=True)
class Readout:
    """A linear model of a pretrained model's vectors (texts, width)."""

    scaler: StandardScaler
    model: LogisticRegression

    def __call__(self, vectors: NDArray[np.float32]) -> list[int]:
        found: list[int] = self.model.predict(self.scaler.transform(vectors)).tolist()
        return found


def fit_majority(training: Subset, validation: Subset) -> Constant:
    """Predict the most frequent training class; of equals, the first."""
    counts = Counter(training.classes)
    return Constant(min(counts, key=lambda index: (-counts[index], index)))


def fit_tf_idf(
    training: Subset, validation: Subset, strengths: Sequence[float] = STRENGTHS
) -> Linear:
    """Fit logistic regression on TF-IDF of word 1-2-grams and in-word character 2-5-grams.

    Accuracy on ``validation`` chooses its strength, just as it chooses among a model's candidates.
    Joachims 1998 (doi:10.1007/BFb0026683) and Wang and Manning 2012 (ACL P12-2018) found such
    linear models hard to beat on short texts.
    """
    features = make_union(
        _build_words(training.texts),
        TfidfVectorizer(analyzer="char_wb", ngram_range=(2, 5), sublinear_tf=True),
    )
    x = features.fit_transform(training.texts)
    held = features.transform(validation.texts)
    models = [LogisticRegression(C=c, max_iter=1000).fit(x, training.classes) for c in strengths]
    best = max(models, key=lambda model: model.score(held, validation.classes))
    return Linear(features, best)


def _build_words(texts: Sequence[str]) -> TfidfVectorizer:
    # Where no text has a word of two letters (single amino acids or emoji, say), whatever stands
    # between spaces is a word.
    usual = TfidfVectorizer(ngram_range=(1, 2), sublinear_tf=True)
    find_words = usual.build_analyzer()
    if any(find_words(text) for text in texts):
        return usual
    return TfidfVectorizer(ngram_range=(1, 2), sublinear_tf=True, token_pattern=r"\S+")


def fit_readout(features: TextFeatures, training: Subset, validation: Subset) -> Readout:
    """Fit logistic regression on the standardized features of a model.

    Accuracy on ``validation`` chooses its strength, the smallest of equals. Standardized, a feature
    counts for what it varies, whatever its scale: measured on the last layers of MiniLM and
    SmolLM2, that is as accurate or better, and takes a tenth of the iterations.
    """
    scaler = StandardScaler().fit(features.take(training.texts))
    x, held = (scaler.transform(features.take(each.texts)) for each in (training, validation))

    def fit(strength: float) -> LogisticRegression:
        # A standardized vector is about as long as the root of its width.
        model = LogisticRegression(C=strength / x.shape[1], max_iter=1000)
        return model.fit(x, training.classes)

    with warnings.catch_warnings():
        # One that does not converge competes as it is: validation judges it.
        warnings.simplefilter("ignore", ConvergenceWarning)
        models = [fit(strength) for strength in FEATURE_STRENGTHS]
    best = max(models, key=lambda model: model.score(held, validation.classes))
    return Readout(scaler, best)


FITS: dict[str, Callable[[Subset, Subset], Predict]] = {
    "majority": fit_majority,
    "tf-idf": fit_tf_idf,
}
