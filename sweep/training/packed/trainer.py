"""Steps of all trials in a pack, together; trials join and leave between steps."""

import time
import warnings
from collections.abc import Callable, Iterator, Sequence

import torch
from torch import nn

from sweep.data import CellData
from sweep.models.base import Base
from sweep.models.device import is_out_of_memory
from sweep.models.methods import needs_checkpointing, set_checkpointing
from sweep.plan import TrialSpec
from sweep.storage.events import EpochResult
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
from sweep.training.packed.stacks import step_slots
from sweep.training.packed.trial import PackedTrial, Phase, build_packed_trial

# PyTorch warns that gradients that are views, as here, would be slow in DDP, which is not used.
warnings.filterwarnings("ignore", message="grad and param do not obey the gradient layout")

SCORING = (Phase.VALIDATING, Phase.TESTING)
Turn = tuple[PackedTrial, MicroBatch]


class PackTrainer:
    """Trains the trials of one pack, by the algorithm in the package's docstring."""

    def __init__(self, base: Base) -> None:
        self.pack = Pack(base)
        self.trials: dict[str, PackedTrial] = {}
        # Most tokens, padding included, that pass through the model at once.
        self.max_tokens = 0
        self._ceiling = MOST_TOKENS.get(base.device.type, 10**9)
        self._pad_id = base.tokenizer.pad_token_id
        layers = base.model.config.get_text_config().num_hidden_layers
        weights = base.model.num_parameters(exclude_embeddings=True)
        self._pass_tokens = choose_pass_tokens(base.device.type, weights / layers)

    def join(
        self, spec: TrialSpec, encoder: Encoder, data: CellData, half_batches: bool = False
    ) -> PackedTrial:
        """Add ``spec`` to the pack; return its trial, which waits for its first epoch."""
        trial = build_packed_trial(spec, self.pack, encoder, data, half_batches)
        self.trials[spec.trial_id] = trial
        self._bound_memory()
        return trial

    def leave(self, trial_id: str) -> None:
        """Remove a trial, in the middle of an epoch too."""
        if self.trials.pop(trial_id, None) is not None:
            self.pack.leave(trial_id)
            self._bound_memory()

    def _bound_memory(self) -> None:
        """Pass as many tokens at once as every trial allows; checkpoint gradients where needed."""
        base, trials = self.pack.base, self.trials.values()
        self.max_tokens = min([trial.max_tokens for trial in trials] + [self._ceiling])
        tokens = min(self.max_tokens, sum(trial.widest for trial in trials))
        rank = self.pack.stacks.shape.rank
        wanted = [trial.spec.recipe.gradient_checkpointing for trial in trials]
        set_checkpointing(base, any(needs_checkpointing(base, w, rank, tokens) for w in wanted))

    @property
    def busy(self) -> bool:
        """Whether any trial is in an epoch."""
        return any(trial.phase is not Phase.WAITING for trial in self.trials.values())

    def advance(self) -> list[tuple[PackedTrial, EpochResult | Exception]]:
        """Take the next step of every busy trial, or score its next texts. Return the trials whose
        epoch is over with its metrics (those of ``SoloTrial.run_epoch``), or why it failed."""
        trials = list(self.trials.values())
        training = [trial for trial in trials if trial.phase is Phase.TRAINING]
        scoring = [trial for trial in trials if trial.phase in SCORING]
        if training:
            self._bounded(self._train, training)
        if scoring:
            self._bounded(self._score, scoring)
        return [(trial, trial.wait()) for trial in trials if trial.is_over]

    def _bounded(
        self, run: Callable[[Sequence[PackedTrial]], None], trials: Sequence[PackedTrial]
    ) -> None:
        """Run with fewer tokens at once while memory is short; a trial that does not fit even
        alone fails, and the others go on as if it had never been there."""
        while trials:
            try:
                run(trials)
            except Exception as error:
                if not is_out_of_memory(error):
                    raise
                trials = self._shrink(trials, error)
            else:
                return

    def _shrink(self, trials: Sequence[PackedTrial], error: Exception) -> Sequence[PackedTrial]:
        """Pass fewer tokens at once from now on or, where that is impossible, give up the widest
        trial; return the trials that are left."""
        total = sum(part.tokens for trial in trials for part in trial.parts)
        widest = max(trials, key=lambda trial: max(part.tokens for part in trial.parts))
        least = max(part.tokens for part in widest.parts)
        if min(self.max_tokens, total) > least:
            self._ceiling = self.max_tokens = max(least, min(self.max_tokens, total) // 2)
            return trials
        widest.failure = error
        return [trial for trial in trials if trial is not widest]

    def _train(self, trials: Sequence[PackedTrial]) -> None:
        start = time.perf_counter()
        stacks = self.pack.stacks
        losses = self._backpropagate(trials)
        step_slots(stacks, {trial.slot: trial.next_step() for trial in trials})
        # As the solo engine sums them: the mean of each batch, times its texts.
        counts = torch.zeros(len(losses))
        for trial in trials:
            counts[trial.slot] = sum(part.rows for part in trial.parts)
        stacks.losses.add_(losses * counts.to(losses.device, non_blocking=True))
        self._count(trials, start)

    def _backpropagate(self, trials: Sequence[PackedTrial]) -> torch.Tensor:
        """Compute the gradient of each trial's mean loss; return the losses (all slots,)."""
        self._set_training(True)
        stacks = self.pack.stacks
        stacks.gradients.zero_()
        sums = torch.zeros_like(stacks.losses)
        for group in self._group(trials):
            batch, logits = self._pass(group)
            losses = _sum_losses(logits, batch)
            slots = torch.tensor(batch.slots, device=sums.device)
            scales = stacks.loss_scales
            scaled = losses if scales is None else losses * scales.scales[slots]
            torch.autograd.backward(scaled.sum())
            sums.index_add_(0, slots, losses.detach())
        return sums

    @torch.inference_mode()
    def _score(self, trials: Sequence[PackedTrial]) -> None:
        start = time.perf_counter()
        self._set_training(False)
        scored = []
        for group in self._group(trials):
            batch, logits = self._pass(group)
            losses, predicted = _sum_losses(logits, batch), logits.argmax(-1)
            for index, (trial, part) in enumerate(group):
                scored.append((trial, (part, predicted[index, : part.rows], losses[index])))
        for trial, entry in scored:
            trial.scored.append(entry)
        self._count(trials, start)

    def _count(self, trials: Sequence[PackedTrial], start: float) -> None:
        share = (time.perf_counter() - start) / len(trials)
        for trial in trials:
            if trial.advance(share):
                trial.end_phase()

    def _set_training(self, on: bool) -> None:
        model = self.pack.base.model
        if model.training != on:
            model.train(on)

    def _group(self, trials: Sequence[PackedTrial]) -> Iterator[list[Turn]]:
        by_slot = {trial.slot: trial for trial in trials}
        parts = [(slot, part) for slot, trial in by_slot.items() for part in trial.parts]
        for group in group_parts(parts, self.max_tokens, self._pass_tokens):
            yield [(by_slot[slot], part) for slot, part in group]

    def _pass(self, group: Sequence[Turn]) -> tuple[PackBatch, torch.Tensor]:
        """Return the batch of ``group`` and its logits (slots, rows, classes)."""
        batch = stack_parts([(trial.slot, part) for trial, part in group], self._pad_id)
        training = self.pack.base.model.training
        dropping = training and any(trial.spec.candidate.lora_dropout for trial, _ in group)
        dropout = [trial.dropout(part) for trial, part in group] if dropping else []
        return batch, self.pack.logits(batch, dropout)


def _sum_losses(logits: torch.Tensor, batch: PackBatch) -> torch.Tensor:
    """Return each slot's weighted sum of losses (slots,)."""
    flat = nn.functional.cross_entropy(
        logits.flatten(0, 1), batch.classes.flatten(), reduction="none"
    )
    return (flat.view_as(batch.weights) * batch.weights).sum(1)
