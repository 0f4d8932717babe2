"""The classification metrics, as an ``evaluate`` metric that needs no Hub."""

from typing import Any

import datasets
import evaluate
from sklearn.metrics import accuracy_score, f1_score

DESCRIPTION = "Accuracy and macro-averaged F1 of class indices, computed by scikit-learn."


class Classification(evaluate.Metric):  # type: ignore[misc]
    """``compute(predictions=..., references=..., n_labels=k)`` gives accuracy and macro_f1."""

    def _info(self) -> evaluate.MetricInfo:
        return evaluate.MetricInfo(
            description=DESCRIPTION,
            citation="Pedregosa et al. 2011, Scikit-learn, JMLR 12:2825-2830",
            inputs_description="predictions and references: class indices",
            features=datasets.Features(
                {"predictions": datasets.Value("int64"), "references": datasets.Value("int64")}
            ),
        )

    def _build_data_dir(self) -> str:
        # evaluate would create a folder below the user's home even for a metric that stays in
        # memory, and a container's user may have no writable home.
        return ""

    def _compute(
        self, predictions: list[int], references: list[int], n_labels: int
    ) -> dict[str, Any]:
        classes = list(range(n_labels))
        # A class that is never predicted has F1 = 0, by the definition of the macro average.
        macro_f1 = f1_score(
            references, predictions, labels=classes, average="macro", zero_division=0
        )
        return {
            "accuracy": float(accuracy_score(references, predictions)),
            "macro_f1": float(macro_f1),
        }


def load_metric() -> Classification:
    """Load the metric so that it keeps its inputs in memory and writes no files."""
    return Classification(keep_in_memory=True)
