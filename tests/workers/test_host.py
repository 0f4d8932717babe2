"""A host, in this process: what it answers to trials that come, fail and go."""

import threading
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
from sweep.training import trial
from sweep.training.packed.draws import FirstWeights
from sweep.training.packed.stacks import Place
from sweep.training.packed.trainer import PackTrainer
from sweep.workers.host import Host


@pytest.fixture
def host(subsets: Subsets, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Host:
    # A host changes it in its own process, which is this one here.
    monkeypatch.setenv(VARIABLE, "")
    return Host(
        subsets, str(tmp_path), torch.get_num_threads(), {"tiny-llama": Capacity(4, 64, 16)}
    )


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


class Steps:
    """Counts the steps of a host's pack, and makes others wait for them."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self._counted = threading.Semaphore(0)
        real = PackTrainer._train

        def count(trainer: PackTrainer, trials: Any) -> None:
            real(trainer, trials)
            self._counted.release()

        monkeypatch.setattr(PackTrainer, "_train", count)

    def wait_for(self, steps: int) -> None:
        """Return after so many more steps; fail if they do not come."""
        while self._counted.acquire(blocking=False):
            pass
        for _ in range(steps):
            assert self._counted.acquire(timeout=20), "no step is taken meanwhile"


def test_trials_train_while_another_starts(
    host: Host,
    specs: list[TrialSpec],
    start: Callable[[TrialSpec], dict[str, Any]],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    spec = replace(specs[0], recipe=replace(specs[0].recipe, batch_size=1))
    start(spec)
    steps, real = Steps(monkeypatch), FirstWeights.draw

    def draw(weights: FirstWeights, seed: int, place: Place) -> torch.Tensor:
        steps.wait_for(3)
        return real(weights, seed, place)

    monkeypatch.setattr(FirstWeights, "draw", draw)
    with ThreadPoolExecutor() as pool:
        running = pool.submit(host.run_epoch, spec.trial_id)
        assert start(specs[1])["resumed_epoch"] == 0
        assert running.result()["epoch"] == 1


def test_trial_whose_pack_is_given_up_while_it_starts_starts_anew(
    host: Host,
    specs: list[TrialSpec],
    start: Callable[[TrialSpec], dict[str, Any]],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    start(specs[0])
    real = FirstWeights.draw

    def draw(weights: FirstWeights, seed: int, place: Place) -> torch.Tensor:
        host._requests.put(lambda: host._lose("RuntimeError: planted"))
        return real(weights, seed, place)

    with monkeypatch.context() as patch:
        patch.setattr(FirstWeights, "draw", draw)
        assert "given up" in start(specs[1])["lost"]
    assert start(specs[1])["resumed_epoch"] == 0
    assert host.run_epoch(specs[1].trial_id)["epoch"] == 1


def test_trials_train_while_the_checkpoint_of_another_is_written(
    host: Host,
    specs: list[TrialSpec],
    start: Callable[[TrialSpec], dict[str, Any]],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    slow = replace(specs[0], recipe=replace(specs[0].recipe, batch_size=1))
    start(slow)
    start(specs[1])
    steps, real = Steps(monkeypatch), trial.write_checkpoint

    def write(folder: Path, *others: Any) -> None:
        if specs[1].trial_id in str(folder):
            steps.wait_for(3)
        real(folder, *others)

    monkeypatch.setattr(trial, "write_checkpoint", write)
    with ThreadPoolExecutor() as pool:
        running = pool.submit(host.run_epoch, slow.trial_id)
        assert host.run_epoch(specs[1].trial_id)["epoch"] == 1
        # Once the epoch is reported, its checkpoint is complete.
        assert (tmp_path / specs[1].trial_id / "epoch-0001" / "manifest.json").is_file()
        assert running.result()["epoch"] == 1


def test_slot_of_a_trial_that_is_closed_is_its_own_until_its_checkpoint_is_written(
    host: Host,
    specs: list[TrialSpec],
    start: Callable[[TrialSpec], dict[str, Any]],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    writing, go_on, real = threading.Event(), threading.Event(), trial.write_checkpoint

    def write(*arguments: Any) -> None:
        writing.set()
        assert go_on.wait(20)
        real(*arguments)

    start(specs[0])
    monkeypatch.setattr(trial, "write_checkpoint", write)
    with ThreadPoolExecutor() as pool:
        running = pool.submit(host.run_epoch, specs[0].trial_id)
        assert writing.wait(20)
        host.close(specs[0].trial_id)
        assert "lost" in running.result()
        engine = host._engine
        assert engine is not None and engine._trainer is not None
        assert 0 not in engine._trainer.pack._free
        start(specs[1])
        assert engine._trainer.trials[specs[1].trial_id].slot == 1
        go_on.set()
        # A trial that comes again waits for its own checkpoint, and finds it.
        again = host.start(specs[0], str(tmp_path / specs[0].trial_id), 1, False)
        assert again["resumed_epoch"] == 1


def test_start_that_was_overtaken_by_another_of_its_trial_leaves_no_trace(
    host: Host,
    specs: list[TrialSpec],
    start: Callable[[TrialSpec], dict[str, Any]],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    drawing, go_on, real = threading.Event(), threading.Event(), FirstWeights.draw

    def draw(weights: FirstWeights, seed: int, place: Place) -> torch.Tensor:
        if not drawing.is_set():
            drawing.set()
            assert go_on.wait(20)
        return real(weights, seed, place)

    start(specs[1])
    monkeypatch.setattr(FirstWeights, "draw", draw)
    with ThreadPoolExecutor() as pool:
        overtaken = pool.submit(start, specs[0])
        assert drawing.wait(20)
        assert "resumed_epoch" in start(specs[0])
        running = pool.submit(host.run_epoch, specs[0].trial_id)
        go_on.set()
        assert "started again" in overtaken.result()["lost"]
        assert running.result()["epoch"] == 1
    host.close(specs[0].trial_id)
    host.close(specs[1].trial_id)
    engine = host._engine
    assert engine is not None and engine._trainer is not None
    assert sorted(engine._trainer.pack._free) == [0, 1, 2, 3]


def test_trial_that_is_closed_while_it_starts_leaves_no_trace(
    host: Host,
    specs: list[TrialSpec],
    start: Callable[[TrialSpec], dict[str, Any]],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    real = FirstWeights.draw

    def draw(weights: FirstWeights, seed: int, place: Place) -> torch.Tensor:
        host.close(specs[0].trial_id)
        return real(weights, seed, place)

    start(specs[1])
    monkeypatch.setattr(FirstWeights, "draw", draw)
    assert "closed" in start(specs[0])["lost"]
    engine = host._engine
    assert engine is not None and engine._trainer is not None
    assert sorted(engine._trainer.pack._free) == [1, 2, 3]
    assert engine.trials == [specs[1].trial_id]
