"""One session of a sweep: `python -m sweep.run` and every process that it starts."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import psutil

ROOT = Path(__file__).parent.parent.parent
GONE_SECONDS = 60.0


class Session:
    """A driver in a session (setsid) of its own.

    Gcs, raylet, agents and workers keep the driver's session id, whoever adopts them when it
    dies: so what belongs to it can be told from everybody else's Ray, and nothing else is killed.
    """

    def __init__(self, arguments: Sequence[str], environment: dict[str, str], log: Path) -> None:
        """Start ``python -m sweep.run ARGUMENTS``; what it prints is added to ``log``."""
        with log.open("ab") as output:
            self._driver = subprocess.Popen(
                [sys.executable, "-m", "sweep.run", *arguments],
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                cwd=ROOT,
                env=environment,
            )
        self.pid = self._driver.pid
        self.began = time.monotonic()

    @property
    def seconds(self) -> float:
        """Seconds since the start."""
        return time.monotonic() - self.began

    @property
    def exit_code(self) -> int | None:
        """The driver's exit code; None while it runs."""
        return self._driver.poll()

    def wait(self, seconds: float) -> int | None:
        """Wait for the driver's end; return its exit code, or None if it still runs."""
        try:
            return self._driver.wait(seconds)
        except subprocess.TimeoutExpired:
            return None

    def processes(self, name: str = "") -> list[psutil.Process]:
        """Return the living processes of the session whose command line has ``name`` in its
        first word."""
        own = [pid for pid in psutil.pids() if _session_of(pid) == self.pid]
        return [process for process in map(_open, own) if process and name in _title(process)]

    def kill_driver(self) -> None:
        """Kill the driver alone; wait until it is dead."""
        self._driver.kill()
        self._driver.wait()

    def kill_all(self) -> None:
        """Kill every process of the session at once, as a machine's death would."""
        kill_processes(self.processes())
        self._driver.wait()

    def clear(self) -> None:
        """Kill what has outlived the driver; return once no process is left."""
        deadline = time.monotonic() + GONE_SECONDS
        while left := self.processes():
            if time.monotonic() > deadline:
                raise RuntimeError(f"processes that SIGKILL does not end: {left}")
            kill_processes(left)
            time.sleep(0.1)


def kill_processes(processes: Sequence[psutil.Process]) -> None:
    """Send SIGKILL to each."""
    for process in processes:
        try:
            process.send_signal(signal.SIGKILL)
        except psutil.NoSuchProcess:
            continue


def _session_of(pid: int) -> int | None:
    try:
        return os.getsid(pid)
    except (ProcessLookupError, PermissionError):
        return None


def _open(pid: int) -> psutil.Process | None:
    try:
        process = psutil.Process(pid)
        return None if process.status() == psutil.STATUS_ZOMBIE else process
    except psutil.NoSuchProcess:
        return None


def _title(process: psutil.Process) -> str:
    try:
        return (process.cmdline() or [""])[0]
    except psutil.NoSuchProcess:
        return ""
