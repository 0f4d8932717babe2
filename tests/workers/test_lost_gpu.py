"""CUDA errors that leave a host no GPU, planted in whole sweeps on a real Ray cluster."""

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pyarrow.parquet as pq
import pytest
import torch
import yaml
from ray import cloudpickle
from ray_runs import start_nodes

from sweep.run import main
from sweep.storage.journal import read_events
from sweep.workers import host_pool
from sweep.workers.host import Host
from sweep.workers.host_pool import HostPool

# Workers cannot import this file, so what it defines travels with the hosts.
cloudpickle.register_pickle_by_value(sys.modules[__name__])

ILLEGAL = (
    "CUDA error: an illegal memory access was encountered\nSearch for `cudaErrorIllegalAddress' in "
    "https://docs.nvidia.com/cuda/cuda-runtime-api/group__CUDART__TYPES.html for more information."
)
TREE: dict[str, Any] = {
    "name": "once",
    "data": {"source": "synthetic", "max_eval_per_label": 6},
    "grid": {
        "models": [{"name": "llama", "path": "tiny:llama"}],
        "n_labels": [2],
        "n_samples": [32],
    },
    "tune": {"candidates": 2, "lora_rank": 4, "learning_rate": [0.002, 0.004]},
    "serving": {"measure": False},
    "asha": {"max_epochs": 3, "grace_epochs": 3},
    "train": {"batch_size": 16, "max_length": 32, "dtype": "float32"},
    "resources": {"engine": "packed", "slots": 2, "max_retries": 2},
    "baselines": [],
}
PIDS = "pids.txt"


class FaultyHost(Host):
    """Meets a CUDA error in the second epoch of the first candidate: once, or always."""

    def _take_engine(self) -> Any:
        new = self._engine is None
        engine: Any = super()._take_engine()
        if new:
            advance = engine.advance
            engine.advance = lambda: self._fail_as_told(engine) or advance()
        return engine

    def _fail_as_told(self, engine: Any) -> None:
        folder = engine._models_folder.parent
        pids = folder / PIDS
        if pids.exists() and folder.name == "once":
            return
        for trial in engine._trainer.trials.values():
            if trial.spec.candidate.index == 0 and trial.progress.epoch == 2:
                with pids.open("a") as file:
                    file.write(f"{psutil.Process().pid}\n")
                raise torch.AcceleratorError(ILLEGAL)


class FaultyPool(HostPool):
    def _start(self, location: host_pool.Location) -> int:
        host_pool.Host = FaultyHost  # type: ignore[misc]
        return super()._start(location)


@pytest.fixture(scope="module")
def address() -> Iterator[str]:
    with start_nodes(1) as address:
        yield address


@pytest.fixture(scope="module")
def out(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("runs")


def run_sweep(out: Path, address: str, *more: str) -> Path:
    """Run a sweep whose hosts fail as its name says; return its folder."""
    path = out / "sweep.yaml"
    path.write_text(yaml.safe_dump(TREE))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("sweep.workers.factory.HostPool", FaultyPool)
        assert main([str(path), "--out", str(out), "--address", address, *more]) == 0
    return out / (more[1] if more else TREE["name"])


def test_host_with_a_cuda_error_ends_and_its_trials_go_on_in_another(
    out: Path, address: str
) -> None:
    folder = run_sweep(out, address)
    events = list(read_events(folder))
    retried = [event["error"] for event in events if event["event"] == "retried"]
    assert retried
    assert all("CUDA error: an illegal memory access" in error for error in retried)
    (pid,) = (folder / PIDS).read_text().split()
    assert not psutil.pid_exists(int(pid))
    rows = pq.read_table(folder / "results.parquet").to_pylist()
    assert [row["status"] for row in rows] == ["finished"] * 2
    for row in rows:
        own = [e for e in events if e["event"] == "epoch" and e["trial_id"] == row["trial_id"]]
        assert [event["epoch"] for event in own] == [1, 2, 3]


def test_trial_that_ends_its_host_again_and_again_fails_with_the_error(
    out: Path, address: str
) -> None:
    folder = run_sweep(out, address, "--name", "always", "--set", "resources.slots=1")
    rows = pq.read_table(folder / "results.parquet").to_pylist()
    failed, fine = sorted(rows, key=lambda row: row["candidate"])
    assert fine["status"] == "finished"
    assert failed["status"] == "failed"
    assert failed["error"].startswith(
        "the worker was lost (CUDA error: an illegal memory access was encountered: after it"
    )
    pids = (folder / PIDS).read_text().split()
    assert len(pids) == len(set(pids)) == 1 + TREE["resources"]["max_retries"]


def test_process_ends_by_itself_whatever_it_is_doing() -> None:
    code = (
        "import time\nfrom sweep.workers import lost_gpu\nlost_gpu.ANSWER_SECONDS = 0.2\n"
        "lost_gpu.end_process('CUDA error: x')\ntime.sleep(60)"
    )
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=30)
    assert ended.returncode == 1
    assert ended.stderr.strip().endswith("ends: CUDA error: x")
