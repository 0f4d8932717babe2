"""The packed engine: many trials at a time on this process's device, on one base model."""

import time
from pathlib import Path

from sweep.data import Subsets
from sweep.plan import TrialSpec
from sweep.storage.events import EpochResult, Facts
from sweep.training.engine import Checkpointer, Engine
from sweep.training.packed.trainer import PackTrainer

# An epoch's metrics with the trial's totals, or why there are none.
Outcome = EpochResult | Exception


class PackedEngine(Engine):
    """Trains trials side by side; they come and go one by one.

    Calls are those of ``SoloEngine``, except that ``begin_epoch`` asks for a trial's epoch and a
    later call of ``advance`` returns its outcome.
    """

    def __init__(self, subsets: Subsets, models_folder: Path) -> None:
        super().__init__(subsets, models_folder)
        self._trainer: PackTrainer | None = None
        self._checkpointers: dict[str, Checkpointer] = {}

    def start(
        self,
        spec: TrialSpec,
        checkpoints: Path,
        resume_epoch: int = 0,
        half_batches: bool = False,
    ) -> Facts:
        """Set up ``spec``, as ``SoloEngine.start`` does; if its base model is not the loaded one,
        all other trials end."""
        started = time.perf_counter()
        self.close(spec.trial_id)
        if self._base is not None and self._base.ref != spec.model:
            self.discard()
        base, encoder = self.get_base(spec)
        trainer = self._trainer = self._trainer or PackTrainer(base)
        trial = trainer.join(spec, encoder, self.get_cell_data(spec.cell), half_batches)
        checkpointer = self._checkpointers[spec.trial_id] = Checkpointer(
            trial, checkpoints, started
        )
        try:
            return self.describe(base, started, checkpointer.restore(resume_epoch))
        except Exception:
            self.close(spec.trial_id)
            raise

    def begin_epoch(self, trial_id: str) -> None:
        if self._trainer is None or trial_id not in self._trainer.trials:
            raise RuntimeError(f"trial {trial_id} has not been started")
        self._trainer.trials[trial_id].begin_epoch()

    @property
    def busy(self) -> bool:
        """Whether any trial is in an epoch."""
        return self._trainer is not None and self._trainer.busy

    @property
    def trials(self) -> list[str]:
        """Ids of the trials that have been started and not closed."""
        return list(self._checkpointers)

    def advance(self) -> dict[str, Outcome]:
        """Take a step of every trial that is in an epoch; return the outcomes of epochs that are
        over, by trial id, once their checkpoints are written."""
        if self._trainer is None:
            return {}
        return {
            trial.spec.trial_id: self._save_checkpoint(trial.spec.trial_id, outcome)
            for trial, outcome in self._trainer.advance()
        }

    def _save_checkpoint(self, trial_id: str, outcome: Outcome) -> Outcome:
        if isinstance(outcome, Exception):
            return outcome
        try:
            return self._checkpointers[trial_id].save(outcome)
        except Exception as error:  # a checkpoint that fails must not end the other trials
            return error

    def close(self, trial_id: str) -> None:
        """End a trial; the base model and the other trials stay."""
        if self._trainer is not None:
            self._trainer.leave(trial_id)
        self._checkpointers.pop(trial_id, None)

    def discard(self) -> None:
        """End all trials and drop the base model too."""
        self._trainer = None
        self._checkpointers = {}
        super().discard()
