"""Faults inside a real sweep: what becomes of the trial, and that the others do not notice."""

import os
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pyarrow.parquet as pq
import pytest
import ray
import torch
import yaml
from ray import cloudpickle
from ray_runs import start_nodes

from sweep.run import main
from sweep.storage.events import Event
from sweep.storage.journal import read_events
from sweep.storage.manifest import MANIFEST
from sweep.storage.record import replay
from sweep.workers.solo_actor import SoloTrialActor

# Workers cannot import this file, so what it defines travels with the trials.
cloudpickle.register_pickle_by_value(sys.modules[__name__])

FAULTS = (
    "none", "memory once", "memory always", "not a number", "no metric", "bug", "lost once",
    "lost always", "hang once", "damaged checkpoint", "gpu once", "gpu always",
)  # fmt: skip
# Processes that have had a CUDA error.
PIDS = "pids.txt"
TREE: dict[str, Any] = {
    "name": "faults",
    "data": {"source": "synthetic", "max_eval_per_label": 6},
    "grid": {
        "models": [{"name": "llama", "path": "tiny:llama"}],
        "n_labels": [2],
        "n_samples": [32],
    },
    "tune": {
        "candidates": len(FAULTS),
        "lora_rank": 4,
        "learning_rate": [0.001 * (n + 1) for n in range(len(FAULTS))],
    },
    # Every epoch is trained: no rung before the last.
    "serving": {"measure": False},
    "asha": {"max_epochs": 3, "grace_epochs": 3},
    "train": {"batch_size": 16, "max_length": 32},
    "resources": {"max_retries": 1, "max_epoch_minutes": 0.3},
    "baselines": [],
}


ASSERTION = (
    "CUDA error: device-side assert triggered\nSearch for `cudaErrorAssert' in "
    "https://docs.nvidia.com/cuda/cuda-runtime-api/group__CUDART__TYPES.html for more information."
    "\nCompile with `TORCH_USE_CUDA_DSA` to enable device-side assertions.\n"
)


class FaultyTrial(SoloTrialActor):
    """Does what the name of its fault says, in its second epoch."""

    def setup(self, config: dict[str, Any], **parameters: Any) -> None:
        super().setup(config, **parameters)
        engine = self._engine
        run_epoch = engine.run_epoch

        engine.run_epoch = lambda: self._fail_as_told() or run_epoch()

    def _once(self) -> bool:
        marker = self._folder / f"fault-{self._spec.trial_id}"
        if marker.exists():
            return False
        marker.touch()
        return True

    def _fail_as_told(self) -> dict[str, Any] | None:
        fault = FAULTS[self._spec.candidate.index]
        if self._engine._trial.progress.epoch != 1:
            return None
        if fault == "memory always" or (fault == "memory once" and self._once()):
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB")
        if fault == "not a number":
            for parameter in self._engine._trial.model.parameters():
                parameter.data.fill_(float("nan"))
            self._engine._base = None
        if fault == "no metric":
            return {"epoch": 2, "train_loss": 0.1, "totals": {}, "done": False}
        if fault == "bug":
            raise ZeroDivisionError("division by zero")
        if fault == "lost always" or (fault == "lost once" and self._once()):
            os._exit(1)
        if fault == "gpu always" or (fault == "gpu once" and self._once()):
            with (self._folder / PIDS).open("a") as file:
                file.write(f"{os.getpid()}\n")
            raise torch.AcceleratorError(ASSERTION)
        if fault == "hang once" and self._once():
            time.sleep(600)
        if fault == "damaged checkpoint" and self._once():
            checkpoint = self._folder / "checkpoints" / self._spec.trial_id / "epoch-0001"
            weights = (checkpoint / "adapter.safetensors").read_bytes()
            (checkpoint / "adapter.safetensors").write_bytes(weights[:-7])
            os._exit(1)
        return None


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Run a sweep each of whose trials has another fault; give its folder."""
    out = tmp_path_factory.mktemp("runs")
    config = out / "faults.yaml"
    config.write_text(yaml.safe_dump(TREE))
    with start_nodes(2) as address:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr("sweep.workers.factory.SoloTrialActor", FaultyTrial)
            assert main([str(config), "--out", str(out), "--address", address]) == 0
        yield out / "faults"


@pytest.fixture(scope="module")
def rows(run: Path) -> dict[str, dict[str, Any]]:
    """Return the row of each fault's trial."""
    table = pq.read_table(run / "results.parquet").to_pylist()
    return {FAULTS[row["candidate"]]: row for row in table}


def told(run: Path, row: dict[str, Any], kind: str) -> list[Event]:
    """Return the events of ``kind`` of a row's trial."""
    return [
        event
        for event in read_events(run)
        if event["event"] == kind and event["trial_id"] == row["trial_id"]
    ]


@pytest.mark.parametrize(
    ("fault", "status", "error"),
    [
        ("none", "finished", None),
        ("memory once", "finished", None),
        ("memory always", "oom", "CUDA out of memory"),
        ("not a number", "diverged", "the training loss is not finite"),
        ("no metric", "failed", "the epoch reported no validation accuracy"),
        ("bug", "failed", "ZeroDivisionError: division by zero"),
        ("lost once", "finished", None),
        ("lost always", "failed", "the worker was lost"),
        ("hang once", "finished", None),
        ("damaged checkpoint", "finished", None),
        ("gpu once", "finished", None),
        ("gpu always", "failed", "CUDA error: device-side assert triggered"),
    ],
)
def test_fault_ends_as_its_own_trial_status(
    rows: dict[str, dict[str, Any]], fault: str, status: str, error: str | None
) -> None:
    assert rows[fault]["status"] == status
    assert (error or "") in (rows[fault]["error"] or "")
    assert (rows[fault]["error"] is None) == (error is None)


def test_every_trial_ended_once(run: Path) -> None:
    ended = [event["trial_id"] for event in read_events(run) if event["event"] == "ended"]
    assert len(ended) == len(set(ended)) == len(FAULTS)


def test_out_of_memory_is_tried_again_once_in_half_batches(
    run: Path, rows: dict[str, dict[str, Any]]
) -> None:
    for fault in ("memory once", "memory always"):
        (note,) = told(run, rows[fault], "noted")
        assert "retrying with half batches" in note["text"]


def test_errors_that_would_come_again_are_not_retried(
    run: Path, rows: dict[str, dict[str, Any]]
) -> None:
    for fault in ("memory always", "not a number", "no metric", "bug"):
        assert not told(run, rows[fault], "retried")


def test_lost_workers_are_retried_as_often_as_allowed(
    run: Path, rows: dict[str, dict[str, Any]]
) -> None:
    lost = ("lost once", "lost always", "hang once", "damaged checkpoint", "gpu once", "gpu always")
    for fault in lost:
        assert len(told(run, rows[fault], "retried")) == 1


def test_process_with_a_cuda_error_ends_and_its_trial_goes_on_in_another(
    run: Path, rows: dict[str, dict[str, Any]]
) -> None:
    pids = [int(pid) for pid in (run / PIDS).read_text().split()]
    assert len(set(pids)) == 3
    assert not [pid for pid in pids if psutil.pid_exists(pid)]
    (event,) = told(run, rows["gpu once"], "retried")
    assert event["error"].startswith(
        "the worker was lost (CUDA error: device-side assert triggered: after it a process cannot"
    )
    epochs = [event["epoch"] for event in told(run, rows["gpu once"], "epoch")]
    assert epochs == [1, 2, 3]


def test_hanging_worker_is_ended_at_the_time_limit(
    run: Path, rows: dict[str, dict[str, Any]]
) -> None:
    (event,) = told(run, rows["hang once"], "retried")
    assert event["error"] == "no epoch within 0.3 minutes (resources.max_epoch_minutes)"


def test_damaged_checkpoint_is_told_and_the_trial_starts_again(
    run: Path, rows: dict[str, dict[str, Any]]
) -> None:
    (note,) = told(run, rows["damaged checkpoint"], "noted")
    assert note["text"] == (
        "the checkpoint of epoch 1 is missing or damaged: continuing from the start"
    )
    epochs = told(run, rows["damaged checkpoint"], "epoch")
    assert [event["epoch"] for event in epochs] == [1, 1, 2, 3]
    assert epochs[0]["val_loss"] == pytest.approx(epochs[1]["val_loss"], rel=1e-5)


def test_diverged_and_failed_trials_are_never_best(rows: dict[str, dict[str, Any]]) -> None:
    assert {row["status"] for row in rows.values() if row["best_of_cell"]} == {"finished"}


def test_retry_runs_failed_trials_anew_and_only_those(run: Path) -> None:
    before = replay(read_events(run))
    failed = [i for i, trial in before.trials.items()
              if trial.ended and trial.ended["status"] in ("failed", "oom")]  # fmt: skip
    again = ["--name", "faults", "--out", str(run.parent), "--resume", "--retry-failed"]
    address = ray.get_runtime_context().gcs_address if ray.is_initialized() else None
    assert main([*again, *(["--address", address] if address else [])]) == 0
    after = replay(read_events(run))
    assert len(failed) == 5
    for trial_id, trial in after.trials.items():
        assert trial.ended
        # Predictions are kept of a cell's best trial alone, so the times tell what ran again.
        ended_before = before.trials[trial_id].ended
        assert ended_before
        assert (trial.ended["time"] != ended_before["time"]) == (trial_id in failed)
        assert trial.ended["status"] in ("finished", "diverged")
    assert all((path / MANIFEST).is_file() for path in run.glob("checkpoints/*/epoch-*"))
