"""Python, processors, memory, shared memory and disk of this machine."""

import os
import platform
import re
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

from sweep.cluster.hardware import inspect_machine
from sweep.errors import Finding, format_bytes, format_value
from sweep.startup.home import is_writable, list_home_notes

# Free memory below which not even the quickstart's two trials and Ray fit, in bytes: each of these
# processes takes about 0.5 GB.
LITTLE_MEMORY = 2 * 10**9
# Docker gives containers 64 MiB. Ray needs room for the texts of the data and for messages.
LITTLE_SHARED = 500 * 10**6
LITTLE_DISK = 5 * 10**9
SHARED_MEMORY = Path("/dev/shm")
MEMINFO = Path("/proc/meminfo")


def check_machine(out: Path) -> Iterator[Finding]:
    """Yield a finding for each part of the machine; run folders will be in ``out``."""
    yield Finding("note", "python", _describe_python())
    yield _check_memory()
    if SHARED_MEMORY.is_dir():
        yield _check_shared()
    yield _check_disk(out)
    yield from (Finding("warning", "disk", note) for note in list_home_notes())


def _describe_python() -> str:
    return f"Python {platform.python_version()} on {platform.platform()}: {sys.executable}"


def _check_memory() -> Finding:
    machine = inspect_machine()
    free = min(_find_available() or machine.memory_bytes, machine.memory_bytes)
    gpus = len(machine.gpus)
    sentence = (
        f"{machine.cpus} processor{'s' * (machine.cpus != 1)}, "
        f"{format_bytes(machine.memory_bytes)} of memory, {format_bytes(free)} of it free, "
        f"{gpus or 'no'} NVIDIA GPU{'s' * (gpus != 1)}"
    )
    if free >= LITTLE_MEMORY:
        return Finding("note", "machine", sentence)
    return Finding("warning", "machine", f"{sentence}; end other programs before you run a study")


def _find_available() -> int:
    """Return the bytes that programs can still allocate; 0 where the system does not say."""
    if not MEMINFO.is_file():
        return 0
    found = re.search(r"^MemAvailable:\s+(\d+) kB$", MEMINFO.read_text(), re.MULTILINE)
    return int(found[1]) * 1024 if found else 0


def _check_shared() -> Finding:
    free = shutil.disk_usage(SHARED_MEMORY).free
    sentence = f"{SHARED_MEMORY} has {format_bytes(free)} free for Ray's objects"
    if free >= LITTLE_SHARED:
        return Finding("note", "shared memory", sentence)
    remedy = "start the container with --shm-size=2g (Docker), or delete files there"
    return Finding(
        "warning",
        "shared memory",
        f"{sentence}, so Ray keeps them on disk, which is slow; {remedy}",
    )


def _check_disk(out: Path) -> Finding:
    folder = next(path for path in (out, *out.absolute().parents) if path.exists())
    if not folder.is_dir():
        return Finding("error", "disk", f"--out {out}: {folder} is a file; choose another --out")
    if not is_writable(out.absolute()):
        user = format_value(os.environ.get("USER") or os.getuid())
        sentence = f"--out {out}: {folder} cannot be written by user {user}; choose another --out"
        return Finding("error", "disk", sentence)
    free = shutil.disk_usage(folder).free
    sentence = f"run folders go to {out.absolute()}, where {format_bytes(free)} are free"
    if free >= LITTLE_DISK:
        return Finding("note", "disk", sentence)
    return Finding("warning", "disk", f"{sentence}; make room, or choose another --out")
