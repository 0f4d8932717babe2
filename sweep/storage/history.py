"""The epochs of a run, column by column: a tenth of the memory of one dictionary per epoch."""

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
# What is kept of an epoch's event besides trial, epoch and decision; NaN if it has no value.
REALS = ("time", *EPOCH_METRICS, "best_val_accuracy", "rung", "cutoff")
NO_ROW = -1


class History:
    """One row per epoch, in the order in which the epochs ended."""

    def __init__(self) -> None:
        self.trial_ids: list[str] = []
        self.epochs = array("l")
        self.decisions: list[str | None] = []
        self.reals = {name: array("d") for name in REALS}

    def add(self, trial_id: str, event: EpochDone) -> int:
        """Append an ``epoch`` event; return its row number."""
        self.trial_ids.append(trial_id)
        self.epochs.append(event["epoch"])
        self.decisions.append(event.get("decision"))
        values: Mapping[str, Any] = event
        for name, column in self.reals.items():
            value = values.get(name)
            column.append(math.nan if value is None else value)
        return len(self.epochs) - 1

    def event_at(self, row: int) -> EpochDone:
        """Return a row as an event; missing values are None."""
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
    """The epochs of one trial, by number; each is looked up in the history on access."""

    __slots__ = ("_history", "_rows")

    def __init__(self, history: History) -> None:
        self._history = history
        self._rows = array("l")

    def put(self, epoch: int, row: int) -> None:
        """Map ``epoch`` to ``row`` of the history from now on."""
        missing = epoch + 1 - len(self._rows)
        self._rows.extend([NO_ROW] * missing)
        self._rows[epoch] = row

    def clear(self) -> None:
        """Forget all epochs."""
        self._rows = array("l")

    def row_of(self, epoch: int) -> int:
        """Return the row of ``epoch``, or NO_ROW."""
        return self._rows[epoch] if 0 <= epoch < len(self._rows) else NO_ROW

    def rows(self) -> Iterator[int]:
        """Yield the rows of all epochs, in the order of the epochs."""
        return (row for row in self._rows if row != NO_ROW)

    def decision_of(self, epoch: int) -> str | None:
        """Return what ASHA decided after ``epoch``; None if the trial has no such epoch."""
        row = self.row_of(epoch)
        return None if row == NO_ROW else self._history.decisions[row]

    def __getitem__(self, epoch: int) -> EpochDone:
        row = self.row_of(epoch)
        if row == NO_ROW:
            raise KeyError(epoch)
        return self._history.event_at(row)

    def __iter__(self) -> Iterator[int]:
        return (epoch for epoch, row in enumerate(self._rows) if row != NO_ROW)

    def __len__(self) -> int:
        return sum(row != NO_ROW for row in self._rows)
