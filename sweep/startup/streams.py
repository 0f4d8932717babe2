"""Standard output and error that cannot end a run, even if nobody reads them any more.

A reader that exits (``| head``), a full disk behind ``> log``, a closed terminal and a character
that the encoding lacks are all handled below Python's buffers, where every write arrives:
``print``, rich, and the interpreter's final flush.
"""

import errno
import io
import os
import select
import sys
from contextlib import suppress
from pathlib import Path
from typing import Any, TextIO

STDOUT, STDERR = 1, 2
# Whoever closes a pipe wants no more output; any other error is reported once.
QUIET = (errno.EPIPE, errno.ECONNRESET)


class SteadyFile(io.FileIO):
    """An open descriptor whose writes never fail: data that cannot be written are dropped."""

    def __init__(self, descriptor: int, name: str) -> None:
        super().__init__(descriptor, "w", closefd=False)
        self._label = name
        self._reported = False

    def write(self, data: Any) -> int:
        """Write ``data`` and return its length in any case. After a failure, later writes are still
        attempted: a full disk may have room by then."""
        view = memoryview(data).cast("B")
        try:
            return self._write_some(view)
        except OSError as error:
            self._report(error)
            return len(view)

    def _write_some(self, view: memoryview) -> int:
        while (count := super().write(view)) is None:
            # The program at the other end has made the shared descriptor non-blocking: wait.
            select.select([], [self], [])
        return count

    def _report(self, error: OSError) -> None:
        if self._reported or error.errno in QUIET or self.fileno() == STDERR:
            return
        self._reported = True
        reason = error.strerror or error
        print(f"note: cannot write to {self._label} ({reason})", file=sys.stderr)


def steady_streams() -> None:
    """Keep failures of standard output and error from reaching this process's code.

    A stream that was already closed is sent to the null device. Streams that replace Python's own
    (in a test or a notebook) are left alone.
    """
    _occupy_closed_descriptors()
    # Standard error first: it reports what is wrong with standard output.
    sys.stderr = _steady(sys.stderr, sys.__stderr__, STDERR, "standard error")
    sys.stdout = _steady(sys.stdout, sys.__stdout__, STDOUT, "standard output")


def _occupy_closed_descriptors() -> None:
    """Open any closed descriptor from 0 to 2: otherwise the next file to be opened, say the
    journal, would get that number, and libraries would print into it."""
    while (descriptor := os.open(os.devnull, os.O_RDWR)) <= STDERR:
        os.set_inheritable(descriptor, True)
    os.close(descriptor)


def _steady(stream: TextIO | None, own: TextIO | None, descriptor: int, name: str) -> TextIO:
    if stream is None:
        return Path(os.devnull).open("w", encoding="utf-8")
    if stream is not own or not isinstance(stream, io.TextIOWrapper):
        return stream
    with suppress(OSError):
        stream.flush()
    return io.TextIOWrapper(
        io.BufferedWriter(SteadyFile(descriptor, name)),
        encoding=stream.encoding,
        # Characters that the terminal cannot show appear as escapes.
        errors="backslashreplace",
        line_buffering=stream.line_buffering or stream.write_through,
    )
