"""Kills inside the writing of a checkpoint, at every point of it in turn."""

import os
import signal
from pathlib import Path

from .campaign import STUCK_SECONDS, Campaign
from .in_workers import kill_points
from .kills import Hung
from .sweeps import MAX_EPOCHS

IN_WORKERS = Path(__file__).parent / "in_workers"
EPOCHS = (2, MAX_EPOCHS)
"""The epochs in whose checkpoints a run dies: one of a trial that goes on, and a trial's last."""


class WriterKills(Campaign):
    """Sweeps each of which dies at one of the points in the deck, once per epoch of ``EPOCHS``."""

    def _run_killed(self, folder: Path) -> None:
        point = self._deck[-1]
        for epoch in EPOCHS:
            self._die(folder, point, epoch)
        self._deck.pop()
        session = self._start(folder)
        try:
            self._await_end(session, folder)
        except Hung as fault:
            self._add_difference(folder, str(fault))
        finally:
            session.clear()

    def _die(self, folder: Path, point: str, epoch: int) -> None:
        """Start or resume the sweep, which kills its driver and the worker that writes."""
        marker = folder.parent / f"{self._mode.name}-died-in-{epoch}"
        session = self._start(folder, **_arm(point, epoch, marker))
        try:
            code = session.wait(STUCK_SECONDS)
        finally:
            session.clear()
        if code == -signal.SIGKILL and marker.exists():
            self._count(f"writer {point}", folder)
        else:
            self._add_difference(folder, f"no death {point} of epoch {epoch}: exit code {code}")


def _arm(point: str, epoch: int, marker: Path) -> dict[str, str]:
    path = os.pathsep.join(filter(None, [str(IN_WORKERS), os.environ.get("PYTHONPATH")]))
    return {
        "PYTHONPATH": path,
        kill_points.POINT: point,
        kill_points.EPOCH: str(epoch),
        kill_points.MARKER: str(marker),
    }
