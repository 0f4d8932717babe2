"""Real Tune: a machine that is slow to start a worker gets its part of short trials."""

import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import ray
from ray import tune
from ray_runs import start_nodes
from toy_tune import run_trials

from sweep.tuning.callbacks import SessionCallback
from sweep.tuning.scheduler import METRIC

TRIALS = 12
START_SECONDS = 4.0
"""A worker takes as long as several trials."""


class Ends(SessionCallback):
    """Notes the node on which each trial ended."""

    def __init__(self) -> None:
        self.nodes: list[str] = []

    def on_trial_result(
        self, iteration: int, trials: Any, trial: Any, result: Any, **info: Any
    ) -> None:
        self.nodes.append(result["node"])


def build_trainable(first: Path) -> type[tune.Trainable]:
    """Return a short trial whose every worker but the first starts slowly."""

    # Defined here, so that Ray sends it along: workers cannot import this file.
    class ShortTrial(tune.Trainable):  # type: ignore[misc]
        def setup(self, config: dict[str, Any]) -> None:
            if first.exists():
                time.sleep(START_SECONDS)
            first.touch()

        def reset_config(self, new_config: dict[str, Any]) -> bool:
            return True

        def step(self) -> dict[str, Any]:
            time.sleep(1)
            node = ray.get_runtime_context().get_node_id()
            return {"epoch": 1, METRIC: 0.5, "done": True, "node": node}

    return ShortTrial


@pytest.fixture
def two_nodes(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Join a cluster of two nodes with a CPU each."""
    monkeypatch.setenv("TUNE_DISABLE_AUTO_CALLBACK_LOGGERS", "1")
    with start_nodes(2) as address:
        ray.init(address=address, log_to_driver=False)
        yield


def test_short_trials_reach_a_machine_whose_worker_starts_slowly(
    two_nodes: None, tmp_path: Path
) -> None:
    ends = Ends()
    run_trials(build_trainable(tmp_path / "first"), TRIALS, ends, tmp_path / "tune")
    counts = Counter(ends.nodes)
    assert sum(counts.values()) == TRIALS
    assert len(counts) == 2
    assert min(counts.values()) >= 2
