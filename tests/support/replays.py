"""Replays a journal to the display, at the times of its events."""

from collections.abc import Sequence
from io import StringIO
from typing import NamedTuple

from rich.console import Console

from sweep.display.attach import Watch
from sweep.storage.events import Event

# Moments between events at which the time left is read too.
STEPS = 100


class Moment(NamedTuple):
    """A moment of a run, in seconds: since its start, to its end, and the displayed time left."""

    passed: float
    left: float
    shown: float | None
    # Trials that no worker has had yet.
    waiting: int


def replay(events: Sequence[Event], from_part: float = 0.1) -> list[Moment]:
    """Return what a watcher sees at each event after that fraction of the last session's time, and
    at moments in between. Before the first one only the preflight counts (test_estimate.py)."""
    opened = max(i for i, event in enumerate(events) if event["event"] == "opened")
    start, end = events[opened]["time"], events[-1]["time"]
    now = start
    watch = Watch(lambda: now)
    first = next(i for i in range(opened + 1, len(events)) if _is_progress(events[i]))
    for event in events[:first]:
        watch.add(event)
    board = watch.build_board(Console(file=StringIO()))
    begun = events[first]["time"]
    steps = [begun + (end - begun) * step / STEPS for step in range(STEPS)]
    moments = []
    for event in events[first:]:
        due = [step for step in steps if step < event["time"]] + [event["time"]]
        steps = steps[len(due) - 1 :]
        for now in due:
            if now == event["time"]:
                watch.add(event)
            board.refresh()
            # The last epoch and the result of a trial come at once.
            left = len(watch.record.planned().keys() - watch.record.done())
            settled = event.get("decision") not in ("stop", "done") and left
            if now >= start + from_part * (end - start) and settled:
                waiting = left - len(watch.running)
                moments.append(Moment(now - start, end - now, board.seconds_left(), waiting))
    return moments


def _is_progress(event: Event) -> bool:
    return event["event"] not in ("planned", "replanned", "test_set", "opened", "reopened")


def find_misses(moments: Sequence[Moment], factor: float, slack: float) -> list[Moment]:
    """Return the moments whose displayed time is neither within ``factor`` of the true one nor
    within ``slack`` seconds of it."""
    return [moment for moment in moments if not _is_right(moment, factor, slack)]


def _is_right(moment: Moment, factor: float, slack: float) -> bool:
    if moment.shown is None:
        return False
    near = moment.left / factor <= moment.shown <= moment.left * factor
    return near or abs(moment.shown - moment.left) <= slack
