"""What engines share: the base model kept between trials, the tokenized texts, and checkpoints."""

import platform
import time
from pathlib import Path
from typing import Any

import torch

from sweep.data import CellData, Subsets
from sweep.models.base import Base, load_base, materialize
from sweep.models.device import choose_attention, keep_freed_memory, name_device
from sweep.models.tiny_configs import TINY_PREFIX
from sweep.models.vocabulary import count_rows
from sweep.plan import Cell, TrialSpec
from sweep.storage.checkpoints import (
    KEPT_CHECKPOINTS,
    keep_newest,
    list_checkpoints,
    name_checkpoint,
)
from sweep.training.batches import Encoder
from sweep.training.trial import Trial


class Engine:
    """What engines share: the base model, the tokenized texts and the trials' checkpoints."""

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

    def get_base(self, spec: TrialSpec) -> tuple[Base, Encoder]:
        """Return the trial's base model, loaded if it is not at hand, and its tokenized texts."""
        ref = spec.model
        if self._base is None or self._encoder is None or self._base.ref != ref:
            # Let the old one go first: two do not fit on a small GPU.
            self._base = self._encoder = None
            self._source = materialize(ref, self._models_folder, self._subsets.training_texts)
            self._base = load_base(ref, self._source, spec.recipe.dtype, self._device)
            choose_attention(self._base.model, spec.recipe.max_length)
            rows = count_rows(self._base.model)
            self._encoder = Encoder(self._base.tokenizer, spec.recipe.max_length, rows)
            self.base_loads += 1
        return self._base, self._encoder

    def get_cell_data(self, cell: Cell) -> CellData:
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


class Checkpointer:
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

    def save(self, metrics: dict[str, Any]) -> dict[str, Any]:
        """Write the checkpoint of the epoch that gave ``metrics``; return them with the trial's
        totals."""
        progress, now = self.trial.progress, time.perf_counter()
        progress.wall_seconds += now - self._mark
        self._mark = now
        if metrics.get("status") in (None, "finished"):
            self.trial.save(name_checkpoint(self._folder, progress.epoch))
            keep_newest(self._folder, KEPT_CHECKPOINTS)
        return metrics | {"totals": self.trial.summary()}
