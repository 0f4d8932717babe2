"""Reference methods on the same subsets and test texts: the majority class, and logistic regression
on TF-IDF or on the features of a pretrained model."""

import time
import warnings
from collections import Counter
from collections.abc import Callable, Sequence
from functools import partial

from sklearn.exceptions import ConvergenceWarning
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_union
from sklearn.preprocessing import StandardScaler

from sweep.data import Subset
from sweep.storage.events import Facts
from sweep.training.metrics import load_metric
from sweep.training.text_features import TextFeatures

# Inverse regularization strengths of the logistic regression; validation chooses.
STRENGTHS = (1.0, 4.0, 16.0)
# The same on features of a model, for texts whose vectors have a length of about 1.
FEATURE_STRENGTHS = (0.1, 0.3, 1.0, 3.0, 10.0, 30.0, 100.0)

Predict = Callable[[Sequence[str]], list[int]]


def run_baseline(name: str, training: Subset, validation: Subset, test: Subset) -> Facts:
    """Fit the baseline ``name`` and return its scores under the names of the results table, plus
    ``predictions`` (class index of each test text). Raises KeyError for an unknown name."""
    return _run(FITS[name], training, validation, test)


def run_on_features(
    features: TextFeatures, training: Subset, validation: Subset, test: Subset
) -> Facts:
    """Fit logistic regression on ``features``, and return what ``run_baseline`` does. The seconds
    include those of the texts' features, as if each subset had its own."""
    scores = _run(partial(fit_features, features), training, validation, test)
    fitting = sum(features.sum_seconds(subset.texts) for subset in (training, validation))
    testing = features.sum_seconds(test.texts)
    return {
        **scores,
        "train_seconds": fitting + (scores["train_seconds"] or 0.0),
        "eval_seconds": testing + (scores["eval_seconds"] or 0.0),
        "wall_seconds": fitting + testing + (scores["wall_seconds"] or 0.0),
    }


def _run(
    fit: Callable[[Subset, Subset], Predict], training: Subset, validation: Subset, test: Subset
) -> Facts:
    start = time.perf_counter()
    predict = fit(training, validation)
    fitted = time.perf_counter()
    chosen = _score(predict(validation.texts), validation)
    predictions = predict(test.texts)
    scores = _score(predictions, test)
    end = time.perf_counter()
    return {
        "val_accuracy": chosen["accuracy"],
        "val_macro_f1": chosen["macro_f1"],
        "test_accuracy": scores["accuracy"],
        "test_macro_f1": scores["macro_f1"],
        "n_validation": len(validation),
        "n_test": len(test),
        "train_seconds": fitted - start,
        "eval_seconds": end - fitted,
        "wall_seconds": end - start,
        "predictions": predictions,
    }


def _score(predictions: list[int], subset: Subset) -> dict[str, float]:
    scores: dict[str, float] = load_metric().compute(
        predictions=predictions, references=list(subset.classes), n_labels=len(subset.labels)
    )
    return scores


def fit_majority(training: Subset, validation: Subset) -> Predict:
    """Predict the most frequent training class; of equals, the first."""
    counts = Counter(training.classes)
    most = min(counts, key=lambda index: (-counts[index], index))
    return lambda texts: [most] * len(texts)


def fit_tf_idf(training: Subset, validation: Subset) -> Predict:
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
    models = [LogisticRegression(C=c, max_iter=1000).fit(x, training.classes) for c in STRENGTHS]
    best = max(models, key=lambda model: model.score(held, validation.classes))
    return lambda texts: [int(index) for index in best.predict(features.transform(texts))]


def _build_words(texts: Sequence[str]) -> TfidfVectorizer:
    # Where no text has a word of two letters (single amino acids or emoji, say), whatever stands
    # between spaces is a word.
    usual = TfidfVectorizer(ngram_range=(1, 2), sublinear_tf=True)
    find_words = usual.build_analyzer()
    if any(find_words(text) for text in texts):
        return usual
    return TfidfVectorizer(ngram_range=(1, 2), sublinear_tf=True, token_pattern=r"\S+")


def fit_features(features: TextFeatures, training: Subset, validation: Subset) -> Predict:
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
    return lambda texts: best.predict(scaler.transform(features.take(texts))).tolist()


FITS: dict[str, Callable[[Subset, Subset], Predict]] = {
    "majority": fit_majority,
    "tf-idf": fit_tf_idf,
}
