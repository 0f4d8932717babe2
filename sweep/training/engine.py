"""What engines share: a base model kept between trials, tokenized texts, and checkpoints."""

import gc
import platform
import time
import weakref
from pathlib import Path

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
from sweep.storage.events import EpochResult, Facts
from sweep.training.batches import Encoder
from sweep.training.trial import Trial


class Engine:
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
        """Return the trial's base model and its encoder; a base other than the loaded one is loaded
        in its stead."""
        ref = spec.model
        if self._base is None or self._encoder is None or self._base.ref != ref:
            # Drop the old one first: two do not fit on a small GPU.
            self._drop_base()
            self._source = materialize(ref, self._models_folder, self._subsets.training_texts)
            self._base = load_base(ref, self._source, spec.recipe.dtype, self._device)
            choose_attention(self._base.model, spec.recipe.max_length)
            rows = count_rows(self._base.model)
            self._encoder = Encoder(self._base.tokenizer, spec.recipe.max_length, rows)
            self.base_loads += 1
        return self._base, self._encoder

    def get_cell_data(self, cell: Cell) -> CellData:
        return self._subsets.of_cell(cell.n_labels, cell.n_samples, cell.seed)

    def describe(self, base: Base, started: float, resumed_epoch: int) -> Facts:
        """Return facts about a trial's start, under the names of the results table."""
        return {
            "host": platform.node(),
            "device": name_device(self._device),
            "dtype": str(base.dtype).removeprefix("torch."),
            "resumed_epoch": resumed_epoch,
            "load_seconds": time.perf_counter() - started,
            "base_loads": self.base_loads,
            # The folder in the run that a tiny family was written to; specs name all others.
            "base": Path(self._source).name if base.ref.path.startswith(TINY_PREFIX) else None,
        }

    def _drop_base(self) -> None:
        model = None if self._base is None else weakref.ref(self._base.model)
        self._base = self._encoder = None
        if model is not None and model() is not None:
            # Some models refer to themselves.
            gc.collect()

    def discard(self) -> None:
        """Drop the base model; the next trial loads it afresh."""
        self._drop_base()
        if self._device.type == "cuda":
            torch.cuda.empty_cache()


class Checkpointer:
    """Writes and restores one trial's checkpoints, and adds up its wall time."""

    def __init__(self, trial: Trial, folder: Path, started: float) -> None:
        self.trial = trial
        self._folder = folder
        self._mark = started

    def restore(self, resume_epoch: int) -> int:
        """Load the newest complete checkpoint up to ``resume_epoch``; return its epoch, or 0 if
        there is none."""
        limit = name_checkpoint(self._folder, resume_epoch)
        for folder in list_checkpoints(self._folder):
            if folder <= limit and self.trial.restore(folder):
                return self.trial.progress.epoch
        return 0

    def save(self, metrics: EpochResult) -> EpochResult:
        """Write the checkpoint of the epoch that ended with ``metrics``; return these, with the
        trial's totals."""
        progress, now = self.trial.progress, time.perf_counter()
        progress.wall_seconds += now - self._mark
        self._mark = now
        if metrics.get("status") in (None, "finished"):
            ended = bool(metrics.get("done"))
            self.trial.save(name_checkpoint(self._folder, progress.epoch), ended)
            keep_newest(self._folder, KEPT_CHECKPOINTS)
        return metrics | {"totals": self.trial.summary()}
