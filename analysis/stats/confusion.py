"""Which labels are mistaken for which: confusion matrices and scores per label."""

from typing import Any, cast

import numpy as np
import numpy.typing as npt
import pandas as pd

from analysis.load import Run

Matrix = npt.NDArray[np.int64]


def list_confusions(run: Run) -> list[dict[str, Any]]:
    """Return one item per cell with predictions, in the order of labels, samples and seed.

    Keys: ``model``, ``n_labels``, ``n_samples``, ``seed``, ``labels`` (names in class order) and
    ``matrix``: counts of test texts, a row per true label, a column per predicted one.
    """
    axes = ["n_labels", "n_samples", "model", "seed"]
    labels = dict(zip(run.results["n_labels"], run.results["labels"], strict=True))
    confusions = []
    for key, group in run.predictions.groupby(axes, sort=False):
        cell = dict(zip(axes, cast(tuple[Any, ...], key), strict=True))
        names = [str(name) for name in labels[cell["n_labels"]]]
        matrix = count_confusions(group["label"], group["predicted"], names)
        confusions.append({**cell, "labels": names, "matrix": matrix.tolist()})
    return sorted(confusions, key=lambda c: (c["n_labels"], c["n_samples"], c["seed"]))


def count_confusions(truth: pd.Series, predicted: pd.Series, labels: list[str]) -> Matrix:
    """Return the counts of (true, predicted) pairs, rows and columns in the order of ``labels``."""
    rows, columns = (pd.Categorical(side, labels).codes.astype(int) for side in (truth, predicted))
    flat = rows * len(labels) + columns
    return np.bincount(flat, minlength=len(labels) ** 2).reshape(len(labels), len(labels))


def score_labels(labels: list[str], matrix: list[list[int]]) -> pd.DataFrame:
    """Return precision, recall, F1 (fractions) and test texts of each label.

    A label that is never predicted has precision and F1 zero, as in scikit-learn's macro average.
    """
    counts = np.array(matrix)
    right, texts, predicted = np.diag(counts), counts.sum(axis=1), counts.sum(axis=0)
    frame = pd.DataFrame({"label": labels, "texts": texts})
    frame["precision"] = right / np.maximum(predicted, 1)
    frame["recall"] = right / np.maximum(texts, 1)
    frame["f1"] = 2 * right / np.maximum(texts + predicted, 1)
    return frame


def melt_confusion(labels: list[str], matrix: list[list[int]]) -> pd.DataFrame:
    """Return one row per pair of labels: ``truth``, ``predicted``, ``texts``, and ``share``, the
    fraction of the true label's texts that got the predicted one."""
    rows = [
        {"truth": truth, "predicted": predicted, "texts": n, "share": n / max(sum(counts), 1)}
        for truth, counts in zip(labels, matrix, strict=True)
        for predicted, n in zip(labels, counts, strict=True)
    ]
    return pd.DataFrame(rows)
