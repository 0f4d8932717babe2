"""A host, in this process: what it answers to trials that come, fail and go."""

from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from sweep.cluster.visible_gpus import VARIABLE
from sweep.data import Subsets
from sweep.plan import Capacity, Plan, TrialSpec
from sweep.workers.host import Host


@pytest.fixture
def host(subsets: Subsets, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Host:
    # A host changes it in its own process, which is this one here.
    monkeypatch.setenv(VARIABLE, "")
    return Host(subsets, str(tmp_path), torch.get_num_threads(), Capacity(4, 64, 16))


@pytest.fixture
def specs(plan: Plan) -> list[TrialSpec]:
    return [replace(spec, recipe=replace(spec.recipe, dtype="float32")) for spec in plan.trials]


@pytest.fixture
def start(host: Host, tmp_path: Path) -> Callable[[TrialSpec], dict[str, Any]]:
    return lambda spec: host.start(spec, str(tmp_path / spec.trial_id), 0, False)


def test_trials_get_their_epochs_side_by_side(
    host: Host, specs: list[TrialSpec], start: Callable[[TrialSpec], dict[str, Any]]
) -> None:
    assert [start(spec)["base_loads"] for spec in specs[:3]] == [1, 1, 1]
    with ThreadPoolExecutor() as pool:
        answers = list(pool.map(host.run_epoch, [spec.trial_id for spec in specs[:3]]))
    assert [answer["epoch"] for answer in answers] == [1, 1, 1]
    assert all(answer["totals"]["epochs_run"] == 1 for answer in answers)


def test_trial_that_the_host_does_not_know_has_to_start_anew(
    host: Host, specs: list[TrialSpec], start: Callable[[TrialSpec], dict[str, Any]]
) -> None:
    start(specs[0])
    assert "lost" in host.run_epoch(specs[1].trial_id)
    host.close(specs[0].trial_id)
    assert "lost" in host.run_epoch(specs[0].trial_id)


def test_failure_of_one_trial_is_its_own(
    host: Host, specs: list[TrialSpec], start: Callable[[TrialSpec], dict[str, Any]], tmp_path: Path
) -> None:
    start(specs[0])
    # Its checkpoints cannot be written: a file stands in the way.
    (tmp_path / specs[1].trial_id).write_text("")
    start(specs[1])
    with ThreadPoolExecutor() as pool:
        good, bad = pool.map(host.run_epoch, [spec.trial_id for spec in specs[:2]])
    assert good["epoch"] == 1
    assert (bad["failed"]["status"], bad["failed"]["done"]) == ("failed", True)
    assert "Error" in bad["failed"]["traceback"]


def test_step_that_breaks_for_all_sends_them_back_to_their_checkpoints(
    host: Host,
    specs: list[TrialSpec],
    start: Callable[[TrialSpec], dict[str, Any]],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def fail(*arguments: Any) -> None:
        raise RuntimeError("the expanded size of the tensor must match the existing size")

    start(specs[0])
    with monkeypatch.context() as patch:
        patch.setattr("sweep.training.packed.trainer.Step", fail)
        assert "the expanded size" in host.run_epoch(specs[0].trial_id)["lost"]
    start(specs[0])
    assert host.run_epoch(specs[0].trial_id)["epoch"] == 1


def test_trial_started_again_elsewhere_gives_up_its_epoch_here(
    host: Host, specs: list[TrialSpec], start: Callable[[TrialSpec], dict[str, Any]]
) -> None:
    spec = replace(specs[0], recipe=replace(specs[0].recipe, batch_size=1))
    start(spec)
    with ThreadPoolExecutor() as pool:
        waiting: Future[dict[str, Any]] = pool.submit(host.run_epoch, spec.trial_id)
        while not host._waiting:
            pass
        start(spec)
        assert "lost" in waiting.result()
    assert host.run_epoch(spec.trial_id)["epoch"] == 1
