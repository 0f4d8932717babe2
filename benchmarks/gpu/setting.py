"""Where a part runs: device, models, data, how much it does, and until when."""

import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import torch

from benchmarks.random_models import SIZES, write_random_model
from benchmarks.tasks import TINY
from sweep.config import DataConfig
from sweep.data import Subsets, load_corpus
from sweep.models.tiny_configs import TINY_VERSION
from sweep.plan import Candidate, Cell, ModelRef, Recipe, TrialSpec

FAMILIES = tuple(model["name"] for model in TINY)


@dataclass(frozen=True)
class Amounts:
    """How much each part does; what a CPU does shows only that the part works."""

    # Training texts and epochs of a trial whose curves are compared.
    samples: int
    epochs: int
    # Trials in the packs that are timed.
    packs: tuple[int, ...]
    # Steps before timing starts, and steps timed.
    warm_up: int
    steps: int
    # What is timed if no model is named.
    timed: tuple[str, ...]


ON_GPU = Amounts(96, 3, (1, 4, 8, 16, 32), 5, 20, ("llama-135m", "qwen2-1.5b"))
ON_CPU = Amounts(32, 2, (1, 4), 5, 5, FAMILIES[:1])


@dataclass(frozen=True)
class Setting:
    """What a part is given. ``folder`` is scratch; ``stop`` is the time (as ``time.time`` counts)
    after which nothing further begins; ``named`` are the models asked for, if any."""

    device: torch.device
    folder: Path
    stop: float
    named: tuple[str, ...] = ()
    data: Path | None = None

    @property
    def on_gpu(self) -> bool:
        return self.device.type == "cuda"

    @property
    def amounts(self) -> Amounts:
        return ON_GPU if self.on_gpu else ON_CPU

    @property
    def families(self) -> tuple[str, ...]:
        """The tiny models named, or all of them."""
        return tuple(name for name in self.named if name in FAMILIES) or FAMILIES

    @property
    def timed(self) -> tuple[str, ...]:
        """The models to time: those named that are not tiny, else the tiny ones that are."""
        wide = tuple(name for name in self.named if name not in FAMILIES)
        return wide or self.named[:1] or self.amounts.timed

    @property
    def left(self) -> float:
        """Seconds until nothing further begins."""
        return self.stop - time.time()

    @cached_property
    def subsets(self) -> Subsets:
        source = {"source": "files", "path": str(self.data)} if self.data else {}
        return Subsets(load_corpus(DataConfig.model_validate({"source": "synthetic"} | source)))

    @property
    def models_folder(self) -> Path:
        return self.folder / "models"

    def build_folder(self) -> Path:
        """Return a new folder, for checkpoints."""
        return Path(tempfile.mkdtemp(dir=self.folder))

    def find_model(self, name: str) -> ModelRef:
        """Return the model of this name: a tiny one, one of a published size with random weights,
        which is written at first use, or one in the folder ``name``."""
        if name in FAMILIES:
            family = name.removeprefix("tiny-")
            return ModelRef(name, f"tiny:{family}", f"{family}-v{TINY_VERSION}")
        if name not in SIZES:
            return ModelRef(Path(name).name, name, "local")
        path = self.models_folder / name
        if not path.exists():
            write_random_model(name, path, self.device.type)
        return ModelRef(name, str(path), name)

    def wait(self) -> None:
        """Wait until the GPU has done what it was given."""
        if self.on_gpu:
            torch.cuda.synchronize()


def build_recipe(dtype: str, epochs: int, batch_size: int = 16) -> Recipe:
    return Recipe(
        batch_size=batch_size,
        eval_batch_size="auto",
        max_length=64,
        dtype=dtype,
        warmup_ratio=0.1,
        max_grad_norm=1.0,
        patience=None,
        max_epochs=epochs,
    )


def build_trials(
    setting: Setting,
    ref: ModelRef,
    count: int,
    recipe: Recipe,
    samples: int,
    *,
    ranks: Sequence[int] = (8,),
    labels: Sequence[int] = (4,),
    rates: Sequence[float] = (1e-3,),
) -> list[TrialSpec]:
    """Return ``count`` LoRA trials, or trials of all weights where that is the method of ``ref``;
    each has an order of texts of its own, and the next of ``ranks``, ``labels`` and ``rates``."""
    specs = []
    for i in range(count):
        k, rank, rate = labels[i % len(labels)], ranks[i % len(ranks)], rates[i % len(rates)]
        names = setting.subsets.labels_for(k)
        cell = Cell(f"cell{i}", ref.name, k, names, samples, seed=i)
        candidate = (
            Candidate(i, None, None, rate, None, 0.01)
            if ref.method == "full"
            else Candidate(i, rank, 2.0 * rank, rate, 0.0, 0.01)
        )
        specs.append(TrialSpec(f"trial{i:02}", cell, candidate, ref, recipe, "benchmark"))
    return specs
