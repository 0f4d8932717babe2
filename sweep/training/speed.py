"""How fast texts are scored, in batches and one by one, and how much memory that takes."""

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import cycle, islice
from typing import Protocol

import numpy as np

from sweep.storage.events import ServingFacts
from sweep.training.fits import Predict

# Fewest batches and single texts that are timed, however long they take, and the most of either.
LEAST_BATCHES, LEAST_TEXTS, MOST = 2, 20, 10_000
# A first batch that takes this many seconds is timed itself: what a library does once is little of
# that.
LONG = 5.0
# Texts scored alone before any is timed: a first one waits for what a library does once.
WARM_UP = 3


@dataclass(frozen=True)
class Load:
    """What is scored: real texts, in their order and again from the first, ``batch`` at a time; and
    for how many seconds, each time."""

    texts: Sequence[str]
    batch: int
    seconds: float


class Peak(Protocol):
    """The highest memory since ``reset``, in bytes; None where that cannot be known."""

    def reset(self) -> None: ...

    def read(self) -> int | None: ...


def measure_use(predict: Predict, load: Load, memory: Peak) -> ServingFacts:
    """Return speed, latency and memory of ``predict``, which has to do all that a user waits for,
    from the text to the class."""
    memory.reset()
    speed = _measure_speed(predict, load)
    latencies = _measure_latencies(predict, load)
    half, most = np.percentile(latencies, [50, 95])
    return {
        "serving_texts_per_second": speed,
        "serving_batch": load.batch,
        "latency_p50_seconds": float(half),
        "latency_p95_seconds": float(most),
        "serving_memory_bytes": memory.read(),
    }


def _measure_speed(predict: Predict, load: Load) -> float:
    texts = cycle(load.texts)
    batches = (list(islice(texts, load.batch)) for _ in range(MOST))
    (first,) = _time_each(predict, batches, 0.0, 1)
    if first >= max(LONG, load.seconds):
        return load.batch / first
    seconds = list(_time_each(predict, batches, load.seconds, LEAST_BATCHES))
    return load.batch * len(seconds) / sum(seconds)


def _measure_latencies(predict: Predict, load: Load) -> list[float]:
    for text in load.texts[:WARM_UP]:
        predict([text])
    singles = ([text] for text in islice(cycle(load.texts), MOST))
    return list(_time_each(predict, singles, load.seconds, LEAST_TEXTS))


def _time_each(
    predict: Predict, batches: Iterator[list[str]], limit: float, least: int
) -> Iterator[float]:
    """Yield the seconds of each of ``batches``, until ``limit`` seconds have passed and ``least``
    were timed."""
    begin = time.perf_counter()
    for count, batch in enumerate(batches, start=1):
        start = time.perf_counter()
        predict(batch)
        end = time.perf_counter()
        yield end - start
        if count >= least and end - begin >= limit:
            return
