"""Train one candidate: an epoch at a time, with validation, one test at the end, and state to
save and restore; knows nothing of Ray."""

import math
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from peft import PeftModel
from torch import nn

from sweep.batches import (
    Batch,
    Encoded,
    Encoder,
    build_batch,
    order_scoring,
    order_training,
    split_batch,
)
from sweep.checkpoints import Tensors, read_checkpoint, write_checkpoint
from sweep.device import measure_peak_memory
from sweep.metrics import load_metric
from sweep.models import (
    Base,
    attach_adapter,
    detach_adapter,
    needs_checkpointing,
    set_checkpointing,
)
from sweep.optimizer import build_optimizer, flatten_moments, restore_moments, schedule
from sweep.plan import TrialSpec
from sweep.seeds import derive_seed
from sweep.subsets import CellData


@dataclass
class Score:
    """What scoring a subset gave."""

    loss: float
    accuracy: float
    macro_f1: float
    predictions: list[int]


@dataclass
class Progress:
    """The part of a trial's state that is not tensors."""

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


@dataclass
class Trainer:
    """One candidate in training, on one base model."""

    spec: TrialSpec
    base: Base
    model: PeftModel
    training: Encoded
    validation: Encoded
    test: Encoded
    optimizer: torch.optim.AdamW
    max_tokens: int
    """Most tokens, padding included, that pass through the model at once."""
    progress: Progress = field(default_factory=Progress)
    best: Tensors = field(default_factory=dict)

    def run_epoch(self) -> dict[str, Any]:
        """Train one epoch and validate; return the epoch's metrics.

        ``done`` is true when the trial ends by itself: ``status`` then says how, and a finished
        trial carries its only test scores, made with the weights of its best epoch.
        """
        progress = self.progress
        progress.epoch += 1
        start = time.perf_counter()
        train_loss = self._train_epoch()
        trained = time.perf_counter()
        progress.train_seconds += trained - start
        metrics = {"epoch": progress.epoch, "train_loss": train_loss}
        if not math.isfinite(train_loss):
            return metrics | self._end("diverged", "the training loss is not finite")
        score = self.score(self.validation)
        seconds = time.perf_counter() - trained
        progress.eval_seconds += seconds
        metrics |= {
            "val_loss": score.loss,
            "val_accuracy": score.accuracy,
            "val_macro_f1": score.macro_f1,
            "train_seconds": trained - start,
            "eval_seconds": seconds,
        }
        if not math.isfinite(score.loss):
            return metrics | self._end("diverged", "the validation loss is not finite")
        self._remember_best(score)
        metrics["best_val_accuracy"] = progress.val_accuracy
        return metrics | (self._finish() if self._is_last_epoch() else {"done": False})

    def _train_epoch(self) -> float:
        """Take every training step of the epoch; return the mean loss per text."""
        recipe, epoch, seed = self.spec.recipe, self.progress.epoch, self.spec.cell.seed
        # Dropout depends on seed and epoch alone, so a resumed trial needs no generator state.
        torch.manual_seed(derive_seed(seed, "dropout", epoch))
        self.model.train()
        lengths = [len(ids) for ids in self.training.ids]
        order = order_training(lengths, recipe.batch_size, seed, epoch)
        steps_before = (epoch - 1) * len(order)
        total = torch.zeros((), device=self.base.device)
        for step, indices in enumerate(order, start=steps_before):
            self._set_learning_rate(step, recipe.max_epochs * len(order))
            total += self._step(indices, lengths) * len(indices)
        self.progress.train_tokens += self.training.tokens
        return total.item() / len(lengths)

    def _parts(
        self, encoded: Encoded, indices: list[int], lengths: list[int]
    ) -> Iterator[tuple[list[int], Batch]]:
        """Yield the batch in parts that are bounded in tokens, with the indices of each."""
        pad_id = self.base.tokenizer.pad_token_id
        for part in split_batch(indices, lengths, self.max_tokens):
            yield part, build_batch(encoded, part, pad_id, self.base.device)

    def _step(self, indices: list[int], lengths: list[int]) -> torch.Tensor:
        """Take one optimiser step; return the mean loss of its texts, a scalar on the device."""
        total = torch.zeros((), device=self.base.device)
        for _, batch in self._parts(self.training, indices, lengths):
            losses = nn.functional.cross_entropy(
                self._logits(batch), batch.classes, reduction="sum"
            )
            loss = losses / len(indices)
            torch.autograd.backward(loss)
            total += loss.detach()
            self.progress.padded_tokens += batch.input_ids.numel()
        parameters = self.optimizer.param_groups[0]["params"]
        nn.utils.clip_grad_norm_(parameters, self.spec.recipe.max_grad_norm)
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        return total

    def _logits(self, batch: Batch) -> torch.Tensor:
        """Return float32 logits (texts, classes)."""
        mixed = self.base.dtype != torch.float32
        with torch.autocast(self.base.device.type, self.base.dtype, enabled=mixed):
            output = self.model(
                input_ids=batch.input_ids, attention_mask=batch.attention_mask, use_cache=False
            )
        logits: torch.Tensor = output.logits.float()
        return logits

    def _set_learning_rate(self, step: int, total_steps: int) -> None:
        peak = self.spec.candidate.learning_rate
        rate = peak * schedule(step, total_steps, self.spec.recipe.warmup_ratio)
        self.optimizer.param_groups[0]["lr"] = rate

    def score(self, encoded: Encoded) -> Score:
        """Return loss, accuracy, macro-F1 and predicted class of each text, in ``encoded``'s
        order."""
        self.model.eval()
        lengths = [len(ids) for ids in encoded.ids]
        order = order_scoring(lengths, self.spec.recipe.eval_batch_size)
        parts = (pair for indices in order for pair in self._parts(encoded, indices, lengths))
        predictions = [0] * len(lengths)
        total = 0.0
        with torch.inference_mode():
            for part, batch in parts:
                logits = self._logits(batch)
                total += nn.functional.cross_entropy(logits, batch.classes, reduction="sum").item()
                for index, predicted in zip(part, logits.argmax(-1).tolist(), strict=True):
                    predictions[index] = predicted
        scores = load_metric().compute(
            predictions=predictions,
            references=encoded.classes,
            n_labels=self.spec.cell.n_labels,
        )
        return Score(total / len(lengths), scores["accuracy"], scores["macro_f1"], predictions)

    def _remember_best(self, score: Score) -> None:
        progress = self.progress
        if score.accuracy > progress.val_accuracy:
            progress.best_epoch = progress.epoch
            progress.val_accuracy = score.accuracy
            progress.val_macro_f1 = score.macro_f1
            progress.val_loss = score.loss
            self.best = {name: value.detach().clone() for name, value in self._trainable()}

    def _trainable(self) -> list[tuple[str, nn.Parameter]]:
        return [(n, p) for n, p in self.model.named_parameters() if p.requires_grad]

    def _is_last_epoch(self) -> bool:
        recipe, progress = self.spec.recipe, self.progress
        if progress.epoch >= recipe.max_epochs:
            return True
        waited = progress.epoch - progress.best_epoch
        return recipe.patience is not None and waited >= recipe.patience

    def _finish(self) -> dict[str, Any]:
        """Score the test texts once, with the best epoch's weights."""
        start = time.perf_counter()
        parameters = dict(self._trainable())
        with torch.no_grad():
            for name, value in self.best.items():
                parameters[name].copy_(value)
        score = self.score(self.test)
        self.progress.eval_seconds += time.perf_counter() - start
        return {
            **self._end("finished", None),
            "test_accuracy": score.accuracy,
            "test_macro_f1": score.macro_f1,
            "predictions": score.predictions,
        }

    def _end(self, status: str, error: str | None) -> dict[str, Any]:
        return {"done": True, "status": status, "error": error}

    def summary(self) -> dict[str, Any]:
        """Return the trial's totals so far, under the names of the results table."""
        progress = asdict(self.progress)
        epochs = progress.pop("epoch")
        if not progress["best_epoch"]:
            for name in ("best_epoch", "val_accuracy", "val_macro_f1", "val_loss"):
                progress[name] = None
        return {
            **progress,
            "epochs_run": epochs,
            "n_validation": len(self.validation.classes),
            "n_test": len(self.test.classes),
            "truncated_texts": self.training.truncated,
            "trainable_parameters": sum(p.numel() for _, p in self._trainable()),
            "total_parameters": sum(p.numel() for p in self.model.parameters()),
            "peak_memory_bytes": measure_peak_memory(self.base.device),
        }

    def save(self, folder: Path) -> None:
        """Write adapter, head, optimiser moments, best epoch and progress to ``folder``."""
        groups: dict[str, Tensors] = {"adapter": dict(self._trainable()), "best": self.best}
        groups["optimizer"] = flatten_moments(self._trainable(), self.optimizer)
        progress = asdict(self.progress)
        write_checkpoint(folder, groups, {"trial_id": self.spec.trial_id, "progress": progress})

    def restore(self, folder: Path) -> bool:
        """Take up the state in ``folder``; return False if it is not whole or not this trial's."""
        found = read_checkpoint(folder)
        if found is None or found[1].get("trial_id") != self.spec.trial_id:
            return False
        groups, state = found
        with torch.no_grad():
            for name, parameter in self._trainable():
                parameter.copy_(groups["adapter"][name])
        restore_moments(self._trainable(), self.optimizer, groups["optimizer"])
        device = self.base.device
        self.best = {name: value.to(device) for name, value in groups["best"].items()}
        self.progress = Progress(**state["progress"])
        return True

    def close(self) -> None:
        """Leave the base model as it was before this trial."""
        detach_adapter(self.base, self.model)


def build_trainer(
    spec: TrialSpec, base: Base, encoder: Encoder, data: CellData, half_batches: bool = False
) -> Trainer:
    """Return ``spec`` ready for its first epoch on ``base``.

    With ``half_batches`` a batch passes through the model in at least two parts, which needs less
    memory and makes the same step, since the parts' gradients add up.
    """
    if base.device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(base.device)
    model = attach_adapter(base, spec.cell.labels, spec.candidate, spec.cell.seed)
    training, validation, test = (
        encoder.encode(subset.texts, subset.classes)
        for subset in (data.training, data.validation, data.test)
    )
    recipe = spec.recipe
    max_tokens = recipe.max_batch_tokens
    widest = min(recipe.batch_size * max(map(len, training.ids)), max_tokens)
    if half_batches:
        max_tokens = widest = widest // 2
    wanted, rank = recipe.gradient_checkpointing, spec.candidate.lora_rank
    set_checkpointing(base, needs_checkpointing(base, wanted, rank, widest))
    optimizer = build_optimizer(model.parameters(), spec.candidate)
    return Trainer(spec, base, model, training, validation, test, optimizer, max_tokens)
