"""The epochs of a run, column by column: a tenth of what one dictionary per epoch would take."""

import math
from array import array
from collections.abc import Iterator, Mapping
from typing import Any, cast

from sweep.storage.events import EpochDone

EPOCH_METRICS = (
    "train_loss",
    "val_loss",
    "val_accuracy",
    "val_macro_f1",
    "train_seconds",
    "eval_seconds",
)
# What is kept of an epoch's event, beside trial, epoch and decision; NaN where it has none.
REALS = ("time", *EPOCH_METRICS, "best_val_accuracy", "rung", "cutoff")
NO_ROW = -1


class History:
    """One row per epoch, in the order in which the epochs came."""

    def __init__(self) -> None:
        self.trial_ids: list[str] = []
        self.epochs = array("l")
        self.decisions: list[str | None] = []
        self.reals = {name: array("d") for name in REALS}

    def add(self, trial_id: str, event: EpochDone) -> int:
        """Take an ``epoch`` event in; return its row number."""
        self.trial_ids.append(trial_id)
        self.epochs.append(event["epoch"])
        self.decisions.append(event.get("decision"))
        values: Mapping[str, Any] = event
        for name, column in self.reals.items():
            value = values.get(name)
            column.append(math.nan if value is None else value)
        return len(self.epochs) - 1

    def read(self, row: int) -> EpochDone:
        """Return a row as an event; what it lacks is None."""
        values = {name: column[row] for name, column in self.reals.items()}
        event = {
            "event": "epoch",
            "trial_id": self.trial_ids[row],
            "epoch": self.epochs[row],
            "decision": self.decisions[row],
            **{name: None if math.isnan(value) else value for name, value in values.items()},
        }
        return cast(EpochDone, event)


class TrialEpochs(Mapping[int, EpochDone]):
    """The epochs of one trial, by number; each is read from the history when asked for."""

    __slots__ = ("_history", "_rows")

    def __init__(self, history: History) -> None:
        self._history = history
        self._rows = array("l")

    def put(self, epoch: int, row: int) -> None:
        """Let ``row`` of the history stand for ``epoch`` from now on."""
        missing = epoch + 1 - len(self._rows)
        self._rows.extend([NO_ROW] * missing)
        self._rows[epoch] = row

    def clear(self) -> None:
        """Let no row stand for any epoch."""
        self._rows = array("l")

    def row_of(self, epoch: int) -> int:
        """Return the row that stands for ``epoch``, or NO_ROW."""
        return self._rows[epoch] if 0 <= epoch < len(self._rows) else NO_ROW

    def rows(self) -> Iterator[int]:
        """Yield the rows of all epochs, the first epoch first."""
        return (row for row in self._rows if row != NO_ROW)

    def decision_of(self, epoch: int) -> str | None:
        """Return what ASHA decided after ``epoch``; None where the trial has no such epoch."""
        row = self.row_of(epoch)
        return None if row == NO_ROW else self._history.decisions[row]

    def __getitem__(self, epoch: int) -> EpochDone:
        row = self.row_of(epoch)
        if row == NO_ROW:
            raise KeyError(epoch)
        return self._history.read(row)

    def __iter__(self) -> Iterator[int]:
        return (epoch for epoch, row in enumerate(self._rows) if row != NO_ROW)

    def __len__(self) -> int:
        return sum(row != NO_ROW for row in self._rows)
