"""A trial in a pack: its phase, and the batches that it has yet to bring."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum

import torch

from sweep.data import CellData
from sweep.models.device import measure_peak_memory
from sweep.models.methods import lora_of
from sweep.plan import TrialSpec
from sweep.seeds import derive_seed
from sweep.storage.events import EpochResult
from sweep.training.batches import Encoded, Encoder, order_scoring
from sweep.training.checkpoint import Tensors
from sweep.training.packed.layers import Dropout
from sweep.training.packed.microbatches import MicroBatch, TextTensors, cut_batches, upload
from sweep.training.packed.pack import Pack
from sweep.training.packed.stacks import StepSettings
from sweep.training.trial import NamedTensors, Score, Trial, bound_tokens, encode_cell


class Phase(Enum):
    WAITING = "waiting"
    TRAINING = "training"
    VALIDATING = "validating"
    TESTING = "testing"


@dataclass
class PackedTrial(Trial):
    """One candidate in training, in a pack with others."""

    pack: Pack
    # Tokens of its widest batch.
    widest: int
    total_parameters: int
    uploaded: dict[Phase, TextTensors]
    phase: Phase = Phase.WAITING
    batches: list[list[MicroBatch]] = field(default_factory=list)
    # How many of ``batches`` are done.
    position: int = 0
    # This trial's share of the time that the phase has taken.
    seconds: float = 0.0
    # Metrics of the epoch so far; once ``done`` is among them, the epoch is over.
    metrics: EpochResult = field(default_factory=EpochResult)
    failure: Exception | None = None
    scored: list[tuple[MicroBatch, torch.Tensor, torch.Tensor]] = field(default_factory=list)

    @property
    def slot(self) -> int:
        """The trial's position in the pack's stacks."""
        return self.pack.slot(self.spec.trial_id)

    def trainable_weights(self) -> NamedTensors:
        return self.pack.trainable_weights(self.spec.trial_id)

    def frozen_weights(self) -> NamedTensors:
        named = self.pack.base.model.named_parameters()
        return [(n.replace(".base.", "."), p) for n, p in named if not p.requires_grad]

    def optimizer_state(self) -> Tensors:
        return self.pack.optimizer_state(self.spec.trial_id)

    def load_optimizer_state(self, flat: Mapping[str, torch.Tensor]) -> None:
        self.pack.load_optimizer_state(self.spec.trial_id, flat)

    def loss_scale(self) -> float | None:
        scales = self.pack.stacks.loss_scales
        return None if scales is None else float(scales.scales[self.slot])

    def measure(self) -> dict[str, int]:
        """The peak memory is that of the whole pack."""
        return {
            "trainable_parameters": sum(value.numel() for _, value in self.trainable_weights()),
            "total_parameters": self.total_parameters,
            "peak_memory_bytes": measure_peak_memory(self.pack.base.device),
        }

    def begin_epoch(self) -> None:
        """Line up the batches of the next epoch."""
        self.progress.epoch += 1
        self.metrics = {}
        self.pack.stacks.losses[self.slot] = 0
        texts = self.uploaded[Phase.TRAINING]
        batches = cut_batches(
            texts, self.training.lengths, self.order_epoch(), self.max_tokens, mean=True
        )
        self._enter(Phase.TRAINING, batches)

    def begin_scoring(self, phase: Phase) -> None:
        """Line up the texts of validation or test."""
        encoded = self.encoded(phase)
        order = order_scoring(encoded.lengths, self.spec.recipe.eval_batch_size)
        texts = self.uploaded[phase]
        batches = cut_batches(texts, encoded.lengths, order, self.max_tokens, mean=False)
        # Each part is a batch of its own: scoring sums nothing over a batch.
        self._enter(phase, [[part] for batch in batches for part in batch])
        self.scored = []

    def encoded(self, phase: Phase) -> Encoded:
        known = {Phase.TRAINING: self.training, Phase.VALIDATING: self.validation}
        return known.get(phase, self.test)

    def _enter(self, phase: Phase, batches: list[list[MicroBatch]]) -> None:
        self.phase, self.batches, self.position, self.seconds = phase, batches, 0, 0.0

    def wait(self) -> EpochResult | Exception:
        """End the epoch; return its metrics, or why there are none."""
        self._enter(Phase.WAITING, [])
        outcome, self.failure = self.failure or self.metrics, None
        self.metrics = {}
        return outcome

    @property
    def is_over(self) -> bool:
        """Whether the epoch has ended, in success or failure."""
        return self.failure is not None or "done" in self.metrics

    @property
    def parts(self) -> list[MicroBatch]:
        """Parts of the next batch."""
        return self.batches[self.position]

    def advance(self, seconds: float) -> bool:
        """Count the batch as done; return whether it was the last of the phase."""
        if self.phase is Phase.TRAINING:
            self.progress.padded_tokens += sum(part.tokens for part in self.parts)
        self.position += 1
        self.seconds += seconds
        return self.position == len(self.batches)

    def next_step(self) -> StepSettings:
        steps = len(self.batches)
        taken = (self.progress.epoch - 1) * steps + self.position
        return StepSettings(
            self.learning_rate(taken, steps),
            self.spec.candidate.weight_decay,
            self.spec.recipe.max_grad_norm,
        )

    def dropout(self, part: MicroBatch) -> Dropout:
        """Return the dropout of ``part``; masks follow from seed, epoch, step and part alone."""
        purpose = ("dropout", self.progress.epoch, self.position, self.parts.index(part))
        seed = derive_seed(self.spec.cell.seed, *purpose)
        return Dropout(lora_of(self.spec.candidate).dropout, seed, part.rows, part.width)

    def end_phase(self) -> None:
        """Record the outcome of the phase, and enter the next one."""
        seconds = self.seconds
        if self.phase is Phase.TRAINING:
            self.metrics = self.end_training(self._read_loss(), seconds)
            if "done" not in self.metrics:
                self.begin_scoring(Phase.VALIDATING)
        elif self.phase is Phase.VALIDATING:
            self.metrics |= self.end_validation(self._read_score(), seconds)
            if not self.metrics["done"] and self.is_last_epoch():
                del self.metrics["done"]
                self.restore_best_weights()
                self.begin_scoring(Phase.TESTING)
        else:
            self.metrics |= self.end_test(self._read_score(), seconds)

    def _read_loss(self) -> float:
        return float(self.pack.stacks.losses[self.slot]) / len(self.training.classes)

    def _read_score(self) -> Score:
        encoded = self.encoded(self.phase)
        predictions = [0] * len(encoded.classes)
        predicted = torch.cat([values for _, values, _ in self.scored]).tolist()
        indices = [index for part, _, _ in self.scored for index in part.indices]
        for index, value in zip(indices, predicted, strict=True):
            predictions[index] = value
        total = sum(torch.stack([loss for _, _, loss in self.scored]).tolist())
        return self.compute_metrics(encoded, total, predictions)


def build_packed_trial(
    spec: TrialSpec, pack: Pack, encoder: Encoder, data: CellData, half_batches: bool = False
) -> PackedTrial:
    """Add ``spec`` to ``pack``, ready for its first epoch; for ``half_batches`` see
    ``bound_tokens``."""
    texts = encode_cell(encoder, data)
    max_tokens, widest = bound_tokens(spec, texts.training, half_batches)
    pad_id, device = pack.base.tokenizer.pad_token_id, pack.base.device
    named = {
        Phase.TRAINING: texts.training,
        Phase.VALIDATING: texts.validation,
        Phase.TESTING: texts.test,
    }
    return PackedTrial(
        spec,
        texts.training,
        texts.validation,
        texts.test,
        max_tokens,
        pack=pack,
        widest=widest,
        total_parameters=pack.join(spec),
        uploaded={phase: upload(encoded, pad_id, device) for phase, encoded in named.items()},
    )
