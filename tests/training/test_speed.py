"""What is timed, and what memory counts."""

import sys
import time
from collections.abc import Sequence

import numpy as np
import pytest

from sweep.training import speed
from sweep.training.resident import ResidentPeak
from sweep.training.speed import LEAST_BATCHES, LEAST_TEXTS, WARM_UP, Load, measure_use

TEXTS = tuple(f"text {number}" for number in range(5))
BLOCK = 64 * 2**20


class Steps:
    """A peak that says when it was asked."""

    def __init__(self, calls: list[list[str]]) -> None:
        self._calls = calls
        self.reset_at = -1

    def reset(self) -> None:
        self.reset_at = len(self._calls)

    def read(self) -> int:
        return len(self._calls)


def test_batches_are_full_and_single_texts_keep_their_order() -> None:
    calls: list[list[str]] = []

    def predict(texts: Sequence[str]) -> list[int]:
        calls.append(list(texts))
        return [0] * len(texts)

    peak = Steps(calls)
    facts = measure_use(predict, Load(TEXTS, 3, 0.0), peak)
    # One batch warms up, and so do a few texts.
    batches, singles = calls[: LEAST_BATCHES + 1], calls[LEAST_BATCHES + 1 :]
    assert batches[:3] == [[*TEXTS[:3]], [*TEXTS[3:], TEXTS[0]], [*TEXTS[1:4]]]
    assert singles[WARM_UP : WARM_UP + 6] == [[text] for text in (*TEXTS, TEXTS[0])]
    assert len(singles) == WARM_UP + LEAST_TEXTS
    assert (peak.reset_at, facts["serving_memory_bytes"]) == (0, len(calls))
    assert facts["serving_batch"] == 3


def test_of_a_slow_model_one_batch_is_enough(monkeypatch: pytest.MonkeyPatch) -> None:
    sizes: list[int] = []

    def predict(texts: Sequence[str]) -> list[int]:
        sizes.append(len(texts))
        time.sleep(0.05 if len(texts) > 1 else 0.0)
        return [0] * len(texts)

    monkeypatch.setattr(speed, "LONG", 0.04)
    facts = measure_use(predict, Load(TEXTS, 3, 0.0), Steps([]))
    assert sizes.count(3) == 1
    assert 20 < facts["serving_texts_per_second"] <= 60


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux counts a peak anew")
def test_memory_that_was_freed_before_does_not_count() -> None:
    peak = ResidentPeak()
    held = np.ones(BLOCK, np.uint8)
    peak.reset()
    before = peak.read()
    del held
    peak.reset()
    after = peak.read()
    assert before is not None and after is not None
    assert before - after > 0.9 * BLOCK
    np.ones(BLOCK, np.uint8).sum()
    assert (peak.read() or 0) - after > 0.9 * BLOCK
