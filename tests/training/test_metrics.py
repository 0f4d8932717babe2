"""Accuracy and macro-F1 through evaluate, offline."""

import pytest

from sweep.training.metrics import load_metric


def test_scores_are_those_worked_out_by_hand() -> None:
    scores = load_metric().compute(predictions=[0, 0, 1, 1], references=[0, 1, 1, 1], n_labels=2)
    assert scores["accuracy"] == 0.75
    # F1 of class 0: 2/3; of class 1: 4/5.
    assert scores["macro_f1"] == pytest.approx((2 / 3 + 4 / 5) / 2)


def test_class_that_never_occurs_counts_as_zero() -> None:
    scores = load_metric().compute(predictions=[0, 0], references=[0, 0], n_labels=4)
    assert scores == {"accuracy": 1.0, "macro_f1": 0.25}
