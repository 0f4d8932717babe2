"""How a command ends: its exit code, and one sentence for what the user can fix."""

import sys
from collections.abc import Callable

from sweep.errors import SweepError
from sweep.startup.streams import steady_streams

# The exit code after an interruption, as a shell gives it for Ctrl-C.
INTERRUPTED = 130


def run_command(work: Callable[[], int], interrupted: str) -> int:
    """Return the exit code of ``work``; say what was wrong if it raises SweepError, and print
    ``interrupted`` after a Ctrl-C."""
    steady_streams()
    try:
        return work()
    except SweepError as error:
        print(f"error: {error}", file=sys.stderr)
        return error.exit_code
    except KeyboardInterrupt:
        print(interrupted, file=sys.stderr)
        return INTERRUPTED
