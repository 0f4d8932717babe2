"""The ways to die. Each waits for its victim or its moment and sends SIGKILL."""

import random
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil

from sweep.storage.manifest import MANIFEST
from sweep.storage.tables import HISTORY_NAME, PREDICTIONS_NAME, RESULTS_NAME

from .session import Session, kill_processes

TABLES = (RESULTS_NAME, HISTORY_NAME, PREDICTIONS_NAME)
WORKER, RAYLET = "ray::ResourceTrainable", "raylet/raylet"
VICTIM_SECONDS = 600.0
DRIVER_FOLLOWS_SECONDS = 300.0
WRITE_SECONDS = 0.004
"""About how long a table is being written: the kill falls somewhere in it."""


class Missed(Exception):  # noqa: N818  (no error: the kill is tried again)
    """The run ended, or the moment passed, before the kill could fall."""


class Hung(Exception):  # noqa: N818  (what a run did, not what this code did)
    """The driver lives on without what it needs."""


def kill_driver(session: Session, folder: Path, draw: random.Random) -> None:
    """Kill the driver alone; Ray's processes have to notice by themselves."""
    session.kill_driver()


def kill_node(session: Session, folder: Path, draw: random.Random) -> None:
    """Kill driver, gcs, raylet and workers together."""
    session.kill_all()


def kill_raylet(session: Session, folder: Path, draw: random.Random) -> None:
    """Kill the raylet; the driver, which cannot go on without, has to end."""
    _kill_dead([draw.choice(list(_await(session, RAYLET)))])
    if session.wait(DRIVER_FOLLOWS_SECONDS) is None:
        raise Hung(f"the driver still runs {DRIVER_FOLLOWS_SECONDS:g} s after its raylet died")


def kill_worker(session: Session, folder: Path, draw: random.Random) -> None:
    """Kill one worker that trains."""
    _kill_dead([draw.choice(_await(session, WORKER))])


def kill_in_checkpoint(session: Session, folder: Path, draw: random.Random) -> None:
    """Kill the workers while a checkpoint is not whole."""
    _await(session, WORKER)
    half = _watch(session, lambda: next(_list_half_checkpoints(folder), None))
    _kill_dead(session.processes(WORKER))
    if not half.is_dir() or (half / MANIFEST).exists():
        raise Missed("the checkpoint was whole, or gone")


def kill_in_table(session: Session, folder: Path, draw: random.Random) -> None:
    """Kill the driver while it writes a table."""
    beside = folder / f".{draw.choice(TABLES)}.{session.pid}"
    _watch(session, lambda: beside if beside.exists() else None)
    time.sleep(draw.uniform(0, WRITE_SECONDS))
    session.kill_driver()
    if not any((folder / f".{name}.{session.pid}").exists() for name in TABLES):
        raise Missed("the table was written")


Kill = Callable[[Session, Path, random.Random], None]
KILLS: dict[str, Kill] = {
    "worker": kill_worker,
    "worker in a checkpoint": kill_in_checkpoint,
    "driver": kill_driver,
    "driver in a table": kill_in_table,
    "raylet": kill_raylet,
    "node": kill_node,
}
SURVIVED = ("worker", "worker in a checkpoint")
"""These the run outlives; the others end it."""


def _await(session: Session, name: str) -> list[psutil.Process]:
    """Return the processes of that name once there is one."""
    deadline = time.monotonic() + VICTIM_SECONDS
    while session.exit_code is None:
        if found := session.processes(name):
            return found
        if time.monotonic() > deadline:
            raise Hung(f"no {name} in {VICTIM_SECONDS:g} s")
        time.sleep(0.2)
    raise Missed("the run ended before")


def _watch(session: Session, look: Callable[[], Path | None]) -> Path:
    """Return what ``look`` finds, looking without a pause."""
    deadline = time.monotonic() + VICTIM_SECONDS
    while session.exit_code is None:
        if (found := look()) is not None:
            return found
        if time.monotonic() > deadline:
            raise Hung(f"nothing was written in {VICTIM_SECONDS:g} s")
    raise Missed("the run ended before")


def _list_half_checkpoints(folder: Path) -> Iterator[Path]:
    for path in (folder / "checkpoints").glob("*/epoch-*"):
        if not (path / MANIFEST).exists():
            yield path


def _kill_dead(processes: list[psutil.Process]) -> None:
    kill_processes(processes)
    psutil.wait_procs(processes, timeout=10)
