"""A trial as Ray Tune drives it, whichever engine trains: attempts, notes, and how failures are
reported; light enough for an actor that trains nothing itself."""

import platform
import shutil
import tempfile
from abc import abstractmethod
from functools import cached_property
from pathlib import Path
from typing import Any, Protocol

from ray import tune

from sweep.cluster.place import describe_place
from sweep.errors import StorageError
from sweep.plan import TrialSpec
from sweep.storage.checkpoints import KEPT_CHECKPOINTS, CheckpointStore, open_store
from sweep.storage.events import EpochResult, Facts, TrialStatus, end_trial
from sweep.storage.journal import JOURNAL_NAME
from sweep.storage.run_folder import explain_unshared_folder
from sweep.workers.lost_gpu import GpuLostError, end_process

# A trial that runs out of memory is retried once, with half the batch at a time.
MEMORY_TRIES = 2
MEMORY_LOST = "the machine ran out of memory, even with half batches"


class TrialEngine(Protocol):
    """What trains a trial for the actor, one epoch at a time."""

    def start(
        self, spec: TrialSpec, checkpoints: Path, resume_epoch: int = 0, half_batches: bool = False
    ) -> Facts:
        """Prepare a trial; return facts of its start."""

    def run_epoch(self) -> EpochResult:
        """Train an epoch; return its metrics."""

    def close(self) -> None:
        """End the trial after an epoch."""

    def discard(self) -> None:
        """End the trial, whatever state it is in."""


class TuneTrial(tune.Trainable):  # type: ignore[misc]
    """Runs one trial after another in one actor; each ``step`` is an epoch.

    A trial that fails reports it and ends: only a lost worker or machine is an error to Tune, which
    then restarts the trial elsewhere, from its newest complete checkpoint.
    """

    _engine: TrialEngine
    _lost_gpu = False

    @cached_property
    def _told(self) -> set[str]:
        return set()

    def _open_folders(self, run_folder: str, storage: str | None) -> None:
        """Use ``storage`` for checkpoints; None means the run folder, which every node must see."""
        self._folder = Path(run_folder)
        self._storage_uri = storage
        self._scratch = Path(tempfile.mkdtemp(prefix="sweep-")) if storage else self._folder

    @cached_property
    def _store(self) -> CheckpointStore:
        return open_store(self._folder, self._storage_uri)

    def reset_config(self, new_config: dict[str, Any]) -> bool:
        """End the current trial and prepare the next one."""
        self._engine.close()
        self._take(new_config)
        return True

    def _take(self, config: dict[str, Any]) -> None:
        self._spec: TrialSpec = config["trial"]
        self._resume_epoch = int(config["resume_epoch"])
        # How often the trial has run out of memory, counting the workers that the driver saw lost.
        self._memory_losses = int(config.get("memory_losses", 0))
        self._facts: Facts | None = None
        self._notes: list[str] = []

    def step(self) -> EpochResult:
        """Train one epoch; return its metrics, or how the trial failed."""
        result = self._try_epoch()
        if result.get("status") == TrialStatus.OUT_OF_MEMORY and self._memory_losses < MEMORY_TRIES:
            self._notes.append(f"out of memory ({result['error']}): retrying with half batches")
            self._facts = None
            result = self._try_epoch()
        notes, self._notes = self._notes, []
        return {**result, "notes": notes}

    def _try_epoch(self) -> EpochResult:
        if self._memory_losses >= MEMORY_TRIES:
            return self._give_up(end_trial(TrialStatus.OUT_OF_MEMORY, MEMORY_LOST))
        try:
            if self._facts is None:
                self._facts = self._start()
            metrics = self._engine.run_epoch()
            trial_id, epoch = self._spec.trial_id, metrics["epoch"]
            self._store.push(trial_id, self._checkpoints, epoch, KEPT_CHECKPOINTS)
        except Exception as error:  # a trial's failure is a row of the table, not the run's end
            result = self._judge(error)
            self._memory_losses += result.get("status") == TrialStatus.OUT_OF_MEMORY
            return result if "halt" in result else self._give_up(result)
        self._resume_epoch = metrics["epoch"]
        return {**metrics, "facts": self._facts}

    def _judge(self, error: Exception) -> EpochResult:
        try:
            return self._explain(error)
        except GpuLostError as lost:
            self._lost_gpu = True
            end_process(str(lost))
            raise

    def _start(self) -> Facts:
        if not self._storage_uri and not (self._folder / JOURNAL_NAME).is_file():
            raise StorageError(explain_unshared_folder(self._folder, [platform.node()]))
        trial_id, epoch = self._spec.trial_id, self._resume_epoch
        self._store.drop_newer(trial_id, epoch)
        self._checkpoints = self._store.fetch(trial_id, self._scratch, epoch)
        facts = self._engine.start(
            self._spec, self._checkpoints, epoch, half_batches=self._memory_losses > 0
        )
        found = facts["resumed_epoch"] or 0
        if found < self._resume_epoch:
            origin = f"that of epoch {found}" if found else "the start"
            self._notes.append(
                f"the checkpoint of epoch {self._resume_epoch} is missing or damaged: "
                f"continuing from {origin}"
            )
        self._tell_compiled(facts.get("compiled") or "")
        return facts | describe_place()

    def _tell_compiled(self, outcome: str) -> None:
        """Note why blocks are not compiled although that was asked for; once for each reason."""
        if self._spec.recipe.compile is True and outcome.startswith("no"):
            if outcome not in self._told:
                reason = outcome.removeprefix("no: ")
                self._notes.append(f"train.compile=true, but blocks are not compiled: {reason}")
            self._told.add(outcome)

    @abstractmethod
    def _explain(self, error: Exception) -> EpochResult:
        """Return the last result of a trial whose engine raised ``error``, or re-raise it if Tune
        has to restart the trial."""

    def _give_up(self, result: EpochResult) -> EpochResult:
        # The remains of the trial may occupy memory or be half an adapter.
        self._engine.discard()
        return {**result, "facts": self._facts or {}}

    def cleanup(self) -> None:
        """Release what the engine holds, and delete scratch files."""
        if not self._lost_gpu:
            self._engine.discard()
        if self._storage_uri:
            shutil.rmtree(self._scratch, ignore_errors=True)
