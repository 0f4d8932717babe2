"""The solo engine: one trial at a time on this process's device, its base model kept between
trials."""

import platform
import time
from pathlib import Path
from typing import Any

import torch

from sweep.batches import Encoder
from sweep.data.subsets import CellData, Subsets
from sweep.models.base import Base, load_base, materialise
from sweep.models.device import choose_attention, keep_freed_memory, name_device
from sweep.models.sources import TINY_PREFIX
from sweep.models.vocabulary import count_rows
from sweep.plan import Cell, TrialSpec
from sweep.storage.checkpoints import (
    KEPT_CHECKPOINTS,
    keep_newest,
    list_checkpoints,
    name_checkpoint,
)
from sweep.train import Trainer, build_trainer
from sweep.trial import Trial


class Engine:
    """What engines share: the base model, the tokenised texts and the trials' checkpoints."""

    def __init__(self, subsets: Subsets, models_folder: Path) -> None:
        self._subsets = subsets
        self._models_folder = models_folder
        self._device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        if self._device.type == "cpu":
            keep_freed_memory()
        self._base: Base | None = None
        self._encoder: Encoder | None = None
        self._source = ""
        self.base_loads = 0

    def take_base(self, spec: TrialSpec) -> tuple[Base, Encoder]:
        """Return the trial's base model, loaded if it is not at hand, and its tokenised texts."""
        ref = spec.model
        if self._base is None or self._encoder is None or self._base.ref != ref:
            # Let the old one go first: two do not fit on a small GPU.
            self._base = self._encoder = None
            self._source = materialise(ref, self._models_folder, self._subsets.training_texts)
            self._base = load_base(ref, self._source, spec.recipe.dtype, self._device)
            choose_attention(self._base.model, spec.recipe.max_length)
            rows = count_rows(self._base.model)
            self._encoder = Encoder(self._base.tokenizer, spec.recipe.max_length, rows)
            self.base_loads += 1
        return self._base, self._encoder

    def cut_data(self, cell: Cell) -> CellData:
        """Return the texts of a cell."""
        return self._subsets.of_cell(cell.n_labels, cell.n_samples, cell.seed)

    def describe(self, base: Base, started: float, resumed_epoch: int) -> dict[str, Any]:
        """Return what is worth knowing of a trial's start."""
        return {
            "host": platform.node(),
            "device": name_device(self._device),
            "dtype": str(base.dtype).removeprefix("torch."),
            "resumed_epoch": resumed_epoch,
            "load_seconds": time.perf_counter() - started,
            "base_loads": self.base_loads,
            # Of a tiny family, which of the run's folders; others are named by the trial's spec.
            "base": Path(self._source).name if base.ref.path.startswith(TINY_PREFIX) else None,
        }

    def discard(self) -> None:
        """End what runs and drop the base model, which the next trial then loads afresh."""
        self._base = self._encoder = None
        if self._device.type == "cuda":
            torch.cuda.empty_cache()


class Keeper:
    """A trial's checkpoints in one folder, and the time that has passed on it."""

    def __init__(self, trial: Trial, folder: Path, started: float) -> None:
        self.trial = trial
        self._folder = folder
        self._mark = started

    def restore(self, resume_epoch: int) -> int:
        """Take up the newest whole checkpoint that is not past ``resume_epoch``; return its epoch,
        0 if there is none."""
        limit = name_checkpoint(self._folder, resume_epoch)
        for folder in list_checkpoints(self._folder):
            if folder <= limit and self.trial.restore(folder):
                return self.trial.progress.epoch
        return 0

    def keep(self, metrics: dict[str, Any]) -> dict[str, Any]:
        """Write the checkpoint of the epoch that gave ``metrics``; return them with the trial's
        totals."""
        progress, now = self.trial.progress, time.perf_counter()
        progress.wall_seconds += now - self._mark
        self._mark = now
        if metrics.get("status") in (None, "finished"):
            self.trial.save(name_checkpoint(self._folder, progress.epoch))
            keep_newest(self._folder, KEPT_CHECKPOINTS)
        return metrics | {"totals": self.trial.summary()}


class SoloEngine(Engine):
    """Trains trials one after another; what they share is loaded once.

    The calls, in order, for each trial: ``start``, ``run_epoch`` until it says ``done`` or the
    scheduler stops the trial, ``close``.
    """

    def __init__(self, subsets: Subsets, models_folder: Path) -> None:
        super().__init__(subsets, models_folder)
        self._trainer: Trainer | None = None
        self._keeper: Keeper | None = None

    def start(
        self,
        spec: TrialSpec,
        checkpoints: Path,
        resume_epoch: int = 0,
        half_batches: bool = False,
    ) -> dict[str, Any]:
        """Make ``spec`` ready, from its newest whole checkpoint in ``checkpoints`` that is not past
        ``resume_epoch``, if it has one; return what is worth knowing of the start.

        ``half_batches`` takes each batch in parts, to the same effect with less memory.
        """
        started = time.perf_counter()
        base, encoder = self.take_base(spec)
        data = self.cut_data(spec.cell)
        self._trainer = build_trainer(spec, base, encoder, data, half_batches)
        self._keeper = Keeper(self._trainer, checkpoints, started)
        return self.describe(base, started, self._keeper.restore(resume_epoch))

    @property
    def _trial(self) -> Trainer:
        if self._trainer is None:
            raise RuntimeError("no trial has been started")
        return self._trainer

    def run_epoch(self) -> dict[str, Any]:
        """Train one epoch, keep its checkpoint, and return its metrics with the trial's totals."""
        metrics = self._trial.run_epoch()
        return self._keeper.keep(metrics) if self._keeper else metrics

    def save(self, folder: Path) -> None:
        """Write the trial's state to ``folder``."""
        self._trial.save(folder)

    def close(self) -> None:
        """End the trial; the base model stays for the next one."""
        if self._trainer is not None:
            self._trainer.close()
            self._trainer = self._keeper = None

    def discard(self) -> None:
        """End the trial and drop the base model too, which the next trial then loads afresh."""
        self._trainer = self._keeper = None
        super().discard()
