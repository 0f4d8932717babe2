"""A run's journal: an append-only log of events, one JSON object per line, the run's only state.

Only the driver writes it. Every event has ``event`` (its kind) and ``time`` (Unix seconds, UTC):

======== =====================================================================================
opened   a driver took over the run: host, pid, command, versions, git_commit, predicted (what the
         preflight expects: seconds, by model memory_bytes, slot_bytes and packs), pace (what the
         time left is estimated from before anything is measured: epoch_seconds by cell, rungs,
         trials_at_a_time), data (what became of the data's rows), baselines (names of the requested
         reference methods)
planned  a trial entered the plan: ``trial`` is ``TrialSpec.to_dict()``; a second such line gives
         the trial's model a new name or path
replanned
         the plan from now on, if it is not everything planned so far: trials (ids)
test_set test items: fingerprint (of their texts and classes), labels (names), items (row numbers),
         truth (class indices)
baseline a reference method has its result: trial_id, the cell's axes, its metrics, and test_set,
         the fingerprint of the items that were predicted; or instead status "failed" and error
started  a worker started a trial: trial_id
epoch    a trial finished an epoch: trial_id, epoch, metrics, and ASHA's decision (rung, cutoff)
retried  a trial's worker or machine was lost and the trial is restarted: trial_id, error
noted    something a reader should know about a trial (it continued from an older checkpoint, or
         with half batches after it ran out of memory): trial_id, text
ended    a trial has its result: trial_id, status, error, the final metrics, and test_set, the
         fingerprint of the items that were predicted
reopened a failed trial or baseline is to run again, as if it never had: trial_id
closed   the driver ended: trials_left
======== =====================================================================================

Older journals have one ``test_set`` per label set, without a fingerprint, and results that name
none; see ``sweep.storage.unmarked`` for how those are read.
"""

import fcntl
import json
import os
import time
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any, cast

from sweep.errors import RunBusyError, RunFolderError, StorageError
from sweep.storage.event_reader import EventReader
from sweep.storage.events import Event

JOURNAL_NAME = "journal.jsonl"
# Kind and fields of an event to write; see ``sweep.storage.events``.
Content = tuple[str, Mapping[str, Any]]

FREE_SPACE = "free up space and continue with --resume (nothing already written is lost)"

# Specs, forecasts and accounts are dataclasses.
_ENCODER = json.JSONEncoder(
    ensure_ascii=False, allow_nan=False, separators=(",", ":"), default=asdict
)


class Journal:
    """The open journal of a run folder, held by one driver at a time.

    The lock is the operating system's (flock), so it ends with the process that holds it: a stale
    lock cannot block a run.
    """

    def __init__(self, folder: Path) -> None:
        """Open (or create) the journal in ``folder``; raise RunBusyError if it is in use."""
        self.path = folder / JOURNAL_NAME
        # Unbuffered: what a full disk refuses must not stay in memory and be written later.
        self._file = self.path.open("ab", buffering=0)
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            self._file.close()
            raise RunBusyError(
                f"{folder}: another sweep is running in this folder; wait for it to end (with "
                "--busy wait), or choose another --name"
            ) from None
        # Length of the incomplete last line that a killed driver left.
        self.dropped_bytes = _cut_torn_tail(self.path)
        self._clock = time.time() - time.monotonic()

    def append(self, kind: str, **fields: Any) -> Event:
        """Write one event; return it once it is on disk."""
        return self.append_all([(kind, fields)])[0]

    def append_all(self, contents: Iterable[Content]) -> list[Event]:
        """Write several events with one flush to disk; return them.

        Raises StorageError, leaving the journal as it was before, if they cannot be written.
        """
        # Counted from the session's start: setting the clock meanwhile changes no duration.
        now = round(self._clock + time.monotonic(), 3)
        events = [cast(Event, {"event": kind, "time": now, **fields}) for kind, fields in contents]
        data = memoryview(b"".join(map(_encode, events)))
        size = os.fstat(self._file.fileno()).st_size
        try:
            while data:
                data = data[self._file.write(data) :]
            os.fsync(self._file.fileno())
        except OSError as error:
            os.ftruncate(self._file.fileno(), size)
            raise StorageError(explain_storage_error(self.path, error)) from error
        return events

    def close(self) -> None:
        """Close the file, which unlocks the run folder."""
        self._file.close()

    def __enter__(self) -> "Journal":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def explain_storage_error(path: Path, error: OSError) -> str:
    """Return the sentence about a file that could not be written."""
    return f"{path}: cannot be written ({error.strerror or error}); {FREE_SPACE}"


def _encode(event: Event) -> bytes:
    # NaN and infinity are not JSON; a diverged trial's loss becomes null.
    try:
        text = _ENCODER.encode(event)
    except ValueError:
        text = _ENCODER.encode(_drop_nan(event))
    return text.encode("utf-8", "backslashreplace") + b"\n"


def _drop_nan(value: Any) -> Any:
    if isinstance(value, float) and (value != value or value in (float("inf"), float("-inf"))):
        return None
    if isinstance(value, dict):
        return {key: _drop_nan(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_drop_nan(item) for item in value]
    return value


def _cut_torn_tail(path: Path) -> int:
    """Remove an incomplete last line (a write cut short); return how many bytes it had."""
    size = path.stat().st_size
    if size == 0:
        return 0
    with path.open("r+b") as file:
        data = file.read()
        keep = data.rfind(b"\n") + 1
        if keep < size:
            file.truncate(keep)
            os.fsync(file.fileno())
    return size - keep


class JournalTail:
    """A journal that is read as it grows."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / JOURNAL_NAME
        self._reader = EventReader(self.path)
        self._offset = self._lines = 0

    def read(self) -> Iterator[Event]:
        """Yield the events that no call has yielded yet, oldest first.

        An incomplete last line is skipped (it may still be being written). Raises RunFolderError
        if there is no journal, or if a line before the last is damaged, with its number.
        """
        try:
            file = self.path.open("rb")
        except (FileNotFoundError, NotADirectoryError):
            folder = self.path.parent
            raise RunFolderError(f"{folder}: no {JOURNAL_NAME} here; name a run folder") from None
        with file:
            file.seek(self._offset)
            for line in file:
                if not line.endswith(b"\n"):
                    return
                self._offset += len(line)
                self._lines += 1
                yield self._reader.parse(line, self._lines)


def read_events(folder: Path) -> Iterator[Event]:
    """Yield the events in ``folder``'s journal, as ``JournalTail.read`` does."""
    return JournalTail(folder).read()


def is_held(folder: Path) -> bool:
    """Return whether a driver has locked the journal in ``folder``; True if that is unknown."""
    try:
        with (folder / JOURNAL_NAME).open("rb") as file:
            # Unlock at once: a driver that starts meanwhile must not find it locked.
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
            fcntl.flock(file, fcntl.LOCK_UN)
    except OSError:
        return True
    return False
