"""A trial as Ray Tune drives it, whichever engine trains: tries, notes, and how failures are told;
light enough for an actor that trains nothing itself."""

import platform
import shutil
import tempfile
from abc import abstractmethod
from functools import cached_property
from pathlib import Path
from typing import Any, Protocol

from ray import tune

from sweep.errors import StorageError
from sweep.plan import TrialSpec
from sweep.storage.checkpoints import KEPT_CHECKPOINTS, CheckpointStore, open_store
from sweep.storage.events import EpochResult, Facts, TrialStatus, end_trial
from sweep.storage.journal import JOURNAL_NAME
from sweep.storage.run_folder import explain_unshared_folder

MEMORY_TRIES = 2
"""A trial that runs out of memory is tried once more, with half the batch at a time."""
MEMORY_LOST = "the machine ran out of memory, with half batches too"


class TrialEngine(Protocol):
    """What trains a trial for the actor, an epoch at a time."""

    def start(
        self, spec: TrialSpec, checkpoints: Path, resume_epoch: int = 0, half_batches: bool = False
    ) -> Facts:
        """Make a trial ready; return facts of its start."""

    def run_epoch(self) -> EpochResult:
        """Train an epoch; return its metrics."""

    def close(self) -> None:
        """End the trial."""

    def discard(self) -> None:
        """End the trial, whatever state it is in."""


class TuneTrial(tune.Trainable):  # type: ignore[misc]
    """One trial after another in one actor; each ``step`` is an epoch.

    A trial that fails reports so and ends: only a lost worker or machine is an error to Tune,
    which then starts the trial again elsewhere, from its newest whole checkpoint.
    """

    _engine: TrialEngine

    def _open_folders(self, run_folder: str, storage: str | None) -> None:
        """Take ``storage`` for checkpoints; None: the run folder, which every node must see."""
        self._folder = Path(run_folder)
        self._checkpoint_place = storage
        self._scratch = Path(tempfile.mkdtemp(prefix="sweep-")) if storage else self._folder

    @cached_property
    def _store(self) -> CheckpointStore:
        return open_store(self._folder, self._checkpoint_place)

    def reset_config(self, new_config: dict[str, Any]) -> bool:
        """End the trial at hand and take the next one."""
        self._engine.close()
        self._take(new_config)
        return True

    def _take(self, config: dict[str, Any]) -> None:
        self._spec: TrialSpec = config["trial"]
        self._resume_epoch = int(config["resume_epoch"])
        # How often the trial has run out of memory; the driver counts the workers lost to it.
        self._memory_losses = int(config.get("memory_losses", 0))
        self._facts: Facts | None = None
        self._notes: list[str] = []

    def step(self) -> EpochResult:
        """Train one epoch; return its metrics, or how the trial failed."""
        result = self._try_epoch()
        if result.get("status") == TrialStatus.OUT_OF_MEMORY and self._memory_losses < MEMORY_TRIES:
            self._notes.append(f"out of memory ({result['error']}): again in half batches")
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
            result = self._explain(error)
            self._memory_losses += result.get("status") == TrialStatus.OUT_OF_MEMORY
            return result if "halt" in result else self._give_up(result)
        self._resume_epoch = metrics["epoch"]
        return {**metrics, "facts": self._facts}

    def _start(self) -> Facts:
        if not self._checkpoint_place and not (self._folder / JOURNAL_NAME).is_file():
            raise StorageError(explain_unshared_folder(self._folder, [platform.node()]))
        trial_id, epoch = self._spec.trial_id, self._resume_epoch
        self._store.drop_newer(trial_id, epoch)
        self._checkpoints = self._store.fetch(trial_id, self._scratch, epoch)
        facts = self._engine.start(
            self._spec, self._checkpoints, epoch, half_batches=self._memory_losses > 0
        )
        found = facts["resumed_epoch"] or 0
        if found < self._resume_epoch:
            place = f"from that of epoch {found}" if found else "from the start"
            self._notes.append(
                f"the checkpoint of epoch {self._resume_epoch} is missing or damaged: "
                f"goes on {place}"
            )
        return facts

    @abstractmethod
    def _explain(self, error: Exception) -> EpochResult:
        """Return the last result of a trial whose engine raised ``error``, or raise it again where
        Tune has to start the trial anew."""

    def _give_up(self, result: EpochResult) -> EpochResult:
        # What is left of the trial may hold memory or half an adapter.
        self._engine.discard()
        return {**result, "facts": self._facts or {}}

    def cleanup(self) -> None:
        """Let go of what the engine holds."""
        self._engine.discard()
        if self._checkpoint_place:
            shutil.rmtree(self._scratch, ignore_errors=True)
