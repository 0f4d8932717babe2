"""Ctrl-C and SIGTERM, which batch queues and machines send to stop a program: both act the same."""

import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType


def _pass_on(number: int, frame: FrameType | None) -> None:
    os.kill(os.getpid(), signal.SIGINT)


def treat_term_as_interrupt() -> None:
    """Make SIGTERM act like Ctrl-C.

    Ray installs a handler of its own when it starts, so call this again after that.
    """
    signal.signal(signal.SIGTERM, _pass_on)


@contextmanager
def term_as_interrupt() -> Iterator[None]:
    """Make SIGTERM act like Ctrl-C inside the block."""
    before = signal.getsignal(signal.SIGTERM)
    treat_term_as_interrupt()
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before or signal.SIG_DFL)


@contextmanager
def restored_interrupts() -> Iterator[None]:
    """Give Ctrl-C, after the block, the handler that it had before.

    Ray Tune leaves its own in place when a run ends: it would take the next Ctrl-C for itself, and
    nothing would happen.
    """
    before = signal.getsignal(signal.SIGINT)
    try:
        yield
    finally:
        # Python allows no other thread to do so, and Tune then leaves the handler alone.
        if threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGINT, before)


@contextmanager
def delay_interrupts() -> Iterator[None]:
    """Delay a Ctrl-C until the end of the block."""
    held: list[int] = []
    before = signal.signal(signal.SIGINT, lambda number, frame: held.append(number))
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)
    if held:
        raise KeyboardInterrupt
