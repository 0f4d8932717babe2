"""Whether a split has no labels, as the test files of competitions do."""

from collections.abc import Sequence
from typing import Any

from sweep.data.columns import LABEL_NAMES, Columns
from sweep.data.files.table import Table


def is_unlabeled(table: Table, train: Table, columns: Columns) -> bool:
    """Return whether ``table`` has the text columns of ``train`` but no column of labels at all.

    A column that the training data lack might be the labels under another name: it has a usual
    name for them, training labels as values, or few values that repeat.
    """
    known = {*table.columns, *table.unreadable, *table.repeated}
    if columns.label in known or not table.columns.keys() >= set(columns.texts):
        return False
    labels = set(map(str, train.columns[columns.label]))
    others = [name for name in known if name not in train.columns and name not in train.unreadable]
    return not any(
        name.lower() in LABEL_NAMES or _might_be_labels(table.columns.get(name, []), labels)
        for name in others
    )


def _might_be_labels(values: Sequence[Any], labels: set[str]) -> bool:
    found = {str(value) for value in values}
    return bool(found) and (found <= labels or 2 <= len(found) <= len(values) // 2)
