"""Reads a run folder into frames."""

import tempfile
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from sweep.errors import RunFolderError
from sweep.storage.account import DataAccount
from sweep.storage.events import Event, Opened
from sweep.storage.journal import JOURNAL_NAME, read_events
from sweep.storage.orphans import OrphanedTrial, list_orphaned_trials
from sweep.storage.record import RunRecord, replay
from sweep.storage.run_folder import CONFIG_NAME
from sweep.storage.tables import (
    HISTORY_COLUMNS,
    HISTORY_NAME,
    PREDICTION_COLUMNS,
    PREDICTIONS_NAME,
    RESULT_COLUMNS,
    RESULTS_NAME,
    Column,
    write_tables,
)

TABLES: dict[str, list[Column]] = {
    RESULTS_NAME: RESULT_COLUMNS,
    HISTORY_NAME: HISTORY_COLUMNS,
    PREDICTIONS_NAME: PREDICTION_COLUMNS,
}


@dataclass(frozen=True)
class Run:
    """What a run folder holds: the tables, the planned trials and how the run was started."""

    folder: Path
    results: pd.DataFrame
    history: pd.DataFrame
    predictions: pd.DataFrame
    # One row per planned trial, whether it has a result or not.
    plan: pd.DataFrame
    # The journal's ``opened`` events: one per start or resume.
    opened: tuple[Opened, ...]
    # Unix time of the last event before the next start, one for each of ``opened``.
    ended: tuple[float, ...]
    # The text of config.yaml; None if the folder has none.
    config: str | None
    # Trials in the run that its current plan does not contain; no frame has them.
    others: tuple[OrphanedTrial, ...] = ()
    # What became of the data at the last start; None if the journal does not say.
    data: DataAccount | None = None

    @cached_property
    def unmatched(self) -> int:
        """Number of results whose predictions belong to no known test texts."""
        best = self.results[self.results["best_of_cell"] & self.results["test_accuracy"].notna()]
        return int((~best["trial_id"].isin(self.predictions["trial_id"].unique())).sum())

    @property
    def name(self) -> str:
        return self.folder.resolve().name


def load_run(folder: Path | str) -> Run:
    """Return what is in the run folder ``folder``.

    Tables that are missing or older than the journal are first rebuilt from it. Raises
    RunFolderError if the folder is not a run folder or its journal is damaged.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise RunFolderError(
            f"{folder}: no such folder; name a run folder, such as runs/quickstart"
        )
    ends: list[float] = []
    record = replay(note_ends(read_events(folder), ends))
    if not record.trials:
        raise RunFolderError(
            f"{folder}: {JOURNAL_NAME} names no planned trial; start the run with sweep.run first"
        )
    tables = load_tables(folder, record)
    plan = list_planned(record)
    results = tables[RESULTS_NAME]
    results = results[results["in_plan"]].reset_index(drop=True)
    present = {*plan["trial_id"], *results["trial_id"]}
    return Run(
        folder=folder,
        results=results,
        history=_select(tables[HISTORY_NAME], present),
        predictions=_select(tables[PREDICTIONS_NAME], present),
        plan=plan,
        opened=tuple(record.opened),
        ended=tuple(ends),
        config=_read_config(folder),
        others=tuple(
            list_orphaned_trials([trial.spec for trial in record.planned().values()], record)
        ),
        data=_find_account(record),
    )


def _select(frame: pd.DataFrame, trial_ids: set[str]) -> pd.DataFrame:
    return frame[frame["trial_id"].isin(trial_ids)].reset_index(drop=True)


def _find_account(record: RunRecord) -> DataAccount | None:
    accounts = (event.get("data") for event in reversed(record.opened))
    return next((account for account in accounts if account is not None), None)


def load_tables(folder: Path, record: RunRecord) -> dict[str, pd.DataFrame]:
    """Return file name -> frame for the tables of ``folder``, rebuilt if out of date."""
    if tables_are_current(folder):
        return _read_tables(folder)
    try:
        write_tables(folder, record)
    except OSError:
        # A read-only folder (an archive, someone else's run) can be reported on too.
        with tempfile.TemporaryDirectory() as elsewhere:
            write_tables(Path(elsewhere), record)
            return _read_tables(Path(elsewhere))
    return _read_tables(folder)


def tables_are_current(folder: Path) -> bool:
    """Return whether all tables exist, are newer than the journal, and have the current columns."""
    written = (folder / JOURNAL_NAME).stat().st_mtime_ns
    for name, columns in TABLES.items():
        path = folder / name
        try:
            if path.stat().st_mtime_ns <= written:
                return False
            if pq.read_schema(path).names != [column for column, *_ in columns]:
                return False
        except (OSError, pa.ArrowInvalid):
            return False
    return True


def note_ends(events: Iterable[Event], ends: list[float]) -> Iterator[Event]:
    """Yield ``events``; append to ``ends``, for each ``opened`` event, the time of the last event
    before the next one."""
    for event in events:
        if event["event"] == "opened":
            ends.append(event["time"])
        elif ends:
            ends[-1] = event["time"]
        yield event


def list_planned(record: RunRecord) -> pd.DataFrame:
    """Return one row per trial of the current plan, in the order in which they were planned.

    ``repeat_of`` is the tuned trial that a repeat trains again, None for a tuned one.
    """
    rows = []
    for trial_id, trial in record.planned().items():
        cell, candidate = trial.spec.cell, trial.spec.candidate
        rows.append(
            {
                "trial_id": trial_id,
                "cell_id": cell.cell_id,
                "model": cell.model,
                "n_labels": cell.n_labels,
                "labels": list(cell.labels),
                "n_samples": cell.n_samples,
                "seed": cell.seed,
                "candidate": candidate.index,
                "lora_rank": candidate.lora_rank,
                "learning_rate": candidate.learning_rate,
                "max_epochs": trial.spec.recipe.max_epochs,
                "repeat_of": trial.repeat_of,
            }
        )
    return pd.DataFrame(rows)


def _read_tables(folder: Path) -> dict[str, pd.DataFrame]:
    try:
        return {name: pd.read_parquet(folder / name) for name in TABLES}
    except (OSError, pa.ArrowInvalid) as error:
        raise RunFolderError(
            f"{folder}: a table cannot be read ({error}); delete the .parquet files, "
            "which are rebuilt from the journal"
        ) from None


def _read_config(folder: Path) -> str | None:
    try:
        return (folder / CONFIG_NAME).read_text(encoding="utf-8", errors="replace")
    except OSError:
        return None
