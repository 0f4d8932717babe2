"""Times steps of this process: seconds on the clock, seconds of processor, and resident memory."""

import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def timed(what: str) -> Iterator[None]:
    """Print what the block took."""
    wall, cpu = time.perf_counter(), time.process_time()
    yield
    wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
    memory = read_resident() / 1e6
    print(f"  {what:<46} {wall:7.2f} s, {cpu:6.2f} s of processor, {memory:5.0f} MB", flush=True)


def read_resident() -> int:
    """Return this process's resident memory in bytes."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")
