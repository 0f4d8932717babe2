"""The solo engine: one trial at a time, each with a base model to itself."""

import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import torch
from peft import PeftModel
from torch import nn
from transformers import PreTrainedModel

from sweep.data import CellData, Subsets
from sweep.models.base import Base
from sweep.models.device import cast_to, measure_peak_memory
from sweep.models.flat.texts import FlatTexts
from sweep.models.full_pass import ForwardPass
from sweep.models.methods import (
    attach,
    detach,
    needs_checkpointing,
    set_checkpointing,
    state_bytes,
)
from sweep.models.transfer import read
from sweep.plan import TrialSpec
from sweep.seeds import derive_seed
from sweep.storage.events import EpochResult, Facts
from sweep.training.batches import (
    Encoded,
    Encoder,
    Texts,
    split_batch,
    upload,
)
from sweep.training.checkpoint import Tensors
from sweep.training.compiling import Backend, BlockChoice
from sweep.training.engine import Checkpointer, Engine
from sweep.training.loss_scale import build_scaler, flatten_scaler_state, load_scaler_state
from sweep.training.optimizer import (
    build_optimizer,
    flatten_adamw_state,
    load_adamw_state,
    set_rate,
)
from sweep.training.trial import NamedTensors, Score, Trial, bound_tokens, encode_cell


@dataclass
class SoloTrial(Trial):
    """One candidate in training, alone on its base model."""

    base: Base
    model: PeftModel | PreTrainedModel
    optimizer: torch.optim.AdamW
    scaler: torch.amp.GradScaler
    # On the device, from when they are first used.
    uploads: dict[Encoded, Texts] = field(default_factory=dict, kw_only=True)
    # The pass with compiled blocks, if that is used.
    compiled: ForwardPass | None = field(default=None, kw_only=True)

    @property
    def forward(self) -> ForwardPass:
        return self.compiled or self.base.forward

    def run_epoch(self) -> EpochResult:
        """Train one epoch and validate; return the epoch's metrics.

        ``done`` is true once the trial has ended by itself; ``status`` then says how, and the
        metrics of a finished trial hold its only test scores, from the weights of its best epoch.
        """
        self.progress.epoch += 1
        start = time.perf_counter()
        train_loss = self._train_epoch()
        trained = time.perf_counter()
        metrics = self.end_training(train_loss, trained - start, self.loss_scale())
        if metrics.get("done"):
            return metrics
        score = self.score(self.validation)
        metrics |= self.end_validation(score, time.perf_counter() - trained)
        if metrics["done"] or not self.is_last_epoch():
            return metrics
        return {**metrics, **self._finish()}

    def _train_epoch(self) -> float:
        """Return the mean loss per text, the only value of the epoch that a GPU is asked for."""
        epoch, seed = self.progress.epoch, self.spec.cell.seed
        # Dropout depends on seed and epoch only, so a resumed trial needs no generator state.
        torch.manual_seed(derive_seed(seed, "dropout", epoch))
        self.model.train()
        order = self.order_epoch()
        total = torch.zeros((), device=self.base.device)
        for step, indices in enumerate(order, start=(epoch - 1) * len(order)):
            set_rate(self.optimizer, self.learning_rate(step, len(order)))
            total += self._step(indices) * len(indices)
        return read(total)[0].item() / len(self.training.classes)

    def parts(
        self, encoded: Encoded, indices: list[int]
    ) -> Iterator[tuple[list[int], FlatTexts, torch.Tensor]]:
        """Yield the batch in parts of at most ``max_tokens``: indices, texts and classes."""
        texts, flat = self._upload(encoded), self.forward.flat
        for part in split_batch(indices, encoded.lengths, self.max_tokens, flat):
            yield part, *texts.select(part)

    def _upload(self, encoded: Encoded) -> Texts:
        if encoded not in self.uploads:
            pad_id = self.base.tokenizer.pad_token_id
            # What is made in inference mode could not be trained on.
            with torch.inference_mode(False):
                self.uploads[encoded] = upload(encoded, pad_id, self.base.device)
        return self.uploads[encoded]

    def _step(self, indices: list[int]) -> torch.Tensor:
        """Return the mean loss of the batch, a scalar on the device."""
        total = torch.zeros((), device=self.base.device)
        for _, texts, classes in self.parts(self.training, indices):
            losses = nn.functional.cross_entropy(self._logits(texts), classes, reduction="sum")
            loss = losses / len(indices)
            torch.autograd.backward(self.scaler.scale(loss))
            total += loss.detach()
            self.progress.padded_tokens += self.forward.count(texts)
        parameters = [p for group in self.optimizer.param_groups for p in group["params"]]
        self.scaler.unscale_(self.optimizer)
        nn.utils.clip_grad_norm_(parameters, self.spec.recipe.max_grad_norm)
        # Takes no step, nor counts one, if a gradient is not finite.
        self.scaler.step(self.optimizer)
        self.scaler.update()
        self.optimizer.zero_grad(set_to_none=True)
        return total

    def _logits(self, texts: FlatTexts) -> torch.Tensor:
        """Return float32 logits (texts, classes)."""
        with cast_to(self.base.device, self.base.dtype):
            return self.forward(texts).float()

    def score(self, encoded: Encoded) -> Score:
        """Score ``encoded``; predictions are in its order."""
        self.model.eval()
        order = self.order_scored(encoded, self.base.device)
        scored, losses, found = [], [], []
        with torch.inference_mode():
            parts = (part for each in order for part in self.parts(encoded, each))
            for part, texts, known in parts:
                logits = self._logits(texts)
                scored += part
                losses.append(nn.functional.cross_entropy(logits, known, reduction="sum"))
                found.append(logits.argmax(-1))
            # A GPU is waited for once all is asked of it.
            sums, classes = read(torch.stack(losses), torch.cat(found))
        predictions = [0] * len(encoded.classes)
        for index, predicted in zip(scored, classes.tolist(), strict=True):
            predictions[index] = predicted
        return self.compute_metrics(encoded, sum(sums.tolist()), predictions)

    def _finish(self) -> EpochResult:
        start = time.perf_counter()
        self.restore_best_weights()
        score = self.score(self.test)
        return self.end_test(score, time.perf_counter() - start)

    def _parameters(self) -> list[tuple[str, nn.Parameter]]:
        return [(n, p) for n, p in self.model.named_parameters() if p.requires_grad]

    def trainable_weights(self) -> NamedTensors:
        return [*self._parameters()]

    def frozen_weights(self) -> NamedTensors:
        if not isinstance(self.model, PeftModel):
            return [*self.base.original.items()]
        named = self.model.get_base_model().named_parameters()
        return [(n.replace(".base_layer.", "."), p) for n, p in named if not p.requires_grad]

    def optimizer_state(self) -> Tensors:
        state = flatten_adamw_state(self._parameters(), self.optimizer)
        return state | flatten_scaler_state(self.scaler)

    def load_optimizer_state(self, flat: Mapping[str, torch.Tensor]) -> None:
        load_adamw_state(self._parameters(), self.optimizer, flat)
        load_scaler_state(self.scaler, flat)

    def loss_scale(self) -> float | None:
        return self.scaler.get_scale() if self.scaler.is_enabled() else None

    def measure(self) -> dict[str, int]:
        return {
            "trainable_parameters": sum(p.numel() for _, p in self._parameters()),
            "total_parameters": sum(p.numel() for p in self.model.parameters()),
            "peak_memory_bytes": measure_peak_memory(self.base.device),
        }

    def close(self) -> None:
        """Restore the base model to its state before this trial."""
        detach(self.base, self.model)


def build_solo_trial(
    spec: TrialSpec, base: Base, encoder: Encoder, data: CellData, half_batches: bool = False
) -> SoloTrial:
    """Attach ``spec`` to ``base``, ready for its first epoch; for ``half_batches`` see
    ``bound_tokens``."""
    if base.device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(base.device)
    model = attach(base, spec.cell.labels, spec.candidate, spec.cell.seed)
    texts = encode_cell(encoder, data)
    max_tokens, widest = bound_tokens(spec, texts.training, half_batches)
    wanted, rank = spec.recipe.gradient_checkpointing, spec.candidate.lora_rank or 0
    pending = state_bytes(base, model)
    set_checkpointing(base, needs_checkpointing(base, wanted, rank, widest, pending))
    optimizer = build_optimizer(model.parameters(), spec.candidate)
    return SoloTrial(
        spec,
        texts.training,
        texts.validation,
        texts.test,
        max_tokens,
        base=base,
        model=model,
        optimizer=optimizer,
        scaler=build_scaler(base.device, base.dtype),
    )


class SoloEngine(Engine):
    """Trains trials one after another; what they share is loaded once.

    For each trial, call ``start``, then ``run_epoch`` until its metrics say ``done`` or the
    scheduler stops the trial, then ``close``.
    """

    def __init__(
        self,
        subsets: Subsets,
        models_folder: Path,
        ahead: Mapping[str, float] | None = None,
        compiler: Backend = "inductor",
    ) -> None:
        """``ahead`` has the seconds of training that this engine has ahead of it, by model, as far
        as they are known: ``train.compile: auto`` depends on it. ``compiler`` is the backend of
        ``torch.compile``."""
        super().__init__(subsets, models_folder)
        self._blocks = BlockChoice(ahead or {}, compiler)
        self._current: SoloTrial | None = None
        self._checkpointer: Checkpointer | None = None

    def start(
        self,
        spec: TrialSpec,
        checkpoints: Path,
        resume_epoch: int = 0,
        half_batches: bool = False,
    ) -> Facts:
        """Set up ``spec``, from its newest complete checkpoint in ``checkpoints`` up to
        ``resume_epoch`` if it has one; return facts about the start.

        With ``half_batches``, batches go through the model in parts: same steps, less memory.
        """
        started = time.perf_counter()
        base, encoder = self.get_base(spec)
        data = self.get_cell_data(spec.cell)
        self._current = build_solo_trial(spec, base, encoder, data, half_batches)
        self._checkpointer = Checkpointer(self._current, checkpoints, started)
        resumed = self._checkpointer.restore(resume_epoch)
        facts = self.describe(base, started, resumed)
        return facts | {"compiled": str(self._blocks.choose(self._current))}

    @property
    def _trial(self) -> SoloTrial:
        if self._current is None:
            raise RuntimeError("no trial has been started")
        return self._current

    def run_epoch(self) -> EpochResult:
        """Train one epoch, write its checkpoint, and return its metrics with the trial's totals."""
        metrics = self._trial.run_epoch()
        return self._checkpointer.save(metrics) if self._checkpointer else metrics

    def close(self) -> None:
        """End the trial; the base model stays loaded for the next one."""
        if self._current is not None:
            self._current.close()
            self._current = self._checkpointer = None

    def discard(self) -> None:
        self._current = self._checkpointer = None
        super().discard()

    def _drop_base(self) -> None:
        self._blocks.forget()
        super()._drop_base()
