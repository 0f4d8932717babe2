"""Standard output and error that cannot end a run: whoever read them may have gone.

A reader that leaves (``| head``), a full disk behind ``> log``, a terminal that is gone and a
character that the encoding lacks are all met below Python's buffers, where every way of writing
passes: ``print``, rich, and the flush with which the interpreter ends.
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
# Whoever closes a pipe wants no more of it; about anything else the user should hear once.
QUIET = (errno.EPIPE, errno.ECONNRESET)


class SteadyFile(io.FileIO):
    """An open descriptor that takes all that is written, and drops what cannot be."""

    def __init__(self, descriptor: int, name: str) -> None:
        super().__init__(descriptor, "w", closefd=False)
        self._label = name
        self._told = False

    def write(self, data: Any) -> int:
        """Write ``data``; return its length in any case. Later writes are tried again: a full disk
        may find room."""
        view = memoryview(data).cast("B")
        try:
            return self._write_some(view)
        except OSError as error:
            self._notify(error)
            return len(view)

    def _write_some(self, view: memoryview) -> int:
        while (count := super().write(view)) is None:
            # A descriptor that does not block, shared with the program at its other end: wait.
            select.select([], [self], [])
        return count

    def _notify(self, error: OSError) -> None:
        if self._told or error.errno in QUIET or self.fileno() == STDERR:
            return
        self._told = True
        reason = error.strerror or error
        print(f"note: {self._label} cannot be written ({reason})", file=sys.stderr)


def steady_streams() -> None:
    """Let no fault of standard output or error reach this process's code from now on.

    A stream that was closed before the start leads to nowhere. Streams that someone has put in
    the place of Python's own (a test, a notebook) are left as they are.
    """
    _occupy_closed_descriptors()
    # Standard error first: it tells what is wrong with the other.
    sys.stderr = _steady(sys.stderr, sys.__stderr__, STDERR, "standard error")
    sys.stdout = _steady(sys.stdout, sys.__stdout__, STDOUT, "standard output")


def _occupy_closed_descriptors() -> None:
    """Open what is closed of descriptors 0 to 2: the next file to be opened, say the journal,
    would get that number, and what libraries print there would go into it."""
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
        # A label that the terminal cannot show appears as its code.
        errors="backslashreplace",
        line_buffering=stream.line_buffering or stream.write_through,
    )
