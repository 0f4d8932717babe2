"""Trials in processes of their own, which die while they write a checkpoint."""

import json
import multiprocessing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sweep.data import Subsets
from sweep.plan import TrialSpec

# Each process begins as a copy of one that has imported what trains, and has not trained.
PROCESSES = multiprocessing.get_context("forkserver")
PROCESSES.set_forkserver_preload(["sweep.training.solo", "sweep.training.packed.engine"])
Epochs = list[dict[str, Any]]
CLOCK = ("train_seconds", "eval_seconds", "wall_seconds", "peak_memory_bytes")


@dataclass(frozen=True)
class Work:
    """A trial to train with ``engine``, "solo" or "packed", in ``folder``."""

    engine: str
    spec: TrialSpec
    subsets: Subsets
    folder: Path

    def read_epochs(self) -> Epochs:
        """Return what was reported of each epoch, without times."""
        path = self.folder / "epochs.jsonl"
        return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


def train(work: Work, point: str | None = None, epoch: int = 0) -> int:
    """Train the trial from its last reported epoch on, until its process dies at ``point`` of
    ``epoch``'s checkpoint or the trial ends; return the exit code."""
    work.folder.mkdir(exist_ok=True)
    process = PROCESSES.Process(target=_train, args=(work, point, epoch))
    process.start()
    process.join()
    return int(process.exitcode or 0)


def _train(work: Work, point: str | None, epoch: int) -> None:
    import torch
    from small_run import PackOfOne

    from sweep.training import checkpoint, trial
    from sweep.training.solo import SoloEngine
    from tests.faults.in_workers.kill_points import kill_self, patch

    torch.set_num_threads(1)
    if point is not None:
        patch(checkpoint, point, epoch, kill_self)
        trial.write_checkpoint = checkpoint.write_checkpoint
    engine = {"solo": SoloEngine, "packed": PackOfOne}[work.engine](work.subsets, work.folder)
    reported = len(work.read_epochs())
    facts = engine.start(work.spec, work.folder / "checkpoints", resume_epoch=reported)
    assert facts["resumed_epoch"] == reported
    with (work.folder / "epochs.jsonl").open("a") as file:
        done = False
        while not done:
            result = engine.run_epoch()
            done = result["done"]
            file.write(json.dumps(_without_times(result)) + "\n")
            file.flush()


def _without_times(result: dict[str, Any]) -> dict[str, Any]:
    totals = {key: value for key, value in result["totals"].items() if key not in CLOCK}
    return {key: value for key, value in result.items() if key not in CLOCK} | {"totals": totals}
