"""Micro-batches: the texts that a trial brings to a pass, and how those of several share one."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch

from sweep.models.flat.texts import FlatTexts
from sweep.models.transfer import to_device
from sweep.training.batches import Texts, split_batch

# Padding tokens that cost as much as another pass does in fixed costs, at most: less padding than
# this is cheaper than another pass.
PASS_TOKENS = {"cpu": 500, "cuda": 8192}
# The same as parameters per layer x tokens, on one core. Packs of 2 to 8 tiny models (100,000 to
# 170,000 parameters a layer) were fastest with 400 to 600 tokens of padding: 5 to 50 % faster than
# with 128.
PASS_WORK = {"cpu": 7e7}
# On a CPU, more tokens at once do not fit into its caches: 8 slots of a tiny Llama on one core took
# 62,600 tokens a second within 2,048, and 49,000 without this bound (one at a time: 50,400).
MOST_TOKENS = {"cpu": 2048}


@dataclass(frozen=True, eq=False)
class MicroBatch:
    """Some texts of one trial, at ``indices`` of its own, with their classes and weights (texts,);
    the loss of a text is multiplied by its weight."""

    texts: FlatTexts
    classes: torch.Tensor
    weights: torch.Tensor
    indices: list[int]

    @property
    def rows(self) -> int:
        return len(self.indices)


@dataclass(frozen=True)
class PackBatch:
    """Texts of several slots, those of each together: ``counts`` says how many each has. Classes,
    weights and slots are (texts,)."""

    texts: FlatTexts
    counts: list[int]
    tokens: list[int]
    classes: torch.Tensor
    weights: torch.Tensor
    slots: torch.Tensor


def choose_pass_tokens(device_type: str, layer_parameters: float) -> int:
    """Return how many tokens of padding cost less than another pass through the model."""
    work = PASS_WORK.get(device_type, math.inf)
    return int(min(PASS_TOKENS[device_type], work / max(1.0, layer_parameters)))


# A slot, and the micro-batch that its trial brings.
Part = tuple[int, MicroBatch]


def cut_batches(
    texts: Texts, batches: Sequence[Sequence[int]], max_tokens: int, mean: bool, flat: bool
) -> list[list[MicroBatch]]:
    """Cut each of ``batches`` (indices of texts) into parts of at most ``max_tokens``, with padding
    unless passes are ``flat``. The weight of a text is 1 or, for the ``mean`` loss, one over the
    size of its batch."""
    lengths = texts.lengths.tolist()
    parts = [list(split_batch(indices, lengths, max_tokens, flat)) for indices in batches]
    chosen = [part for batch in parts for part in batch]
    row, classes = texts.select([index for part in chosen for index in part])
    each = torch.tensor([1 / len(batch) if mean else 1.0 for batch in batches for _ in batch])
    weights = to_device(each, classes.device)
    counts = [len(part) for part in chosen]
    fields = (torch.split_with_sizes(field, counts) for field in (classes, weights))
    made = map(MicroBatch, row.split(counts), *fields, chosen)
    return [[next(made) for _ in batch] for batch in parts]


def group_flat_parts(parts: Sequence[Part], max_tokens: int) -> Iterator[list[Part]]:
    """Yield ``parts``, in slot order, in groups of about as many tokens, at most ``max_tokens``,
    that pass through the model together. A part that is larger is a group of its own."""
    total = sum(batch.texts.tokens for _, batch in parts)
    limit = min(max_tokens, math.ceil(total / math.ceil(total / max_tokens)))
    group: list[Part] = []
    tokens = 0
    for part in parts:
        # The last group may be smaller, so one part more than its share goes into each.
        if group and (tokens + part[1].texts.tokens > max_tokens or tokens >= limit):
            yield group
            group, tokens = [], 0
        group.append(part)
        tokens += part[1].texts.tokens
    if group:
        yield group


def group_parts(parts: Sequence[Part], max_tokens: int, pass_tokens: int) -> Iterator[list[Part]]:
    """Yield ``parts`` in groups that pass through the model together, each in slot order, where
    texts are padded to the width of the longest.

    Groups are filled widest part first, up to ``max_tokens`` with padding or ``pass_tokens`` of
    padding. A part that is larger is a group of its own.
    """
    group: list[Part] = []
    padding = rows = 0
    for part in sorted(parts, key=lambda part: -part[1].texts.longest):
        if group:
            width = group[0][1].texts.longest
            padding += (width - part[1].texts.longest) * part[1].rows
            if width * (rows + part[1].rows) > max_tokens or padding > pass_tokens:
                yield sorted(group, key=lambda part: part[0])
                group, padding, rows = [], 0, 0
        group.append(part)
        rows += part[1].rows
    if group:
        yield sorted(group, key=lambda part: part[0])


def stack_parts(parts: Sequence[Part]) -> PackBatch:
    """Put the texts of ``parts`` into one batch."""
    batches = [batch for _, batch in parts]
    counts = [batch.rows for batch in batches]
    slots = torch.from_numpy(np.repeat([slot for slot, _ in parts], counts))
    texts = FlatTexts.join([batch.texts for batch in batches])
    return PackBatch(
        texts,
        counts,
        [batch.texts.tokens for batch in batches],
        torch.cat([batch.classes for batch in batches]),
        torch.cat([batch.weights for batch in batches]),
        to_device(slots, texts.ids.device),
    )
