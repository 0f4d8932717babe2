"""Memory of this process that lies in RAM, its libraries included."""

import ctypes
import gc
import re
import sys
from pathlib import Path

# What the kernel tells of a process, and takes as the wish to count its peak anew
# (https://docs.kernel.org/filesystems/proc.html).
STATUS, CLEAR, PEAK_ONLY = Path("/proc/self/status"), Path("/proc/self/clear_refs"), "5"
PEAK = re.compile(r"^VmHWM:\s*(\d+) kB", re.MULTILINE)


class ResidentPeak:
    """The highest resident memory since ``reset``, after all that is no longer used went back to
    the system: what earlier work in this process took does not count."""

    def __init__(self) -> None:
        self._known = False

    def reset(self) -> None:
        """Count anew from what is resident now."""
        release_unused()
        try:
            CLEAR.write_text(PEAK_ONLY)
        except OSError:
            # Not Linux, or a container that forbids it.
            self._known = False
        else:
            self._known = True

    def read(self) -> int | None:
        """Return bytes; None where the system cannot count anew."""
        found = PEAK.search(STATUS.read_text()) if self._known else None
        return int(found[1]) * 1024 if found else None


def release_unused() -> None:
    """Return to the system what this process has freed, which glibc would keep."""
    gc.collect()
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None) if sys.platform == "linux" else None
    if trim is not None:
        trim(0)
