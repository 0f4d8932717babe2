"""Writes the checkpoints of packed trials, one after another, on a thread of its own."""

import threading
from collections.abc import Callable
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait

from sweep.storage.events import EpochResult

# An epoch's metrics with the trial's totals, or why there are none.
Outcome = EpochResult | Exception


class CheckpointWriter:
    """Of each trial at most one checkpoint is under way, since its epoch is reported only then."""

    def __init__(self) -> None:
        self._thread = ThreadPoolExecutor(1, "checkpoints")
        self._lock = threading.RLock()
        self._writes: dict[str, Future[EpochResult]] = {}
        # What to do once a trial's checkpoint is written.
        self._next: dict[str, Callable[[], None]] = {}
        self._unreported: dict[str, Future[EpochResult]] = {}

    @property
    def pending(self) -> bool:
        """Whether any outcome is still to be collected."""
        return bool(self._unreported)

    def write(self, trial_id: str, save: Callable[[], EpochResult]) -> None:
        """Have ``save`` write a trial's checkpoint; ``collect`` returns what it returned."""
        with self._lock:
            writing = self._thread.submit(self._run, trial_id, save)
            self._unreported[trial_id] = writing
            if not writing.done():
                self._writes[trial_id] = writing

    def _run(self, trial_id: str, save: Callable[[], EpochResult]) -> EpochResult:
        try:
            return save()
        finally:
            with self._lock:
                self._writes.pop(trial_id, None)
                then = self._next.pop(trial_id, None)
            if then is not None:
                then()

    def collect(self, seconds: float = 0.0) -> dict[str, Outcome]:
        """Return the outcomes of checkpoints that are written; wait for one for so long at most."""
        if seconds and self._unreported:
            wait(self._unreported.values(), seconds, FIRST_COMPLETED)
        done = {each: writing for each, writing in self._unreported.items() if writing.done()}
        for trial_id in done:
            del self._unreported[trial_id]
        return {trial_id: _read(writing) for trial_id, writing in done.items()}

    def leave(self, trial_id: str, then: Callable[[], None]) -> None:
        """Report nothing more of a trial, and do ``then`` once no checkpoint of it is being
        written."""
        self._unreported.pop(trial_id, None)
        with self._lock:
            if trial_id in self._writes:
                self._next[trial_id] = then
                return
        then()

    def wait(self, *trial_ids: str) -> None:
        """Return once no checkpoint of these trials, by default of any, is being written."""
        with self._lock:
            writes = dict(self._writes)
        wait([writes[each] for each in trial_ids or writes if each in writes])


def _read(written: Future[EpochResult]) -> Outcome:
    error = written.exception()
    if error is None:
        return written.result()
    if isinstance(error, Exception):  # it must not end the other trials
        return error
    raise error
