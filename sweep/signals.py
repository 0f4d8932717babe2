"""Ctrl-C, and the signal by which a machine or a queue ends a program, which is treated alike."""

import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType


def _pass_on(number: int, frame: FrameType | None) -> None:
    os.kill(os.getpid(), signal.SIGINT)


def treat_term_as_interrupt() -> None:
    """Make SIGTERM do what Ctrl-C does. Ray puts a handler of its own in place when it starts, so
    this is called again after that."""
    signal.signal(signal.SIGTERM, _pass_on)


@contextmanager
def one_way_to_stop() -> Iterator[None]:
    """Treat SIGTERM as Ctrl-C inside the block."""
    before = signal.getsignal(signal.SIGTERM)
    treat_term_as_interrupt()
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before or signal.SIG_DFL)


@contextmanager
def interrupts_held() -> Iterator[None]:
    """Let a Ctrl-C wait for the end of the block, and count then."""
    held: list[int] = []
    before = signal.signal(signal.SIGINT, lambda number, frame: held.append(number))
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)
    if held:
        raise KeyboardInterrupt
