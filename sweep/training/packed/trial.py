"""A trial in a pack: its phase, and the batches that it has yet to bring."""

from collections.abc import Mapping, Set
from contextlib import nullcontext
from dataclasses import dataclass, field
from enum import Enum

import torch

from sweep.models.methods import lora_of
from sweep.plan import TrialSpec
from sweep.seeds import derive_seed
from sweep.storage.events import EpochResult
from sweep.training.batches import Encoded, Texts, upload
from sweep.training.checkpoint import BEST, OPTIMIZER, WEIGHTS, Tensors, best_weights
from sweep.training.packed.dropout import Dropout
from sweep.training.packed.microbatches import MicroBatch, cut_batches
from sweep.training.packed.pack import Pack
from sweep.training.packed.readback import Readback
from sweep.training.packed.stacks import Place, StepSettings
from sweep.training.trial import NamedTensors, Score, Trial, TrialTexts, bound_tokens


class Phase(Enum):
    WAITING = "waiting"
    TRAINING = "training"
    VALIDATING = "validating"
    TESTING = "testing"


# What one part of a batch was scored: its predictions (rows,) and the sum of its losses.
Scored = tuple[MicroBatch, torch.Tensor, torch.Tensor]


@dataclass
class PackedTrial(Trial):
    """One candidate in training, in a pack with others."""

    pack: Pack
    # Tokens of its widest batch.
    widest: int
    # The trial's slot in the pack's stacks.
    place: Place
    uploaded: dict[Phase, Texts]
    phase: Phase = Phase.WAITING
    batches: list[list[MicroBatch]] = field(default_factory=list)
    # How many of ``batches`` are done, and how many in the trial's life.
    position: int = 0
    taken: int = 0
    # This trial's share of the time that the phase has taken.
    seconds: float = 0.0
    # Metrics of the epoch so far; once ``done`` is among them, the epoch is over.
    metrics: EpochResult = field(default_factory=EpochResult)
    failure: Exception | None = None
    scored: list[Scored] = field(default_factory=list)
    # Outcomes of phases that are over on this side, and on their way back from the device: the
    # sum of losses of the epoch's training (and the loss scale), and the scores of its last texts.
    training_readback: Readback | None = None
    scoring_readback: Readback | None = None
    training_seconds: float = 0.0

    @property
    def slot(self) -> int:
        """The trial's position in the pack's stacks."""
        return self.place.slot

    def trainable_weights(self) -> NamedTensors:
        return self.pack.trainable_weights(self.place)

    def frozen_weights(self) -> NamedTensors:
        named = self.pack.base.model.named_parameters()
        return [(n.replace(".base.", "."), p) for n, p in named if not p.requires_grad]

    def optimizer_state(self) -> Tensors:
        return self.pack.optimizer_state(self.place)

    def load_optimizer_state(self, flat: Mapping[str, torch.Tensor]) -> None:
        self.pack.load_optimizer_state(self.place, flat)

    def remember_best_weights(self) -> None:
        self.pack.keep_best(self.place)

    def restore_best_weights(self) -> None:
        self.pack.restore_best(self.place)

    def load_groups(self, groups: Mapping[str, Tensors]) -> None:
        pack, place = self.pack, self.place
        pack.load_row("weights", place, groups[WEIGHTS])
        pack.load_row("best", place, best_weights(groups))
        pack.load_optimizer_state(place, groups[OPTIMIZER])

    def read_groups(self, wanted: Set[str]) -> dict[str, Tensors]:
        """Return the groups of a checkpoint's tensors that are ``wanted``, in this machine's
        memory: a copy per stack, which no other work on a GPU waits for."""
        stacks = {WEIGHTS: ["weights"], BEST: ["best"], OPTIMIZER: ["means", "squares"]}
        names = [name for group in stacks if group in wanted for name in stacks[group]]
        pack, place = self.pack, self.place
        with self._beside():
            rows = {name: pack.stacks.row(name, place).cpu() for name in names}
            groups = {
                group: dict(pack.name_row(rows[stacks[group][0]], place))
                for group in (WEIGHTS, BEST)
                if group in wanted
            }
            if OPTIMIZER in wanted:
                state = pack.optimizer_state(place, rows)
                groups[OPTIMIZER] = {name: value.cpu() for name, value in state.items()}
        return groups

    def _beside(self) -> "nullcontext[None] | torch.cuda.StreamContext":
        """Return a context whose work on a GPU runs beside that of other threads."""
        device = self.pack.base.device
        if device.type != "cuda":
            return nullcontext()
        stream = torch.cuda.Stream(device)  # type: ignore[no-untyped-call]
        stream.wait_stream(torch.cuda.default_stream(device))
        return torch.cuda.stream(stream)

    def loss_scale(self) -> float | None:
        scales = self.pack.stacks.loss_scales
        return None if scales is None else float(scales.scales[self.slot])

    def measure(self) -> dict[str, int]:
        """The peak memory is that of the whole pack, in the trial's life."""
        return {
            "trainable_parameters": self.pack.shape.count(self.place),
            "total_parameters": self.pack.count_parameters(self.place),
            "peak_memory_bytes": self.pack.peaks.read(self.spec.trial_id),
        }

    def begin_epoch(self) -> None:
        """Line up the batches of the next epoch."""
        self.progress.epoch += 1
        self.metrics = {}
        self.pack.stacks.losses[self.slot] = 0
        batches = self._cut(Phase.TRAINING, self.order_epoch(), mean=True)
        self._enter(Phase.TRAINING, batches)

    def _cut(self, phase: Phase, batches: list[list[int]], mean: bool) -> list[list[MicroBatch]]:
        flat = self.pack.base.forward.flat
        return cut_batches(self.uploaded[phase], batches, self.max_tokens, mean, flat)

    def begin_scoring(self, phase: Phase) -> None:
        """Line up the texts of validation or test."""
        encoded = self.encoded(phase)
        order = self.order_scored(encoded, self.pack.base.device)
        batches = self._cut(phase, order, mean=False)
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
        self.training_readback = self.scoring_readback = None
        self.scored = []
        return outcome

    @property
    def is_over(self) -> bool:
        """Whether the epoch has ended, in success or failure."""
        return self.failure is not None or "done" in self.metrics

    @property
    def has_batches(self) -> bool:
        """Whether the trial brings a batch to the next step."""
        return self.position < len(self.batches)

    @property
    def parts(self) -> list[MicroBatch]:
        """Parts of the next batch."""
        return self.batches[self.position]

    def count_tokens(self) -> list[int]:
        """Return how many tokens of each part of the next batch pass, padding included."""
        forward = self.pack.base.forward
        return [forward.count(part.texts) for part in self.parts]

    def advance(self, seconds: float) -> None:
        """Count the batch as done; at the last of a phase, have its outcome read."""
        if self.phase is Phase.TRAINING:
            self.progress.padded_tokens += sum(self.count_tokens())
        self.position += 1
        self.taken += 1
        self.seconds += seconds

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
        return Dropout(lora_of(self.spec.candidate).dropout, seed)

    def end_phase(self) -> None:
        """Send for the outcome of the phase whose batches are done. After training, validation
        begins at once: on a GPU the outcome comes later."""
        stacks = self.pack.stacks
        if self.phase is Phase.TRAINING:
            values = [stacks.losses[self.slot]]
            if stacks.loss_scales is not None:
                values.append(stacks.loss_scales.scales[self.slot])
            self.training_readback = Readback(values)
            self.training_seconds = self.seconds
            if self.training_readback.ready and self._settle_training():
                return
            self.begin_scoring(Phase.VALIDATING)
        else:
            predicted = torch.cat([values for _, values, _ in self.scored])
            losses = torch.stack([loss for _, _, loss in self.scored])
            self.scoring_readback = Readback([predicted, losses])

    def settle(self) -> None:
        """Take up the outcome of a phase, waiting for it if need be, and enter the next one."""
        if self.scoring_readback is None:
            return
        if self.training_readback is not None and self._settle_training():
            return
        score, seconds = self._read_score(self.scoring_readback), self.seconds
        self.scoring_readback = None
        if self.phase is Phase.TESTING:
            self.metrics |= self.end_test(score, seconds)
            return
        self.metrics |= self.end_validation(score, seconds)
        if not self.metrics["done"] and self.is_last_epoch():
            del self.metrics["done"]
            self.restore_best_weights()
            self.begin_scoring(Phase.TESTING)

    def _settle_training(self) -> bool:
        """Take up the loss of the epoch's training; return whether it ends the trial."""
        if self.training_readback is None:
            return False
        loss, *scale = (float(value) for value in self.training_readback.wait())
        self.training_readback = None
        mean = loss / len(self.training.classes)
        self.metrics = self.end_training(mean, self.training_seconds, *scale)
        return "done" in self.metrics

    def _read_score(self, readback: Readback) -> Score:
        encoded = self.encoded(self.phase)
        predictions = [0] * len(encoded.classes)
        predicted, losses = (values.tolist() for values in readback.wait())
        indices = [index for part, _, _ in self.scored for index in part.indices]
        for index, value in zip(indices, predicted, strict=True):
            predictions[index] = value
        return self.compute_metrics(encoded, sum(losses), predictions)


def build_packed_trial(
    spec: TrialSpec, pack: Pack, texts: TrialTexts, half_batches: bool = False
) -> PackedTrial:
    """Return the trial of ``spec`` in a place of its own in ``pack``, ready for its first epoch;
    for ``half_batches`` see ``bound_tokens``. It leaves nothing behind if it fails; any thread may
    call it."""
    max_tokens, widest = bound_tokens(spec, texts.training, half_batches)
    pad_id, device = pack.base.tokenizer.pad_token_id, pack.base.device
    named = {
        Phase.TRAINING: texts.training,
        Phase.VALIDATING: texts.validation,
        Phase.TESTING: texts.test,
    }
    place = pack.take(spec)
    try:
        uploaded = {phase: upload(encoded, pad_id, device) for phase, encoded in named.items()}
        pack.fill(spec, place)
    except Exception:
        pack.free(place)
        raise
    return PackedTrial(
        spec,
        texts.training,
        texts.validation,
        texts.test,
        max_tokens,
        pack=pack,
        widest=widest,
        place=place,
        uploaded=uploaded,
    )
