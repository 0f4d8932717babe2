"""Real Tune, one CPU: what the order of trials becomes when workers are lost."""

import os
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

TRIALS = 6
LOST = (1, 3)
"""Places in the plan of the trials that lose their worker once."""


class Starts(SessionCallback):
    """Notes the places of the trials in the order in which workers take them."""

    def __init__(self) -> None:
        self.places: list[int] = []

    def on_trial_start(self, iteration: int, trials: Any, trial: Any, **info: Any) -> None:
        self.places.append(trial.config["position"])


def build_trainable(folder: Path) -> type[tune.Trainable]:
    """Return a trial of three epochs that trains nothing."""

    # Defined here, so that Ray sends it along: workers cannot import this file.
    class EmptyTrial(tune.Trainable):  # type: ignore[misc]
        def setup(self, config: dict[str, Any]) -> None:
            self.reset_config(config)

        def reset_config(self, new_config: dict[str, Any]) -> bool:
            self.place, self.epoch = new_config["position"], 0
            return True

        def step(self) -> dict[str, Any]:
            self.epoch += 1
            marker = folder / str(self.place)
            if self.place in LOST and not marker.exists():
                marker.touch()
                os._exit(1)
            return {"epoch": self.epoch, METRIC: 0.5, "done": self.epoch == 3}

    return EmptyTrial


@pytest.fixture
def one_cpu(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Join a cluster of one CPU."""
    monkeypatch.setenv("TUNE_DISABLE_AUTO_CALLBACK_LOGGERS", "1")
    with start_nodes(1) as address:
        ray.init(address=address, log_to_driver=False)
        yield


def test_lost_trials_are_started_again_before_those_that_wait(
    one_cpu: None, tmp_path: Path
) -> None:
    starts = Starts()
    run_trials(build_trainable(tmp_path), TRIALS, starts, tmp_path / "tune", max_failures=1)
    assert starts.places == [0, 1, 1, 2, 3, 3, 4, 5]
