"""Watches a running sweep from another terminal by reading its journal as it grows."""

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from rich.console import Console

from sweep.display.progress import Board
from sweep.plan import Candidate, Plan
from sweep.storage.events import Closed, Event
from sweep.storage.journal import JournalTail, is_held
from sweep.storage.record import RunRecord, apply

POLL_SECONDS = 0.5
# Seconds without an event before checking that the driver is alive.
SILENT_SECONDS = 10.0


@dataclass(frozen=True)
class AttachedRun:
    """What was known of a run when watching it ended."""

    folder: Path
    driver: Literal["ended", "died", "running"]
    """``ended``: it closed the journal; ``died``: it is gone and has not; ``running``: Ctrl-C ended
    the watching alone."""
    unfinished: int
    """Trials without a result."""

    @property
    def exit_code(self) -> int:
        """1 if the driver died, else 0."""
        return 1 if self.driver == "died" else 0


class Watch:
    """The state of a run according to its journal so far."""

    def __init__(self, clock: Callable[[], float] = time.time) -> None:
        self._clock = clock
        self.record = RunRecord()
        # Trial id -> Unix time at which its worker was last heard of.
        self.running: dict[str, float] = {}
        # The last event if it says that the driver has ended.
        self.closed: Closed | None = None
        self._opened = clock()
        self._reopened = 0

    def add(self, event: Event) -> None:
        """Update the state with one more event."""
        apply(self.record, event)
        self.closed = event if event["event"] == "closed" else None
        if event["event"] == "opened":
            self._opened = event["time"]
            self.running.clear()
        elif event["event"] == "closed":
            self.running.clear()
        elif event["event"] == "reopened":
            self._reopened += 1
        elif event["event"] == "started" or (
            event["event"] == "epoch" and event["trial_id"] in self.running
        ):
            self.running[event["trial_id"]] = event["time"]
        elif event["event"] == "ended" or event["event"] == "retried":
            self.running.pop(event["trial_id"], None)

    def elapsed(self) -> float:
        """Return the seconds since the driver started, up to its end if it has ended."""
        until = self.closed["time"] if self.closed else self._clock()
        return max(float(until - self._opened), 0.001)

    def version(self) -> tuple[object, ...]:
        """Return a value that changes whenever a new board is needed."""
        record = self.record
        return len(record.trials), record.plan, len(record.opened), self._reopened

    def count_unfinished(self) -> int:
        """Return the trials without a result: as the driver counted them at its end, or by now."""
        if self.closed:
            return int(self.closed.get("trials_left") or 0)
        return len(self.record.planned().keys() - self.record.done())

    def build_board(self, console: Console) -> Board:
        """Return a board of the journal's plan."""
        plan = rebuild_plan(self.record)
        return Board(plan, self.record, self.running, console, self._clock, self.elapsed)


def rebuild_plan(record: RunRecord) -> Plan:
    """Return the journal's plan, its trials in the order in which they were planned."""
    trials = tuple(trial.spec for trial in record.planned().values())
    cells = tuple(dict.fromkeys(spec.cell for spec in trials))
    candidates: dict[str, dict[Candidate, None]] = {}
    for spec in trials:
        candidates.setdefault(spec.cell.model, {})[spec.candidate] = None
    own = {model: tuple(found) for model, found in candidates.items()}
    return Plan(cells, own, trials)


def attach(
    folder: Path, console: Console, sleep: Callable[[float], None] = time.sleep
) -> AttachedRun:
    """Show the progress of the run in ``folder`` until its driver ends, or until Ctrl-C, which
    leaves the sweep alone; return how it stood then.

    Raises RunFolderError if there is no run, or its journal is damaged.
    """
    tail, watch = JournalTail(folder), Watch()
    shown, board, heard = None, watch.build_board(console), time.monotonic()
    try:
        while not watch.closed:
            for event in tail.read():
                watch.add(event)
                heard = time.monotonic()
            if watch.record.trials and shown != watch.version():
                shown = watch.version()
                board.hide()
                board = watch.build_board(console)
                board.start()
            if shown:
                board.refresh()
            if time.monotonic() - heard > SILENT_SECONDS and not is_held(folder):
                board.stop()
                text = f"{folder}: the driver is gone; continue with the same command and --resume"
                console.print(text, highlight=False, soft_wrap=True, markup=False)
                return AttachedRun(folder, "died", watch.count_unfinished())
            sleep(0 if watch.closed else POLL_SECONDS)
        if shown:
            board.stop()
    except KeyboardInterrupt:
        board.hide()
        console.print("the sweep continues")
        return AttachedRun(folder, "running", watch.count_unfinished())
    left = watch.count_unfinished()
    if left:
        unfinished = "1 trial is" if left == 1 else f"{left} trials are"
        console.print(f"the driver has ended; {unfinished} unfinished", highlight=False)
    return AttachedRun(folder, "ended", left)
