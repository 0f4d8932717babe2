"""The packed engine: many trials at a time on this process's device, on one base model."""

import threading
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass
from pathlib import Path

from sweep.data import Subsets
from sweep.models.base import Base
from sweep.models.device import name_device
from sweep.plan import Capacity, TrialSpec
from sweep.storage.events import EpochResult, Facts
from sweep.training.batches import Encoder
from sweep.training.engine import Checkpointer, Engine
from sweep.training.packed.pack import PackFullError
from sweep.training.packed.trainer import PackTrainer
from sweep.training.packed.trial import PackedTrial

# An epoch's metrics with the trial's totals, or why there are none.
Outcome = EpochResult | Exception
# Seconds that ``advance`` waits for a checkpoint when there is no step to take: short, so that the
# caller can start a trial meanwhile.
WAIT_SECONDS = 0.01


@dataclass(frozen=True)
class Loaded:
    """A base model that is ready for trials: what ``PackedEngine.prepare`` works on."""

    base: Base
    encoder: Encoder
    trainer: PackTrainer


@dataclass(frozen=True)
class Prepared:
    """A trial that is ready to join its pack, and the facts of its start."""

    trial: PackedTrial
    checkpointer: Checkpointer
    trainer: PackTrainer
    facts: Facts


class PackedEngine(Engine):
    """Trains trials side by side; they come and go one by one.

    Calls are those of ``SoloEngine``, except that ``begin_epoch`` asks for a trial's epoch and a
    later call of ``advance`` returns its outcome. One thread trains: it alone calls these methods,
    but ``prepare``, which any other may call. A thread of the engine's own writes checkpoints.
    """

    def __init__(
        self, subsets: Subsets, models_folder: Path, capacities: Mapping[str, Capacity]
    ) -> None:
        """``capacities`` has the room for trials of each model, which is allocated when it is
        loaded."""
        super().__init__(subsets, models_folder)
        self._capacities = capacities
        self._trainer: PackTrainer | None = None
        self._checkpointers: dict[str, Checkpointer] = {}
        self._writer = ThreadPoolExecutor(1, "checkpoints")
        self._writes: dict[str, Future[EpochResult]] = {}
        # Those of ``_writes`` whose outcome ``advance`` has yet to return.
        self._unreported: dict[str, Future[EpochResult]] = {}
        self._encoding = threading.Lock()

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
        loaded = self.load(spec)
        prepared = self.prepare(loaded, spec, checkpoints, resume_epoch, half_batches, started)
        if prepared is None:
            raise PackFullError(f"all slots of the pack are taken: {loaded.trainer.pack.capacity}")
        return self.admit(prepared)

    def load(self, spec: TrialSpec) -> Loaded:
        """Return the base model of ``spec``, loaded if it is not; all trials on another end."""
        if self._base is not None and self._base.ref != spec.model:
            self.discard()
        base, encoder = self.get_base(spec)
        if self._trainer is None:
            self._trainer = PackTrainer(base, self._capacities[spec.model.name])
        return Loaded(base, encoder, self._trainer)

    def prepare(
        self,
        loaded: Loaded,
        spec: TrialSpec,
        checkpoints: Path,
        resume_epoch: int = 0,
        half_batches: bool = False,
        started: float | None = None,
    ) -> Prepared | None:
        """Do what a start takes without the training thread: tokenize, draw first weights, read the
        checkpoint. Return None if all slots are taken. ``started`` is when the start began
        (``time.perf_counter``)."""
        started = started or time.perf_counter()
        self._wait_for_writing([spec.trial_id])
        data = self.get_cell_data(spec.cell)
        with self._encoding:
            for subset in (data.training, data.validation, data.test):
                loaded.encoder.encode(subset.texts, subset.classes)
        try:
            trial = self._build_trial(loaded, spec, half_batches)
        except PackFullError:
            return None
        checkpointer = Checkpointer(trial, checkpoints, started)
        try:
            facts = self.describe(loaded.base, started, checkpointer.restore(resume_epoch))
        except Exception:
            loaded.trainer.pack.free(trial.place)
            raise
        return Prepared(trial, checkpointer, loaded.trainer, facts)

    def _build_trial(self, loaded: Loaded, spec: TrialSpec, half_batches: bool) -> PackedTrial:
        data = self.get_cell_data(spec.cell)
        try:
            return loaded.trainer.prepare(spec, loaded.encoder, data, half_batches)
        except PackFullError:
            # A trial that was closed keeps its slot until its checkpoint is written.
            self._wait_for_writing(list(self._writes))
            return loaded.trainer.prepare(spec, loaded.encoder, data, half_batches)

    def _wait_for_writing(self, trial_ids: Sequence[str]) -> None:
        """Return once the checkpoints of these trials that are being written are complete."""
        wait([writing for each in trial_ids if (writing := self._writes.get(each)) is not None])

    @property
    def shortage(self) -> str | None:
        """A sentence where the pack has fewer slots than it should; None where it has all."""
        if self._trainer is None:
            return None
        pack = self._trainer.pack
        slots, wanted = pack.capacity.slots, self._capacities[pack.base.ref.name].slots
        if slots == wanted:
            return None
        return (
            f"memory suffices for {slots} trials at a time on {name_device(self._device)}, not "
            f"for {wanted}: the others wait; lower resources.slots to start fewer"
        )

    def holds(self, loaded: Loaded) -> bool:
        """Return whether this base model is still the one in use."""
        return loaded.trainer is self._trainer

    def admit(self, prepared: Prepared) -> Facts:
        """Add a prepared trial to its pack; return the facts of its start."""
        trial, trial_id = prepared.trial, prepared.trial.spec.trial_id
        self.close(trial_id)
        if prepared.trainer is not self._trainer:
            raise RuntimeError(f"the base model of trial {trial_id} is no longer loaded")
        try:
            prepared.trainer.join(trial)
        except Exception:
            trial.pack.free(trial.place)
            raise
        self._checkpointers[trial_id] = prepared.checkpointer
        return prepared.facts

    def begin_epoch(self, trial_id: str) -> None:
        if self._trainer is None or trial_id not in self._trainer.trials:
            raise RuntimeError(f"trial {trial_id} has not been started")
        self._trainer.trials[trial_id].begin_epoch()

    @property
    def busy(self) -> bool:
        """Whether any trial is in an epoch, or waits for its checkpoint."""
        return bool(self._unreported) or (self._trainer is not None and self._trainer.busy)

    @property
    def trials(self) -> list[str]:
        """Ids of the trials that have been started and not closed."""
        return list(self._checkpointers)

    def advance(self) -> dict[str, Outcome]:
        """Take a step of every trial that is in an epoch; return the outcomes of epochs that are
        over, by trial id, once their checkpoints are written."""
        outcomes: dict[str, Outcome] = {}
        if self._trainer is not None and self._trainer.busy:
            for trial, outcome in self._trainer.advance():
                if isinstance(outcome, Exception):
                    outcomes[trial.spec.trial_id] = outcome
                else:
                    self._write(trial.spec.trial_id, outcome)
        elif self._unreported:
            wait(self._unreported.values(), WAIT_SECONDS, FIRST_COMPLETED)
        return outcomes | self._collect_written()

    def _write(self, trial_id: str, metrics: EpochResult) -> None:
        """Have the checkpoint of a trial's epoch written. Nothing changes what goes into it until
        its outcome is reported: the trial waits, and its slot is its own until then."""
        writing = self._writer.submit(self._checkpointers[trial_id].save, metrics)
        self._writes[trial_id] = self._unreported[trial_id] = writing
        writing.add_done_callback(lambda done: self._forget(trial_id, done))

    def _forget(self, trial_id: str, done: Future[EpochResult]) -> None:
        if self._writes.get(trial_id) is done:
            del self._writes[trial_id]

    def _collect_written(self) -> dict[str, Outcome]:
        done = {each: future for each, future in self._unreported.items() if future.done()}
        for trial_id in done:
            del self._unreported[trial_id]
        return {trial_id: _read(future) for trial_id, future in done.items()}

    def close(self, trial_id: str) -> None:
        """End a trial; the base model and the other trials stay."""
        trial = self._trainer.leave(trial_id) if self._trainer is not None else None
        self._checkpointers.pop(trial_id, None)
        self._unreported.pop(trial_id, None)
        if trial is None:
            return
        pack, place = trial.pack, trial.place
        writing = self._writes.get(trial_id)
        if writing is None:
            pack.free(place)
        else:
            # Its checkpoint is still read from its slot.
            writing.add_done_callback(lambda _: pack.free(place))

    def discard(self) -> None:
        """End all trials and drop the base model too."""
        wait(self._writes.values())
        self._trainer = None
        self._checkpointers, self._writes, self._unreported = {}, {}, {}
        super().discard()


def _read(written: Future[EpochResult]) -> Outcome:
    try:
        return written.result()
    except Exception as error:  # a checkpoint that fails must not end the other trials
        return error
