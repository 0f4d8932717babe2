"""The Tune side of a trial: a reusable actor that hands its trials to an engine."""

import faulthandler
import platform
import shutil
import tempfile
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path
from typing import Any

import ray
import torch
from ray import tune

from sweep.checkpoints import is_storage_full
from sweep.device import is_out_of_memory
from sweep.engine import KEPT_CHECKPOINTS, SoloEngine
from sweep.errors import StorageError, SweepError
from sweep.journal import JOURNAL_NAME, ROOM_NEEDED
from sweep.plan import TrialSpec
from sweep.store import CheckpointStore, open_store
from sweep.subsets import Subsets

MEMORY_TRIES = 2
"""A trial that runs out of memory is tried once more, with half the batch at a time."""


class SweepTrial(tune.Trainable):  # type: ignore[misc]
    """One trial after another in one actor; each ``step`` is an epoch.

    A trial that fails reports so and ends: only a lost worker or machine is an error to Tune,
    which then starts the trial again elsewhere, from its newest whole checkpoint.
    """

    def setup(
        self,
        config: dict[str, Any],
        subsets: Subsets,
        run_folder: str,
        max_epoch_seconds: float | None = None,
        storage: str | None = None,
    ) -> None:
        """Prepare the actor, once; trials follow through ``reset_config``.

        ``storage`` is where checkpoints go; None: the run folder, which every node must see.
        """
        cpus = ray.get_runtime_context().get_assigned_resources().get("CPU", 1)
        torch.set_num_threads(max(1, int(cpus)))
        self._folder = Path(run_folder)
        self._max_epoch_seconds = max_epoch_seconds
        self._checkpoint_place = storage
        self._scratch = Path(tempfile.mkdtemp(prefix="sweep-")) if storage else self._folder
        self._engine = SoloEngine(subsets, self._scratch / "models")
        self._take(config)

    @cached_property
    def _store(self) -> CheckpointStore:
        return open_store(self._folder, self._checkpoint_place)

    def reset_config(self, new_config: dict[str, Any]) -> bool:
        """End the trial at hand and take the next one."""
        self._engine.close()
        self._take(new_config)
        return True

    def _take(self, config: dict[str, Any]) -> None:
        self._spec = TrialSpec.from_dict(config["trial"])
        self._resume_epoch = int(config["resume_epoch"])
        # How often the trial has run out of memory; the driver counts the workers lost to it.
        self._memory_losses = int(config.get("memory_losses", 0))
        self._facts: dict[str, Any] | None = None
        self._notes: list[str] = []

    def step(self) -> dict[str, Any]:
        """Train one epoch; return its metrics, or how the trial failed."""
        with end_if_late(self._max_epoch_seconds):
            result = self._try_epoch()
            if result.get("status") == "oom" and self._memory_losses < MEMORY_TRIES:
                self._notes.append(f"out of memory ({result['error']}): again in half batches")
                self._facts = None
                result = self._try_epoch()
        notes, self._notes = self._notes, []
        return result | {"notes": notes}

    def _try_epoch(self) -> dict[str, Any]:
        if self._memory_losses >= MEMORY_TRIES:
            return self._fail("oom", "the machine ran out of memory, with half batches too")
        try:
            if self._facts is None:
                self._facts = self._start()
            metrics = self._engine.run_epoch()
            trial_id, epoch = self._spec.trial_id, metrics["epoch"]
            self._store.push(trial_id, self._checkpoints, epoch, KEPT_CHECKPOINTS)
        except Exception as error:  # a trial's failure is a row of the table, not the run's end
            return self._explain(error)
        self._resume_epoch = metrics["epoch"]
        return metrics | {"facts": self._facts}

    def _start(self) -> dict[str, Any]:
        if not self._checkpoint_place and not (self._folder / JOURNAL_NAME).is_file():
            raise StorageError(explain_blindness(self._folder, [platform.node()]))
        trial_id, epoch = self._spec.trial_id, self._resume_epoch
        self._store.drop_newer(trial_id, epoch)
        self._checkpoints = self._store.fetch(trial_id, self._scratch, epoch)
        facts = self._engine.start(
            self._spec, self._checkpoints, epoch, half_batches=self._memory_losses > 0
        )
        found = facts["resumed_epoch"]
        if found < self._resume_epoch:
            place = f"from that of epoch {found}" if found else "from the start"
            self._notes.append(
                f"the checkpoint of epoch {self._resume_epoch} is missing or damaged: "
                f"goes on {place}"
            )
        return facts

    def _explain(self, error: Exception) -> dict[str, Any]:
        message = str(error).strip() or type(error).__name__
        if is_out_of_memory(error):
            self._memory_losses += 1
            return self._fail("oom", message.splitlines()[0][:300])
        if is_storage_full(error):
            # Every trial would fail so, though none is at fault: the run has to end.
            text = f"no space is left on {platform.node()} ({message}); {ROOM_NEEDED}"
            return {"done": True, "halt": text}
        if isinstance(error, StorageError):
            return {"done": True, "halt": f"{message}, and go on with --resume"}
        if isinstance(error, SweepError):
            return self._fail("failed", message)
        return self._fail("failed", f"{type(error).__name__}: {message}", traceback.format_exc())

    def _fail(self, status: str, message: str, trace: str = "") -> dict[str, Any]:
        # What is left of the trial may hold memory or half an adapter.
        self._engine.discard()
        ended = {"done": True, "status": status, "error": message, "traceback": trace}
        return ended | {"facts": self._facts or {}}

    def cleanup(self) -> None:
        """Let go of the base model."""
        self._engine.discard()
        if self._checkpoint_place:
            shutil.rmtree(self._scratch, ignore_errors=True)


def explain_blindness(folder: Path, hosts: list[str]) -> str:
    """Return the sentence about nodes that do not see the run folder."""
    return (
        f"--out: the run folder {folder} is not visible from {', '.join(sorted(hosts))}; choose an "
        "--out on storage that every node of the cluster mounts at the same path, or set "
        "storage.checkpoints"
    )


@contextmanager
def end_if_late(seconds: float | None) -> Iterator[None]:
    """End this process if the block takes longer; where each thread stood goes to its log.

    The watch is a thread outside the interpreter, so a call that never gives the interpreter
    back (a library's deadlock, a GPU that does not answer) is ended too.
    """
    if seconds is None:
        yield
        return
    faulthandler.dump_traceback_later(seconds, exit=True, file=2)
    try:
        yield
    finally:
        faulthandler.cancel_dump_traceback_later()
