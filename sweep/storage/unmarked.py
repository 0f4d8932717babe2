"""Finds the test items of results that name none, in journals from before test sets had
fingerprints.

Such a journal has one test set per label set, even if the data changed later, and predictions in
the order of the rows. A test set belongs to some data if for every result on that data the
predictions give the recorded scores there. One result alone may agree by chance, and the majority
class, whose scores are the same on any balanced texts, always does.
"""

from collections.abc import Iterable, Mapping

import numpy as np
import numpy.typing as npt

from sweep.storage.events import Result, TestSet

# The fingerprint of a result's data, and its label names.
Source = tuple[str | None, ...]
Classes = npt.NDArray[np.int64]

# Scores are recorded in full; half a text of the largest test set weighs more.
TOLERANCE = 1e-4


def match_test_sets(
    test_sets: Iterable[TestSet], results: Mapping[Source, list[Result]]
) -> dict[Source, TestSet]:
    """Return the test set of each source that has one among ``test_sets``, its items in the order
    of the predictions."""
    # One without a fingerprint is already in the order that was used at its time.
    ordered = [_sort_by_row(s) if s.get("fingerprint") else s for s in test_sets]
    return {
        source: found
        for source, events in results.items()
        if (found := _find(ordered, source, events)) is not None
    }


def _find(test_sets: list[TestSet], source: Source, results: list[Result]) -> TestSet | None:
    same_labels = (each for each in test_sets if tuple(each["labels"]) == source[1:])
    return next((s for s in same_labels if all(_agree(s, result) for result in results)), None)


def _sort_by_row(test_set: TestSet) -> TestSet:
    order = np.argsort(test_set["items"], kind="stable")
    items, truth = np.asarray(test_set["items"])[order], np.asarray(test_set["truth"])[order]
    return {**test_set, "items": items.tolist(), "truth": truth.tolist()}


def _agree(test_set: TestSet, result: Result) -> bool:
    """Return whether the predictions of ``result`` give its scores on ``test_set``."""
    truth, predicted = np.asarray(test_set["truth"]), np.asarray(result["predictions"])
    if truth.shape != predicted.shape:
        return False
    found = {
        "test_accuracy": float((truth == predicted).mean()) if truth.size else 0.0,
        "test_macro_f1": _macro_f1(truth, predicted, len(test_set["labels"])),
    }
    recorded = {
        "test_accuracy": result.get("test_accuracy"),
        "test_macro_f1": result.get("test_macro_f1"),
    }
    return all(
        score is None or abs(found[name] - score) < TOLERANCE for name, score in recorded.items()
    )


def _macro_f1(truth: Classes, predicted: Classes, n_labels: int) -> float:
    """Return the mean F1 of the classes that occur; 0 for one that is never right."""
    right = np.bincount(truth[truth == predicted], minlength=n_labels)
    texts = np.bincount(truth, minlength=n_labels) + np.bincount(predicted, minlength=n_labels)
    return float((2 * right[texts > 0] / texts[texts > 0]).mean()) if texts.any() else 0.0
