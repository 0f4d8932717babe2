"""How property tests run: profiles of hypothesis, and a count of the cases that ran."""

import os
import re
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import wraps
from pathlib import Path
from typing import Any

from hypothesis import HealthCheck, given, settings

# Many more cases, new ones each time; by default they are the same on every machine.
THOROUGH = os.environ.get("SWEEP_HYPOTHESIS") == "thorough"
FACTOR = int(os.environ.get("SWEEP_HYPOTHESIS_FACTOR", "20")) if THOROUGH else 1

# How many cases each property test should run, and how many it ran to the end.
WANTED: dict[str, int] = {}
RAN: Counter[str] = Counter()
# How often a case reached what it is about: subsets, plans, tables, dry runs.
REACHED: Counter[str] = Counter()

CRASH = re.compile(r"Traceback|object at 0x")
# Line breaks and terminal control codes.
BREAKS = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029]")


def cases(count: int, **strategies: Any) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Run the decorated test on ``count`` values of ``strategies``, and count them."""

    def decorate(body: Callable[..., None]) -> Callable[..., None]:
        name = f"{body.__module__}.{body.__qualname__}"
        WANTED[name] = count * FACTOR

        @wraps(body)
        def counted(*args: Any, **kwargs: Any) -> None:
            body(*args, **kwargs)
            RAN[name] += 1

        profile = settings(
            max_examples=count * FACTOR,
            derandomize=not THOROUGH,
            deadline=None,
            database=None,
            suppress_health_check=list(HealthCheck),
        )
        return profile(given(**strategies)(counted))

    return decorate


def check_sentence(error: object) -> str:
    """Return the error's text after checking that it is one line, safe to print."""
    text = str(error)
    assert text.strip()
    assert not BREAKS.search(text), ascii(text)
    assert not CRASH.search(text), ascii(text)
    assert len(text) < 3000, len(text)
    return text


@contextmanager
def untouched(folder: Path, *, but: frozenset[str] = frozenset()) -> Iterator[None]:
    """Check that nothing below ``folder`` is written, changed or removed, except ``but``."""
    before = take_stock(folder, but)
    yield
    assert take_stock(folder, but) == before


def take_stock(folder: Path, but: frozenset[str]) -> dict[Path, tuple[int, int]]:
    return {
        path: (0, 0) if path.is_dir() else (path.stat().st_size, path.stat().st_mtime_ns)
        for path in folder.rglob("*")
        if str(path.relative_to(folder)) not in but
    }
