"""Steps of all trials in a pack, together; trials join and leave between steps."""

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from operator import itemgetter
from typing import Any

import torch
from torch import nn

from sweep.models.base import Base
from sweep.models.device import is_gpu_lost, is_out_of_memory
from sweep.models.methods import needs_checkpointing, set_checkpointing
from sweep.models.transfer import to_device
from sweep.plan import Capacity
from sweep.storage.events import EpochResult
from sweep.training.packed.microbatches import (
    MOST_TOKENS,
    MicroBatch,
    PackBatch,
    choose_pass_tokens,
    group_flat_parts,
    group_parts,
    stack_parts,
)
from sweep.training.packed.pack import Pack
from sweep.training.packed.stacks import Step
from sweep.training.packed.trial import PackedTrial, Phase

SCORING = (Phase.VALIDATING, Phase.TESTING)
Turn = tuple[PackedTrial, MicroBatch]


def build_pack(base: Base, capacity: Capacity) -> Pack:
    """Return a pack on ``base`` with the room of ``capacity`` or, where memory does not suffice for
    that, with half as many slots, and so on down to one."""
    while True:
        try:
            return Pack(base, capacity)
        except Exception as error:
            if not is_out_of_memory(error) or capacity.slots == 1:
                raise
        capacity = replace(capacity, slots=capacity.slots // 2)


class PackTrainer:
    """Trains the trials of one pack, by the algorithm in the package's docstring."""

    def __init__(self, base: Base, capacity: Capacity) -> None:
        self.pack = build_pack(base, capacity)
        self.trials: dict[str, PackedTrial] = {}
        # Most tokens, padding included, that pass through the model at once.
        self.max_tokens = 0
        self._usual_ceiling = self._ceiling = MOST_TOKENS.get(base.device.type, 10**9)
        layers = base.model.config.get_text_config().num_hidden_layers
        weights = base.model.num_parameters(exclude_embeddings=True)
        self._pass_tokens = choose_pass_tokens(base.device.type, weights / layers)

    def join(self, trial: PackedTrial) -> None:
        """Add a trial, which has a slot already, to the pack; it waits for its first epoch."""
        trials = {**self.trials, trial.spec.trial_id: trial}
        self._bound_memory(trials)
        self.trials = trials
        self.pack.peaks.join(trial.spec.trial_id)

    def leave(self, trial_id: str) -> PackedTrial | None:
        """Remove a trial, in the middle of an epoch too, and return it; its slot stays its own
        until it is given back."""
        trial = self.trials.pop(trial_id, None)
        self.pack.peaks.leave(trial_id)
        if trial is not None:
            # With fewer trials there may be room for larger passes again.
            self._ceiling = self._usual_ceiling
            self._bound_memory(self.trials)
        return trial

    def _bound_memory(self, trials: dict[str, PackedTrial]) -> None:
        """Pass as many tokens at once as all of ``trials`` allow; checkpoint gradients where
        needed."""
        base, each = self.pack.base, trials.values()
        max_tokens = min([trial.max_tokens for trial in each] + [self._ceiling])
        tokens = min(max_tokens, sum(trial.widest for trial in each))
        rank = max((trial.place.rank for trial in each), default=1)
        wanted = [trial.spec.recipe.gradient_checkpointing for trial in each]
        with self.pack.exclusive:
            set_checkpointing(base, any(needs_checkpointing(base, w, rank, tokens) for w in wanted))
        self.max_tokens = max_tokens

    @property
    def busy(self) -> bool:
        """Whether any trial is in an epoch."""
        return any(trial.phase is not Phase.WAITING for trial in self.trials.values())

    def advance(self) -> list[tuple[PackedTrial, EpochResult | Exception]]:
        """Take the next step of every busy trial, or score its next texts. Return the trials whose
        epoch is over with its metrics (those of ``SoloTrial.run_epoch``), or why it failed.

        Waits for the device only if there is nothing else to do.
        """
        trials = list(self.trials.values())
        acting = [trial for trial in trials if trial.has_batches]
        training = [trial for trial in acting if trial.phase is Phase.TRAINING]
        scoring = [trial for trial in acting if trial.phase in SCORING]
        with self.pack.exclusive:
            if training:
                self._bounded(self._train, training)
            if scoring:
                self._bounded(self._score, scoring)
            for trial in acting:
                if trial.failure is None and not trial.has_batches:
                    _try_alone(trial, trial.end_phase)
            for trial in trials:
                readback = trial.scoring_readback
                if readback is not None and (readback.ready or not acting):
                    _try_alone(trial, trial.settle)
        return [(trial, trial.wait()) for trial in trials if trial.is_over]

    def _bounded(
        self, run: Callable[[Sequence[PackedTrial]], None], trials: Sequence[PackedTrial]
    ) -> None:
        """Run with fewer tokens at once while memory is short; a trial that does not fit even
        alone fails, and the others go on as if it had never been there."""
        before = {trial.spec.trial_id: trial.taken for trial in trials}
        while trials:
            failure = _catch_out_of_memory(run, trials)
            if failure is None:
                return
            # Here nothing refers to the failed pass any more, so its memory is free.
            left = [trial for trial in trials if trial.taken == before[trial.spec.trial_id]]
            trials = self._shrink(left, failure) if left else []

    def _shrink(self, trials: Sequence[PackedTrial], error: Exception) -> Sequence[PackedTrial]:
        """Pass fewer tokens at once from now on or, where that is impossible, give up the widest
        trial; return the trials that are left."""
        sizes = {trial.spec.trial_id: trial.count_tokens() for trial in trials}
        total = sum(map(sum, sizes.values()))
        widest = max(trials, key=lambda trial: max(sizes[trial.spec.trial_id]))
        least = max(sizes[widest.spec.trial_id])
        if min(self.max_tokens, total) > least:
            self._ceiling = self.max_tokens = max(least, min(self.max_tokens, total) // 2)
            return trials
        widest.failure = error
        return [trial for trial in trials if trial is not widest]

    def _train(self, trials: Sequence[PackedTrial]) -> None:
        start = time.perf_counter()
        stacks = self.pack.stacks
        losses = self._backpropagate(trials)
        by_place = {trial.place: trial for trial in trials}
        step = Step(stacks, {place: trial.next_step() for place, trial in by_place.items()})
        share = (time.perf_counter() - start) / len(trials)
        # As the solo engine sums them: the mean of each batch, times its texts.
        counts = torch.zeros(stacks.slots)
        try:
            for place in step.take_all():
                trial = by_place[place]
                counts[trial.slot] = sum(part.rows for part in trial.parts)
                trial.advance(share)
        finally:
            # Where memory ran out, those that have taken the step do not take it again.
            stacks.losses.addcmul_(losses, to_device(counts, losses.device))

    def _backpropagate(self, trials: Sequence[PackedTrial]) -> torch.Tensor:
        """Compute the gradient of each trial's mean loss; return the losses (all slots,)."""
        self._set_training(True)
        stacks = self.pack.stacks
        stacks.zero_gradients([trial.place for trial in trials])
        sums = torch.zeros_like(stacks.losses)
        for group in self._group(trials):
            batch, logits = self._pass(group)
            losses, scales = _weigh_losses(logits, batch), stacks.loss_scales
            scaled = losses if scales is None else losses * scales.scales[batch.slots]
            torch.autograd.backward(scaled.sum())
            sums.index_add_(0, batch.slots, losses.detach())
        return sums

    @torch.inference_mode()
    def _score(self, trials: Sequence[PackedTrial]) -> None:
        start = time.perf_counter()
        self._set_training(False)
        scored = []
        for group in self._group(trials):
            batch, logits = self._pass(group)
            losses, predicted = _weigh_losses(logits, batch), logits.argmax(-1)
            pieces = (torch.split_with_sizes(x, batch.counts) for x in (losses, predicted))
            for (trial, part), lost, classes in zip(group, *pieces, strict=True):
                scored.append((trial, (part, classes, lost.sum())))
        share = (time.perf_counter() - start) / len(trials)
        for trial, entry in scored:
            trial.scored.append(entry)
            trial.advance(share)

    def _set_training(self, on: bool) -> None:
        model = self.pack.base.model
        if model.training != on:
            model.train(on)

    def _group(self, trials: Sequence[PackedTrial]) -> Iterator[list[Turn]]:
        by_slot = {trial.slot: trial for trial in trials}
        parts = [(slot, part) for slot, trial in by_slot.items() for part in trial.parts]
        if self.pack.base.forward.flat:
            groups = group_flat_parts(sorted(parts, key=itemgetter(0)), self.max_tokens)
        else:
            groups = group_parts(parts, self.max_tokens, self._pass_tokens)
        for group in groups:
            yield [(by_slot[slot], part) for slot, part in group]

    def _pass(self, group: Sequence[Turn]) -> tuple[PackBatch, torch.Tensor]:
        """Return the batch of ``group`` and its logits (texts, classes)."""
        batch = stack_parts([(trial.slot, part) for trial, part in group])
        training = self.pack.base.model.training
        dropping = training and any(trial.spec.candidate.lora_dropout for trial, _ in group)
        dropout = [trial.dropout(part) for trial, part in group] if dropping else []
        return batch, self.pack.logits(batch, [trial.place for trial, _ in group], dropout)


def _try_alone(trial: PackedTrial, run: Callable[[], None]) -> None:
    """Run what concerns ``trial`` alone, and fails alone."""
    try:
        trial.failure = _catch_out_of_memory(run)
    except Exception as error:
        if is_gpu_lost(error):
            raise
        trial.failure = error


def _catch_out_of_memory(run: Callable[..., None], *arguments: Any) -> Exception | None:
    """Run, and return the error if memory runs out, without what would keep the memory in use: an
    error refers to the frames that it went through, and these to all that they had computed."""
    try:
        run(*arguments)
    except Exception as error:
        if not is_out_of_memory(error):
            raise
        error.__context__ = error.__cause__ = None
        return error.with_traceback(None)
    return None


def _weigh_losses(logits: torch.Tensor, batch: PackBatch) -> torch.Tensor:
    """Return the loss of each text, times its weight (texts,)."""
    losses = nn.functional.cross_entropy(logits, batch.classes, reduction="none")
    return losses * batch.weights
