"""Writes what happens in Tune into the journal, and the tables from it."""

import time
from pathlib import Path
from typing import Any

from ray.tune import Callback
from ray.tune.experiment import Trial

from sweep.checkpoints import keep_newest
from sweep.journal import Journal
from sweep.scheduler import CellASHA, Decision
from sweep.tables import RunRecord, add_event, write_tables

TABLES_EVERY_SECONDS = 5.0
EPOCH_METRICS = (
    "train_loss",
    "val_loss",
    "val_accuracy",
    "val_macro_f1",
    "train_seconds",
    "eval_seconds",
)


class SessionCallback(Callback):  # type: ignore[misc]
    """A callback that lives as long as its process: Tune pickles its callbacks, and open files
    have no place there."""

    def __getstate__(self) -> dict[str, Any]:
        return {}


class Recorder(SessionCallback):
    """The run's only writer: every event goes to disk first, then into ``record``."""

    def __init__(
        self, journal: Journal, record: RunRecord, scheduler: CellASHA, folder: Path
    ) -> None:
        self._journal = journal
        self._scheduler = scheduler
        self._folder = folder
        self._tables_due = 0.0
        self.record = record
        self.running: set[str] = set()

    def write(self, kind: str, **fields: Any) -> None:
        """Append one event."""
        self.write_many([(kind, fields)])

    def write_many(self, contents: list[tuple[str, dict[str, Any]]]) -> None:
        """Append several events with one flush to disk."""
        for event in self._journal.append_all(contents):
            add_event(self.record, event)

    def write_tables(self) -> None:
        """Bring the Parquet tables up to date, now."""
        write_tables(self._folder, self.record)
        self._tables_due = time.monotonic() + TABLES_EVERY_SECONDS

    def on_trial_start(
        self, iteration: int, trials: list[Trial], trial: Trial, **info: Any
    ) -> None:
        """Note that a worker has the trial."""
        self.running.add(trial.trial_id)
        self.write("started", trial_id=trial.trial_id)

    def on_trial_result(
        self, iteration: int, trials: list[Trial], trial: Trial, result: dict[str, Any], **info: Any
    ) -> None:
        """Note an epoch and, where the trial ends with it, the trial's result."""
        # What the journal holds must not pile up in Tune's memory as well.
        totals, facts = result.pop("totals", {}), result.pop("facts", {})
        predictions, trace = result.pop("predictions", None), result.pop("traceback", "")
        decision = self._scheduler.decisions.get(trial.trial_id, Decision("continue"))
        status = result.get("status")
        if "epoch" in result:
            self._write_epoch(trial.trial_id, result, decision, bool(status))
        if not result.get("done"):
            # Where the trial is taken up again, should its worker be lost.
            trial.config["resume_epoch"] = result["epoch"]
            return
        ended = {
            **facts,
            **totals,
            "status": status or "stopped",
            "error": result.get("error"),
            **{name: result[name] for name in ("test_accuracy", "test_macro_f1") if name in result},
        }
        if predictions is not None:
            ended["predictions"] = predictions
        if trace:
            ended["traceback"] = trace
        self.write("ended", trial_id=trial.trial_id, **ended)
        kept = 1 if ended["status"] == "finished" else 0
        keep_newest(self._folder / "checkpoints" / trial.trial_id, kept)

    def _write_epoch(
        self, trial_id: str, result: dict[str, Any], decision: Decision, ended_itself: bool
    ) -> None:
        metrics = {name: result[name] for name in EPOCH_METRICS if name in result}
        self.write(
            "epoch",
            trial_id=trial_id,
            epoch=result["epoch"],
            **metrics,
            best_val_accuracy=result.get("best_val_accuracy"),
            decision="done" if ended_itself else decision.decision,
            rung=None if ended_itself else decision.rung,
            cutoff=None if ended_itself else decision.cutoff,
        )

    def on_trial_recover(
        self, iteration: int, trials: list[Trial], trial: Trial, **info: Any
    ) -> None:
        """Note that a trial lost its worker and will be started again."""
        self.running.discard(trial.trial_id)
        self.write("retried", trial_id=trial.trial_id, error=_last_error(trial))

    def on_trial_error(
        self, iteration: int, trials: list[Trial], trial: Trial, **info: Any
    ) -> None:
        """Note that a trial lost its worker too often."""
        self.running.discard(trial.trial_id)
        if self.record.trials[trial.trial_id].ended is None:
            self.write("ended", trial_id=trial.trial_id, status="failed", error=_last_error(trial))

    def on_trial_complete(
        self, iteration: int, trials: list[Trial], trial: Trial, **info: Any
    ) -> None:
        """Note that a worker is free again."""
        self.running.discard(trial.trial_id)

    def on_step_end(self, iteration: int, trials: list[Trial], **info: Any) -> None:
        """Bring the tables up to date every few seconds."""
        if time.monotonic() >= self._tables_due:
            self.write_tables()


def _last_error(trial: Trial) -> str:
    lines = str(trial.get_pickled_error() or trial.get_error() or "").strip().splitlines()
    reason = lines[0][:300] if lines else "no reason given"
    return f"the worker was lost ({reason})"
