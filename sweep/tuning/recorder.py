"""Records what happens in Tune in the journal, and writes the tables from it."""

import time
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from ray.tune.experiment import Trial

from sweep.errors import StorageError
from sweep.storage.checkpoints import CheckpointStore
from sweep.storage.events import Decision, TrialStatus
from sweep.storage.history import EPOCH_METRICS
from sweep.storage.journal import Content, Journal, explain_storage_error
from sweep.storage.record import RunRecord, apply
from sweep.storage.tables import write_tables
from sweep.tuning.callbacks import SessionCallback
from sweep.tuning.losses import explain_loss, is_memory_loss
from sweep.tuning.scheduler import CellASHA, Ruling

TABLES_EVERY_SECONDS = 5.0


class Recorder(SessionCallback):
    """The run's only writer: every event goes to disk first, then into ``record``."""

    def __init__(
        self,
        journal: Journal,
        record: RunRecord,
        scheduler: CellASHA,
        notify: Callable[[str], None] = lambda sentence: None,
        max_epoch_seconds: float | None = None,
        store: CheckpointStore | None = None,
    ) -> None:
        self._journal = journal
        self._folder = journal.path.parent
        self._store = store or CheckpointStore(self._folder)
        self._notify = notify
        self._max_epoch_seconds = max_epoch_seconds
        self._scheduler = scheduler
        self._tables_due = 0.0
        self.record = record
        # Trial id -> monotonic time at which its worker was last heard of.
        self.running: dict[str, float] = {}
        # Labels -> fingerprint of the test items that this session's trials predict.
        self.test_sets: dict[tuple[str, ...], str] = {}
        # Why the run has to end before its plan is done.
        self.halt: StorageError | None = None

    def write(self, kind: str, **fields: Any) -> None:
        """Append one event to the journal and the record."""
        self.write_many([(kind, fields)])

    def write_many(self, contents: Iterable[Content]) -> None:
        """Append several events with one flush to disk."""
        try:
            events = self._journal.append_all(contents)
        except StorageError as error:
            self.halt = error
            raise
        for event in events:
            apply(self.record, event)

    def write_tables(self) -> None:
        """Update the Parquet tables now."""
        try:
            write_tables(self._folder, self.record)
        except OSError as error:
            self.halt = StorageError(explain_storage_error(self._folder, error))
            raise self.halt from error
        self._tables_due = time.monotonic() + TABLES_EVERY_SECONDS

    def on_trial_start(
        self, iteration: int, trials: list[Trial], trial: Trial, **info: Any
    ) -> None:
        self.running[trial.trial_id] = time.monotonic()
        self.write("started", trial_id=trial.trial_id)

    def on_trial_result(
        self, iteration: int, trials: list[Trial], trial: Trial, result: dict[str, Any], **info: Any
    ) -> None:
        """Record an epoch and, if the trial ends with it, the trial's result."""
        if "halt" in result:
            self.halt = StorageError(f"{self._folder}: {result['halt']}")
            raise self.halt
        self.running[trial.trial_id] = time.monotonic()
        self._write_notes(trial, result.pop("notes", []))
        # What the journal holds must not pile up in Tune's memory as well.
        totals, facts = result.pop("totals", {}), result.pop("facts", {})
        predictions, trace = result.pop("predictions", None), result.pop("traceback", "")
        ruling = self._scheduler.rulings.get(trial.trial_id, Ruling(Decision.CONTINUE))
        status, error = result.get("status"), result.get("error")
        if result.get("best_val_accuracy") is None and not status:
            status, error = TrialStatus.FAILED, "the epoch reported no validation accuracy"
        events = []
        if "epoch" in result:
            events.append(_describe_epoch(trial.trial_id, result, ruling, bool(status)))
        if not result.get("done"):
            self.write_many(events)
            # Where the trial resumes if its worker is lost. It has made progress, so workers lost
            # earlier no longer count.
            trial.config["resume_epoch"] = result["epoch"]
            trial.run_metadata.num_failures = 0
            return
        ended = {
            **facts,
            **totals,
            "status": status or TrialStatus.STOPPED,
            "error": error,
            **{name: result[name] for name in ("test_accuracy", "test_macro_f1") if name in result},
        }
        if predictions is not None:
            labels = self.record.trials[trial.trial_id].spec.cell.labels
            ended |= {"predictions": predictions, "test_set": self.test_sets.get(labels)}
        if trace:
            ended["traceback"] = trace
        # A single write, so that a trial whose last epoch is recorded also has its result.
        self.write_many([*events, ("ended", {"trial_id": trial.trial_id, **ended})])
        self._drop_checkpoints(trial.trial_id, 1 if ended["status"] == TrialStatus.FINISHED else 0)

    def _drop_checkpoints(self, trial_id: str, kept: int) -> None:
        try:
            self._store.keep_newest(trial_id, kept)
        except StorageError as error:
            # They take up space but do no harm.
            self._notify(f"checkpoints that are no longer needed were not deleted: {error}")

    def _write_notes(self, trial: Trial, notes: Sequence[str]) -> None:
        for text in notes:
            self.write("noted", trial_id=trial.trial_id, text=text)
            self._notify(f"{trial}: {text}")

    def on_trial_recover(
        self, iteration: int, trials: list[Trial], trial: Trial, **info: Any
    ) -> None:
        """Record that a trial lost its worker and will be restarted."""
        error = self._explain_loss(trial)
        if is_memory_loss(trial):
            # The next worker reads this, uses half batches, and gives up at the second loss.
            losses = trial.config.get("memory_losses", 0) + 1
            trial.config["memory_losses"] = losses
        self.write("retried", trial_id=trial.trial_id, error=error)
        self._notify(f"{trial}: {error}; it will be restarted")

    def on_trial_error(
        self, iteration: int, trials: list[Trial], trial: Trial, **info: Any
    ) -> None:
        """Record that a trial lost its worker too often."""
        error = self._explain_loss(trial)
        if self.record.trials[trial.trial_id].ended is None:
            status = TrialStatus.OUT_OF_MEMORY if is_memory_loss(trial) else TrialStatus.FAILED
            self.write("ended", trial_id=trial.trial_id, status=status, error=error)

    def _explain_loss(self, trial: Trial) -> str:
        """Remove the trial from the running ones; return why its worker was lost."""
        silent = time.monotonic() - self.running.pop(trial.trial_id, time.monotonic())
        if self._max_epoch_seconds and silent >= self._max_epoch_seconds:
            minutes = self._max_epoch_seconds / 60
            return f"no epoch within {minutes:g} minutes (resources.max_epoch_minutes)"
        return f"the worker was lost ({explain_loss(trial)[:300] or 'no reason given'})"

    def on_trial_complete(
        self, iteration: int, trials: list[Trial], trial: Trial, **info: Any
    ) -> None:
        self.running.pop(trial.trial_id, None)

    def on_step_end(self, iteration: int, trials: list[Trial], **info: Any) -> None:
        """Update the tables every few seconds."""
        if time.monotonic() >= self._tables_due:
            self.write_tables()


def _describe_epoch(
    trial_id: str, result: dict[str, Any], ruling: Ruling, ended_itself: bool
) -> Content:
    metrics = {name: result[name] for name in EPOCH_METRICS if name in result}
    return "epoch", {
        "trial_id": trial_id,
        "epoch": result["epoch"],
        **metrics,
        "best_val_accuracy": result.get("best_val_accuracy"),
        "decision": Decision.DONE if ended_itself else ruling.decision,
        "rung": None if ended_itself else ruling.rung,
        "cutoff": None if ended_itself else ruling.cutoff,
    }
