"""Somebody who reads tables and journal all the while that the sweep dies and comes back."""

import threading
from pathlib import Path

import pyarrow.parquet as pq

from sweep.storage.journal import JOURNAL_NAME, read_events
from sweep.storage.tables import HISTORY_NAME, PREDICTIONS_NAME, RESULTS_NAME

PAUSE_SECONDS = 0.05


class Reader:
    """A thread that reads a run folder over and over, and keeps what went wrong."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._read_on, daemon=True)
        self._ended: set[str] = set()
        self._seen: set[str] = set()
        self.table_reads = 0
        self.journal_reads = 0
        self.faults: list[str] = []

    def __enter__(self) -> "Reader":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()

    def _read_on(self) -> None:
        while not self._stop.wait(PAUSE_SECONDS):
            for name in (RESULTS_NAME, HISTORY_NAME, PREDICTIONS_NAME, JOURNAL_NAME):
                self._read(name)

    def _read(self, name: str) -> None:
        path = self._folder / name
        # What has been there once has to stay.
        if name not in self._seen and not path.exists():
            return
        self._seen.add(name)
        try:
            self._read_journal() if name == JOURNAL_NAME else self._read_table(path)
        except Exception as error:  # whatever a reader meets is a finding
            self.faults.append(f"{name} could not be read: {type(error).__name__}: {error}")

    def _read_journal(self) -> None:
        for _ in read_events(self._folder):
            pass
        self.journal_reads += 1

    def _read_table(self, path: Path) -> None:
        # One open file: pq.read_table(path) opens the path twice and may meet two tables.
        with path.open("rb") as file:
            rows = pq.read_table(file)
        self.table_reads += 1
        if path.name == RESULTS_NAME:
            ended = set(rows["trial_id"].to_pylist())
            if lost := self._ended - ended:
                self.faults.append(f"{path.name} has lost rows that it had: {sorted(lost)}")
            self._ended = ended
