"""Micro-batches: the texts that a trial brings to a pass, and how those of several share one."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property

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
    """Some texts of one trial, at ``indices`` of its own: their ids in a row (tokens,), lengths and
    last tokens, classes and weights (texts,); the loss of a text is multiplied by its weight."""

    ids: torch.Tensor
    lengths: list[int]
    lasts: list[int]
    classes: torch.Tensor
    weights: torch.Tensor
    indices: list[int]

    @property
    def rows(self) -> int:
        return len(self.indices)

    @cached_property
    def tokens(self) -> int:
        """Number of tokens, without padding."""
        return sum(self.lengths)

    @cached_property
    def width(self) -> int:
        return max(self.lengths)


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
    texts_of, sizes = list(map(len, chosen)), [sum(lengths[i] for i in part) for part in chosen]
    lasts = texts.lasts.tolist()
    made = (
        MicroBatch(
            ids, [lengths[i] for i in part], [lasts[i] for i in part], known, weighed, part
        )
        for ids, known, weighed, part in zip(
            torch.split_with_sizes(row.ids, sizes),
            *(torch.split_with_sizes(each, texts_of) for each in (classes, weights)),
            chosen,
            strict=True,
        )
    )  # fmt: skip
    return [[next(made) for _ in batch] for batch in parts]


def group_flat_parts(parts: Sequence[Part], max_tokens: int) -> Iterator[list[Part]]:
    """Yield ``parts``, in slot order, in groups of about as many tokens, at most ``max_tokens``,
    that pass through the model together. A part that is larger is a group of its own."""
    total = sum(batch.tokens for _, batch in parts)
    limit = min(max_tokens, math.ceil(total / math.ceil(total / max_tokens)))
    group: list[Part] = []
    tokens = 0
    for part in parts:
        # The last group may be smaller, so one part more than its share goes into each.
        if group and (tokens + part[1].tokens > max_tokens or tokens >= limit):
            yield group
            group, tokens = [], 0
        group.append(part)
        tokens += part[1].tokens
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
    for part in sorted(parts, key=lambda part: -part[1].width):
        if group:
            width = group[0][1].width
            padding += (width - part[1].width) * part[1].rows
            if width * (rows + part[1].rows) > max_tokens or padding > pass_tokens:
                yield sorted(group, key=lambda part: part[0])
                group, padding, rows = [], 0, 0
        group.append(part)
        rows += part[1].rows
    if group:
        yield sorted(group, key=lambda part: part[0])


def stack_parts(parts: Sequence[Part], pad_id: int) -> PackBatch:
    """Put the texts of ``parts`` into one batch."""
    batches = [batch for _, batch in parts]
    counts = [batch.rows for batch in batches]
    device = batches[0].ids.device
    slots = np.repeat([slot for slot, _ in parts], counts)
    texts = FlatTexts(
        _join([batch.ids for batch in batches]),
        [length for batch in batches for length in batch.lengths],
        [last for batch in batches for last in batch.lasts],
        pad_id,
    )
    return PackBatch(
        texts,
        counts,
        [batch.tokens for batch in batches],
        _join([batch.classes for batch in batches]),
        _join([batch.weights for batch in batches]),
        to_device(torch.from_numpy(slots), device),
    )


def _join(fields: list[torch.Tensor]) -> torch.Tensor:
    return torch.cat(fields) if len(fields) > 1 else fields[0]
