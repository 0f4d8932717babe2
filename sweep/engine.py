"""The solo engine: one trial at a time on this process's device, its base model kept between
trials."""

import platform
import time
from pathlib import Path
from typing import Any

import torch

from sweep.batches import Encoder
from sweep.checkpoints import keep_newest, list_checkpoints, name_checkpoint
from sweep.device import name_device
from sweep.models import Base, load_base, materialise
from sweep.plan import Cell, ModelRef, TrialSpec
from sweep.subsets import CellData, Subsets
from sweep.train import Trainer, build_trainer

KEPT_CHECKPOINTS = 2
"""The newest and, should it be damaged, the one before."""


class SoloEngine:
    """Trains trials one after another; what they share is loaded once.

    The calls, in order, for each trial: ``start``, ``run_epoch`` until it says ``done`` or the
    scheduler stops the trial, ``close``.
    """

    def __init__(self, subsets: Subsets, models_folder: Path) -> None:
        self._subsets = subsets
        self._models_folder = models_folder
        self._device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        self._base: Base | None = None
        self._encoder: Encoder | None = None
        self._trainer: Trainer | None = None
        self._checkpoints = Path()
        self._mark = 0.0
        self.base_loads = 0

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
        started = self._mark = time.perf_counter()
        self._checkpoints = checkpoints
        base = self._take_base(spec.model, spec.recipe.dtype)
        if self._encoder is None:
            self._encoder = Encoder(base.tokenizer, spec.recipe.max_length)
        data = self._cut_data(spec.cell)
        self._trainer = build_trainer(spec, base, self._encoder, data, half_batches)
        resumed_epoch = self._restore(checkpoints, resume_epoch)
        return {
            "host": platform.node(),
            "device": name_device(self._device),
            "dtype": str(base.dtype).removeprefix("torch."),
            "resumed_epoch": resumed_epoch,
            "load_seconds": time.perf_counter() - started,
            "base_loads": self.base_loads,
        }

    def _take_base(self, ref: ModelRef, dtype: str) -> Base:
        if self._base is None or self._base.ref != ref:
            # Let the old one go first: two do not fit on a small GPU.
            self._base = self._encoder = None
            texts = self._subsets.training_texts
            source = materialise(ref, self._models_folder, texts)
            self._base = load_base(ref, source, dtype, self._device)
            self.base_loads += 1
        return self._base

    def _cut_data(self, cell: Cell) -> CellData:
        return CellData(
            self._subsets.training(cell.n_labels, cell.n_samples, cell.seed),
            self._subsets.evaluation("validation", cell.n_labels),
            self._subsets.evaluation("test", cell.n_labels),
        )

    def _restore(self, checkpoints: Path, resume_epoch: int) -> int:
        limit = name_checkpoint(checkpoints, resume_epoch)
        for folder in list_checkpoints(checkpoints):
            if folder <= limit and self._trial.restore(folder):
                return self._trial.progress.epoch
        return 0

    @property
    def _trial(self) -> Trainer:
        if self._trainer is None:
            raise RuntimeError("no trial has been started")
        return self._trainer

    def run_epoch(self) -> dict[str, Any]:
        """Train one epoch, keep its checkpoint, and return its metrics with the trial's totals."""
        metrics = self._trial.run_epoch()
        self._count_time()
        if metrics.get("status") in (None, "finished"):
            self.save(name_checkpoint(self._checkpoints, self._trial.progress.epoch))
            keep_newest(self._checkpoints, KEPT_CHECKPOINTS)
        return metrics | {"totals": self._trial.summary()}

    def _count_time(self) -> None:
        now = time.perf_counter()
        self._trial.progress.wall_seconds += now - self._mark
        self._mark = now

    def save(self, folder: Path) -> None:
        """Write the trial's state to ``folder``."""
        self._trial.save(folder)

    def close(self) -> None:
        """End the trial; the base model stays for the next one."""
        if self._trainer is not None:
            self._trainer.close()
            self._trainer = None

    def discard(self) -> None:
        """End the trial and drop the base model too, which the next trial then loads afresh."""
        self._trainer = self._base = self._encoder = None
        if self._device.type == "cuda":
            torch.cuda.empty_cache()
