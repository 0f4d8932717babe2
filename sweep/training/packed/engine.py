"""The packed engine: many trials at a time on this process's device, on one base model."""

import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from sweep.data import Subsets
from sweep.models.base import Base
from sweep.models.device import is_out_of_memory, name_device
from sweep.plan import Capacity, TrialSpec
from sweep.storage.events import Facts
from sweep.training.batches import Encoder
from sweep.training.engine import Checkpointer, Engine
from sweep.training.packed.pack import PackFullError
from sweep.training.packed.trainer import PackTrainer
from sweep.training.packed.trial import PackedTrial, build_packed_trial
from sweep.training.packed.writer import CheckpointWriter, Outcome
from sweep.training.trial import TrialTexts, encode_cell

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
        self._writer = CheckpointWriter()
        self._encoding = threading.Lock()
        # How many calls of ``prepare`` are under way.
        self._preparing = 0
        self._prepared = threading.Condition()

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
        arguments = (loaded, spec, checkpoints, resume_epoch, half_batches)
        started = started or time.perf_counter()
        with self._count_preparation():
            try:
                return self._prepare(*arguments, started)
            except Exception as error:
                if not is_out_of_memory(error):
                    raise
            # Once more between two passes of the others, when memory is free that these take.
            with loaded.trainer.pack.exclusive:
                return self._prepare(*arguments, started)

    @contextmanager
    def _count_preparation(self) -> Iterator[None]:
        with self._prepared:
            self._preparing += 1
        try:
            yield
        finally:
            with self._prepared:
                self._preparing -= 1
                self._prepared.notify_all()

    def _prepare(
        self,
        loaded: Loaded,
        spec: TrialSpec,
        checkpoints: Path,
        resume_epoch: int,
        half_batches: bool,
        started: float,
    ) -> Prepared | None:
        self._writer.wait(spec.trial_id)
        with self._encoding:
            texts = encode_cell(loaded.encoder, self.get_cell_data(spec.cell))
        try:
            trial = self._build_trial(loaded.trainer, spec, texts, half_batches)
        except PackFullError:
            return None
        checkpointer = Checkpointer(trial, checkpoints, started)
        try:
            facts = self.describe(loaded.base, started, checkpointer.restore(resume_epoch))
        except Exception:
            loaded.trainer.pack.free(trial.place)
            raise
        return Prepared(trial, checkpointer, loaded.trainer, facts)

    def _build_trial(
        self, trainer: PackTrainer, spec: TrialSpec, texts: TrialTexts, half_batches: bool
    ) -> PackedTrial:
        try:
            return build_packed_trial(spec, trainer.pack, texts, half_batches)
        except PackFullError:
            # A trial that was closed keeps its slot until its checkpoint is written.
            self._writer.wait()
            return build_packed_trial(spec, trainer.pack, texts, half_batches)

    def describe_shortage(self, loaded: Loaded) -> str | None:
        """Return a sentence if the pack has fewer slots than it should, else None."""
        pack = loaded.trainer.pack
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
            self.drop(prepared)
            raise
        self._checkpointers[trial_id] = prepared.checkpointer
        return prepared.facts

    def drop(self, prepared: Prepared) -> None:
        """Give up a prepared trial."""
        prepared.trial.pack.free(prepared.trial.place)

    def begin_epoch(self, trial_id: str) -> None:
        if self._trainer is None or trial_id not in self._trainer.trials:
            raise RuntimeError(f"trial {trial_id} has not been started")
        self._trainer.trials[trial_id].begin_epoch()

    @property
    def busy(self) -> bool:
        """Whether any trial is in an epoch, or waits for its checkpoint."""
        return self._writer.pending or (self._trainer is not None and self._trainer.busy)

    @property
    def trials(self) -> list[str]:
        """Ids of the trials that have been started and not closed."""
        return list(self._checkpointers)

    def advance(self) -> dict[str, Outcome]:
        """Take a step of every trial that is in an epoch; return the outcomes of epochs that are
        over, by trial id, once their checkpoints are written."""
        if self._trainer is None or not self._trainer.busy:
            return self._writer.collect(WAIT_SECONDS)
        outcomes: dict[str, Outcome] = {}
        for trial, outcome in self._trainer.advance():
            trial_id = trial.spec.trial_id
            if isinstance(outcome, Exception):
                outcomes[trial_id] = outcome
            else:
                # Nothing changes what goes into the checkpoint until the outcome is reported: the
                # trial waits, and its slot is its own until then.
                save = partial(self._checkpointers[trial_id].save, outcome)
                self._writer.write(trial_id, save)
        return outcomes | self._writer.collect()

    def close(self, trial_id: str) -> None:
        """End a trial; the base model and the other trials stay."""
        trial = self._trainer.leave(trial_id) if self._trainer is not None else None
        self._checkpointers.pop(trial_id, None)
        if trial is not None:
            # Its checkpoint may still be read from its slot.
            self._writer.leave(trial_id, partial(trial.pack.free, trial.place))

    def discard(self) -> None:
        """End all trials and drop the base model too, once no other thread works with it."""
        with self._prepared:
            self._prepared.wait_for(lambda: not self._preparing)
        for trial_id in self.trials:
            self.close(trial_id)
        self._writer.wait()
        self._trainer = None
        super().discard()
