"""Train many candidates at once on one base model; slots join and leave between steps."""

import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch
from torch import nn

from sweep.data import CellData
from sweep.models.base import Base, needs_checkpointing, set_checkpointing
from sweep.models.device import is_out_of_memory
from sweep.plan import TrialSpec
from sweep.training.batches import Encoder
from sweep.training.packed.microbatches import (
    MOST_TOKENS,
    MicroBatch,
    PackBatch,
    choose_pass_tokens,
    group_parts,
    stack_parts,
)
from sweep.training.packed.pack import Pack
from sweep.training.packed.stacks import step_rows
from sweep.training.packed.trial import Phase, Slot, build_slot

# What PyTorch says of gradients that are views, as here: DDP, which is not used, would be slow.
warnings.filterwarnings("ignore", message="grad and param do not obey the gradient layout")

SCORING = (Phase.VALIDATING, Phase.TESTING)
Turn = tuple[Slot, MicroBatch]


class PackedTrainer:
    """The slots of one pack, which take their steps together.

    With float32 and no dropout a slot's curve is, to rounding, that of the solo trainer. LoRA
    dropout draws masks of the slot's own, other ones than solo; dropout of the base model itself
    (GPT-2's) draws from one stream for all, so there a curve depends on who shares the pack.
    """

    def __init__(self, base: Base) -> None:
        self.pack = Pack(base)
        self.slots: dict[str, Slot] = {}
        self.max_tokens = 0
        """Most tokens, padding included, that pass through the model at once."""
        self._ceiling = MOST_TOKENS.get(base.device.type, 10**9)
        self._pad_id = base.tokenizer.pad_token_id
        layers = base.model.config.get_text_config().num_hidden_layers
        weights = base.model.num_parameters(exclude_embeddings=True)
        self._pass_tokens = choose_pass_tokens(base.device.type, weights / layers)

    def join(
        self, spec: TrialSpec, encoder: Encoder, data: CellData, half_batches: bool = False
    ) -> Slot:
        """Take in a trial; return its slot, which waits for its first epoch."""
        slot = build_slot(spec, self.pack, encoder, data, half_batches)
        self.slots[spec.trial_id] = slot
        self._bound_memory()
        return slot

    def leave(self, trial_id: str) -> None:
        """Let a trial go, at whatever step it is."""
        if self.slots.pop(trial_id, None) is not None:
            self.pack.leave(trial_id)
            self._bound_memory()

    def _bound_memory(self) -> None:
        """Take as many tokens at once as every slot allows; keep few activations where needed."""
        base, slots = self.pack.base, self.slots.values()
        self.max_tokens = min([slot.max_tokens for slot in slots] + [self._ceiling])
        tokens = min(self.max_tokens, sum(slot.widest for slot in slots))
        rank = self.pack.stacks.shape.rank
        wanted = [slot.spec.recipe.gradient_checkpointing for slot in slots]
        set_checkpointing(base, any(needs_checkpointing(base, w, rank, tokens) for w in wanted))

    @property
    def busy(self) -> bool:
        """Whether any slot has something to do."""
        return any(slot.phase is not Phase.WAITING for slot in self.slots.values())

    def advance(self) -> list[tuple[Slot, dict[str, Any] | Exception]]:
        """Let every busy slot take its next step, or score its next texts; return those whose
        epoch is over: with its metrics (those of ``Trainer.run_epoch``), or why it failed."""
        slots = list(self.slots.values())
        training = [slot for slot in slots if slot.phase is Phase.TRAINING]
        scoring = [slot for slot in slots if slot.phase in SCORING]
        if training:
            self._bounded(self._train, training)
        if scoring:
            self._bounded(self._score, scoring)
        return [(slot, slot.wait()) for slot in slots if slot.is_over]

    def _bounded(self, run: Callable[[Sequence[Slot]], None], slots: Sequence[Slot]) -> None:
        """Run, with fewer tokens at once while memory is short; a slot that does not even fit
        alone fails, and the others go on as if it had not been there."""
        while slots:
            try:
                run(slots)
            except Exception as error:
                if not is_out_of_memory(error):
                    raise
                slots = self._shrink(slots, error)
            else:
                return

    def _shrink(self, slots: Sequence[Slot], error: Exception) -> Sequence[Slot]:
        """Take fewer tokens at once from now on, or else give the widest slot up; return the
        slots that are left."""
        whole = sum(part.tokens for slot in slots for part in slot.parts)
        widest = max(slots, key=lambda slot: max(part.tokens for part in slot.parts))
        least = max(part.tokens for part in widest.parts)
        if min(self.max_tokens, whole) > least:
            self._ceiling = self.max_tokens = max(least, min(self.max_tokens, whole) // 2)
            return slots
        widest.failure = error
        return [slot for slot in slots if slot is not widest]

    def _train(self, slots: Sequence[Slot]) -> None:
        start = time.perf_counter()
        stacks = self.pack.stacks
        losses = self._backpropagate(slots)
        step_rows(stacks, {slot.row: slot.next_step() for slot in slots})
        # As the solo trainer sums them: each batch's mean times its texts.
        counts = torch.zeros(len(losses))
        for slot in slots:
            counts[slot.row] = sum(part.rows for part in slot.parts)
        stacks.losses.add_(losses * counts.to(losses.device, non_blocking=True))
        self._count(slots, start)

    def _backpropagate(self, slots: Sequence[Slot]) -> torch.Tensor:
        """Add up each slot's gradient of its batch's mean loss; return the losses (all slots,)."""
        self._set_training(True)
        stacks = self.pack.stacks
        stacks.gradients.zero_()
        sums = torch.zeros_like(stacks.losses)
        for group in self._group(slots):
            batch, logits = self._pass(group)
            losses = _sum_losses(logits, batch)
            torch.autograd.backward(losses.sum())
            sums.index_add_(0, torch.tensor(batch.slots, device=sums.device), losses.detach())
        return sums

    @torch.inference_mode()
    def _score(self, slots: Sequence[Slot]) -> None:
        start = time.perf_counter()
        self._set_training(False)
        scored = []
        for group in self._group(slots):
            batch, logits = self._pass(group)
            losses, predicted = _sum_losses(logits, batch), logits.argmax(-1)
            for place, (slot, part) in enumerate(group):
                scored.append((slot, (part, predicted[place, : part.rows], losses[place])))
        for slot, entry in scored:
            slot.scored.append(entry)
        self._count(slots, start)

    def _count(self, slots: Sequence[Slot], start: float) -> None:
        share = (time.perf_counter() - start) / len(slots)
        for slot in slots:
            if slot.advance(share):
                slot.end_phase()

    def _set_training(self, on: bool) -> None:
        model = self.pack.base.model
        if model.training != on:
            model.train(on)

    def _group(self, slots: Sequence[Slot]) -> Iterator[list[Turn]]:
        rows = {slot.row: slot for slot in slots}
        parts = [(row, part) for row, slot in rows.items() for part in slot.parts]
        for group in group_parts(parts, self.max_tokens, self._pass_tokens):
            yield [(rows[row], part) for row, part in group]

    def _pass(self, group: Sequence[Turn]) -> tuple[PackBatch, torch.Tensor]:
        """Return the batch of ``group`` and its logits (slots, rows, classes)."""
        batch = stack_parts([(slot.row, part) for slot, part in group], self._pad_id)
        training = self.pack.base.model.training
        dropping = training and any(slot.spec.candidate.lora_dropout for slot, _ in group)
        dropout = [slot.dropout(part) for slot, part in group] if dropping else []
        return batch, self.pack.logits(batch, dropout)


def _sum_losses(logits: torch.Tensor, batch: PackBatch) -> torch.Tensor:
    """Return each slot's weighted sum of losses (slots,)."""
    flat = nn.functional.cross_entropy(
        logits.flatten(0, 1), batch.classes.flatten(), reduction="none"
    )
    return (flat.view_as(batch.weights) * batch.weights).sum(1)
