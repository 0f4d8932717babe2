"""A trial, whichever engine trains it: its texts, batch order and learning rates, its outcome, and
the state that goes into checkpoints."""

import math
from abc import ABC, abstractmethod
from collections.abc import Mapping, Set
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import cast

import torch

from sweep.data import CellData
from sweep.errors import format_names
from sweep.plan import TrialSpec, scored_at_once
from sweep.storage.events import EpochResult, Facts, TrialStatus
from sweep.training.batches import Encoded, Encoder, order_scoring, order_training
from sweep.training.checkpoint import (
    BEST,
    OPTIMIZER,
    WEIGHTS,
    Tensors,
    best_weights,
    read_checkpoint,
    write_checkpoint,
)
from sweep.training.loss_scale import LEAST_SCALE, OVERFLOW_REMEDY
from sweep.training.metrics import load_metric
from sweep.training.optimizer import schedule

NamedTensors = list[tuple[str, torch.Tensor]]


@dataclass
class Score:
    """Loss and metrics of a subset, and its predicted classes."""

    loss: float
    accuracy: float
    macro_f1: float
    predictions: list[int]


@dataclass
class Progress:
    """The part of a trial's state that is not tensors; a checkpoint holds it as JSON."""

    epoch: int = 0
    best_epoch: int = 0
    val_accuracy: float = -1.0
    val_macro_f1: float = 0.0
    val_loss: float = math.inf
    train_tokens: int = 0
    padded_tokens: int = 0
    train_seconds: float = 0.0
    eval_seconds: float = 0.0
    wall_seconds: float = 0.0


@dataclass(frozen=True)
class TrialTexts:
    training: Encoded
    validation: Encoded
    test: Encoded


@dataclass
class Trial(ABC):
    """One candidate in training; subclasses say where its weights and optimizer state are."""

    spec: TrialSpec
    training: Encoded
    validation: Encoded
    test: Encoded
    # Most tokens of this trial, padding included, that pass through the model at once.
    max_tokens: int
    progress: Progress = field(default_factory=Progress, kw_only=True)
    best: Tensors = field(default_factory=dict, kw_only=True)

    @abstractmethod
    def trainable_weights(self) -> NamedTensors:
        """Return adapter and head by PEFT's names; writing into them changes the trial."""

    @abstractmethod
    def frozen_weights(self) -> NamedTensors:
        """Return the base model's weights, by names like its own."""

    @abstractmethod
    def optimizer_state(self) -> Tensors:
        """Return the optimizer's state as flat tensors named ``PARAMETER/KEY``."""

    @abstractmethod
    def load_optimizer_state(self, flat: Mapping[str, torch.Tensor]) -> None:
        """Load what ``optimizer_state`` returned."""

    @abstractmethod
    def loss_scale(self) -> float | None:
        """Return the factor on the loss before the backward pass, None where there is none."""

    @abstractmethod
    def measure(self) -> dict[str, int]:
        """Return ``trainable_parameters``, ``total_parameters`` and ``peak_memory_bytes``."""

    def order_epoch(self) -> list[list[int]]:
        """Return the batches of the current epoch, as indices of training texts."""
        recipe, seed = self.spec.recipe, self.spec.cell.seed
        return order_training(self.training.lengths, recipe.batch_size, seed, self.progress.epoch)

    def order_scored(self, encoded: Encoded, device: torch.device) -> list[list[int]]:
        """Return the batches of ``encoded`` that ``device`` scores at once, as indices."""
        at_once = scored_at_once(self.spec.recipe, device.type == "cuda")
        return order_scoring(encoded.lengths, at_once)

    def learning_rate(self, step: int, steps_per_epoch: int) -> float:
        """Return the learning rate of ``step``, counted from the trial's start."""
        recipe = self.spec.recipe
        total = recipe.max_epochs * steps_per_epoch
        peak = self.spec.candidate.learning_rate
        return peak * schedule(step, total, recipe.warmup_ratio)

    def end_training(self, loss: float, seconds: float, scale: float | None = None) -> EpochResult:
        """Record an epoch's training, at whose end the losses were scaled by ``scale``; return its
        metrics, ``done`` if the loss is not finite or its gradients are not at any scale."""
        self.progress.train_tokens += self.training.tokens
        self.progress.train_seconds += seconds
        metrics: EpochResult = {"epoch": self.progress.epoch, "train_loss": loss}
        if not math.isfinite(loss):
            # The history has no times for an epoch without validation.
            return {
                **metrics,
                **self.end(TrialStatus.DIVERGED, self._explain_divergence("training")),
            }
        if scale is not None and scale < LEAST_SCALE:
            reason = f"the gradients are not finite at any loss scale{OVERFLOW_REMEDY}"
            return {**metrics, **self.end(TrialStatus.DIVERGED, reason)}
        return {**metrics, "train_seconds": seconds}

    def end_validation(self, score: Score, seconds: float) -> EpochResult:
        """Record an epoch's validation, and weights that are the best yet; return its metrics."""
        self.progress.eval_seconds += seconds
        metrics: EpochResult = {
            "val_loss": score.loss,
            "val_accuracy": score.accuracy,
            "val_macro_f1": score.macro_f1,
            "eval_seconds": seconds,
        }
        if not math.isfinite(score.loss):
            reason = self._explain_divergence("validation")
            return {**metrics, **self.end(TrialStatus.DIVERGED, reason)}
        self._remember_best(score)
        return {**metrics, "best_val_accuracy": self.progress.val_accuracy, "done": False}

    def end_test(self, score: Score, seconds: float) -> EpochResult:
        """Record the only scores of the test texts; return the finished trial's metrics."""
        self.progress.eval_seconds += seconds
        return {
            **self.end(TrialStatus.FINISHED, None),
            "test_accuracy": score.accuracy,
            "test_macro_f1": score.macro_f1,
            "predictions": score.predictions,
        }

    def end(self, status: TrialStatus, error: str | None) -> EpochResult:
        return {"done": True, "status": status, "error": error}

    def _explain_divergence(self, kind: str) -> str:
        # The base model's weights may be at fault.
        named = self.frozen_weights()
        finite = torch.stack([value.isfinite().all() for _, value in named]).tolist()
        broken = [name for (name, _), is_finite in zip(named, finite, strict=True) if not is_finite]
        remedy = "" if self.loss_scale() is None else OVERFLOW_REMEDY
        if not broken:
            return f"the {kind} loss is not finite{remedy}"
        return (
            f"the {kind} loss is not finite: the base model has NaN or infinite values in "
            f"{len(broken)} of its tensors ({format_names(broken, 2, 100)}); download the model "
            f"again{remedy}"
        )

    def compute_metrics(self, encoded: Encoded, total_loss: float, predictions: list[int]) -> Score:
        """Score ``predictions``, which are in the order of ``encoded``."""
        scores = load_metric().compute(
            predictions=predictions,
            references=encoded.classes,
            n_labels=self.spec.cell.n_labels,
        )
        loss = total_loss / len(predictions)
        return Score(loss, scores["accuracy"], scores["macro_f1"], predictions)

    def _remember_best(self, score: Score) -> None:
        progress = self.progress
        if score.accuracy > progress.val_accuracy:
            progress.best_epoch = progress.epoch
            progress.val_accuracy = score.accuracy
            progress.val_macro_f1 = score.macro_f1
            progress.val_loss = score.loss
            self.remember_best_weights()

    def is_last_epoch(self) -> bool:
        """Return whether the trial ends with this epoch: its last, or its patience has run out."""
        recipe, progress = self.spec.recipe, self.progress
        if progress.epoch >= recipe.max_epochs:
            return True
        waited = progress.epoch - progress.best_epoch
        return recipe.patience is not None and waited >= recipe.patience

    def remember_best_weights(self) -> None:
        """Keep a copy of the weights as the best ones."""
        self.best = {name: value.detach().clone() for name, value in self.trainable_weights()}

    def restore_best_weights(self) -> None:
        """Make the weights the best ones again."""
        with torch.no_grad():
            for name, value in self.trainable_weights():
                if name in self.best:
                    value.copy_(self.best[name])

    def summary(self) -> Facts:
        """Return the trial's totals so far, under the names of the results table."""
        progress = asdict(self.progress)
        epochs = progress.pop("epoch")
        if not progress["best_epoch"]:
            for name in ("best_epoch", "val_accuracy", "val_macro_f1", "val_loss"):
                progress[name] = None
        facts = {
            **progress,
            "epochs_run": epochs,
            "n_validation": len(self.validation.classes),
            "n_test": len(self.test.classes),
            "truncated_texts": self.training.truncated,
            **self.measure(),
        }
        return cast(Facts, facts)

    def save(self, folder: Path, ended: bool = False) -> None:
        """Write what the trial needs to continue to ``folder``: trained weights, optimizer state,
        best weights unless they are the same, and progress. Of a trial that has ``ended``, only
        the best weights are needed."""
        is_best = self.progress.best_epoch == self.progress.epoch
        wanted = {BEST} if ended else {WEIGHTS, OPTIMIZER} | (set() if is_best else {BEST})
        state = {"trial_id": self.spec.trial_id, "progress": asdict(self.progress)}
        write_checkpoint(folder, self.read_groups(wanted), state)

    def read_groups(self, wanted: Set[str]) -> dict[str, Tensors]:
        """Return the groups of a checkpoint's tensors that are ``wanted``."""
        readers = {
            WEIGHTS: lambda: dict(self.trainable_weights()),
            BEST: lambda: self.best,
            OPTIMIZER: self.optimizer_state,
        }
        return {name: read() for name, read in readers.items() if name in wanted}

    def restore(self, folder: Path) -> bool:
        """Load the state in ``folder``; return False if it is incomplete, another trial's, or one
        from which no trial continues."""
        found = read_checkpoint(folder)
        if found is None or found[1].get("trial_id") != self.spec.trial_id:
            return False
        groups, state = found
        if WEIGHTS not in groups:
            return False
        self.load_groups(groups)
        self.progress = Progress(**state["progress"])
        return True

    def load_groups(self, groups: Mapping[str, Tensors]) -> None:
        """Load what ``read_groups`` returned of a trial that goes on."""
        with torch.no_grad():
            for name, value in self.trainable_weights():
                value.copy_(groups[WEIGHTS][name])
        self.load_optimizer_state(groups[OPTIMIZER])
        device = self.trainable_weights()[0][1].device
        self.best = {name: value.to(device) for name, value in best_weights(groups).items()}


def encode_cell(encoder: Encoder, data: CellData) -> TrialTexts:
    return TrialTexts(
        *(
            encoder.encode(subset.texts, subset.classes)
            for subset in (data.training, data.validation, data.test)
        )
    )


def bound_tokens(spec: TrialSpec, training: Encoded, half_batches: bool) -> tuple[int, int]:
    """Return the most tokens that pass through the model at once, and those of the widest batch.

    With ``half_batches``, a batch passes in at least two parts. That needs less memory and makes
    the same step, because the parts' gradients add up.
    """
    recipe = spec.recipe
    most = recipe.max_batch_tokens
    widest = min(recipe.batch_size * max(training.lengths), most)
    return (widest // 2, widest // 2) if half_batches else (most, widest)
