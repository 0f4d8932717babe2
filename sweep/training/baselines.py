"""Reference methods, fitted and scored on the same subsets and test texts as the trials."""

import time
from collections.abc import Callable
from functools import partial

from sweep.data import Subset
from sweep.storage.events import Facts
from sweep.training.fits import FITS, Predict, fit_readout
from sweep.training.metrics import load_metric
from sweep.training.text_features import TextFeatures


def run_baseline(name: str, training: Subset, validation: Subset, test: Subset) -> Facts:
    """Fit the baseline ``name`` and return its scores under the names of the results table, plus
    ``predictions`` (class index of each test text). Raises KeyError for an unknown name."""
    return _run(FITS[name], training, validation, test)


def run_on_features(
    features: TextFeatures, training: Subset, validation: Subset, test: Subset
) -> Facts:
    """Fit logistic regression on ``features``, and return what ``run_baseline`` does. The seconds
    include those of the texts' features, as if each subset had its own."""
    scores = _run(partial(_fit_features, features), training, validation, test)
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


def _fit_features(features: TextFeatures, training: Subset, validation: Subset) -> Predict:
    readout = fit_readout(features, training, validation)
    return lambda texts: readout(features.take(texts))
