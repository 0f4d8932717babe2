"""Micro-batches: what a trial brings to a pack at once, and how they go together."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch.nn.utils.rnn import pad_sequence

from sweep.training.batches import Encoded, split_batch

PASS_TOKENS = {"cpu": 500, "cuda": 8192}
"""Tokens whose computing takes as long as the fixed cost of one pass, at most: less padding than
this is cheaper than another pass."""
PASS_WORK = {"cpu": 7e7}
"""Parameters of a layer times tokens that take as long as the fixed cost of a pass through it, on
one core: of tiny models (100,000 to 170,000 a layer) packs of 2 to 8 were fastest with 400 to 600
tokens of padding, 5 to 50 % faster than with 128."""
MOST_TOKENS = {"cpu": 2048}
"""On a CPU, more tokens at once leave its caches: 8 slots of a tiny Llama on one core took 62,600
tokens a second within 2,048, and 49,000 without this bound (one at a time: 50,400)."""


@dataclass(frozen=True)
class TextTensors:
    """Tokenized texts on the device: ids (texts, longest), lengths and classes (texts,)."""

    ids: torch.Tensor
    lengths: torch.Tensor
    classes: torch.Tensor


@dataclass(frozen=True, eq=False)
class MicroBatch:
    """Some texts of one trial: ids (rows, longest), lengths, classes and weights (rows,); a text
    counts ``weights`` times in the loss."""

    ids: torch.Tensor
    lengths: torch.Tensor
    classes: torch.Tensor
    weights: torch.Tensor
    indices: list[int]
    width: int

    @property
    def rows(self) -> int:
        """Number of texts."""
        return len(self.indices)

    @property
    def tokens(self) -> int:
        """Number of tokens, padding included."""
        return self.rows * self.width


@dataclass(frozen=True)
class PackBatch:
    """Texts of several slots, as many rows for each: ids and mask (slots x rows, tokens),
    classes and weights (slots, rows)."""

    slots: tuple[int, ...]
    input_ids: torch.Tensor
    attention_mask: torch.Tensor
    classes: torch.Tensor
    weights: torch.Tensor


def choose_pass_tokens(device_type: str, layer_parameters: float) -> int:
    """Return how much padding, in tokens, is cheaper than another pass through a model of so many
    parameters a layer."""
    work = PASS_WORK.get(device_type, math.inf)
    return int(min(PASS_TOKENS[device_type], work / max(1.0, layer_parameters)))


Part = tuple[int, MicroBatch]
"""A row of the stacks, and what it brings."""


def upload(encoded: Encoded, pad_id: int, device: torch.device) -> TextTensors:
    """Return the texts as tensors on ``device``."""
    width = max(encoded.lengths)
    ids = torch.tensor([row + [pad_id] * (width - len(row)) for row in encoded.ids])
    return TextTensors(
        ids.to(device),
        torch.tensor(encoded.lengths).to(device),
        torch.tensor(encoded.classes).to(device),
    )


def cut_batches(
    texts: TextTensors,
    lengths: Sequence[int],
    batches: Sequence[Sequence[int]],
    max_tokens: int,
    mean: bool,
) -> list[list[MicroBatch]]:
    """Return each of ``batches`` (indices of texts) in parts of at most ``max_tokens``; a text
    weighs 1 or, for the ``mean`` loss, one over the size of its batch."""
    parts = [list(split_batch(indices, lengths, max_tokens)) for indices in batches]
    flat = [part for batch in parts for part in batch]
    sizes = [len(part) for part in flat]
    order = torch.tensor([index for part in flat for index in part], device=texts.ids.device)
    weights = torch.tensor(
        [1 / len(batch) if mean else 1.0 for batch in batches for _ in batch],
        device=texts.ids.device,
    )
    fields = [texts.ids[order], texts.lengths[order], texts.classes[order], weights]
    pieces = zip(*(torch.split_with_sizes(field, sizes) for field in fields), flat, strict=True)
    made = iter(
        [
            MicroBatch(ids, tokens, classes, weight, part, max(lengths[i] for i in part))
            for ids, tokens, classes, weight, part in pieces
        ]
    )
    return [[next(made) for _ in batch] for batch in parts]


def group_parts(parts: Sequence[Part], max_tokens: int, pass_tokens: int) -> Iterator[list[Part]]:
    """Yield ``parts`` in groups that pass through the model together, in the stacks' order.

    Widest first; a group is full at ``max_tokens``, its padding included, or when another part
    would bring its padding above ``pass_tokens``. A part that is larger stands alone.
    """
    group: list[Part] = []
    padding = 0
    for part in sorted(parts, key=lambda part: -part[1].width):
        if group:
            width, rows = group[0][1].width, max(batch.rows for _, batch in [*group, part])
            padding += (width - part[1].width) * part[1].rows
            if width * rows * (len(group) + 1) > max_tokens or padding > pass_tokens:
                yield sorted(group, key=lambda part: part[0])
                group, padding = [], 0
        group.append(part)
    if group:
        yield sorted(group, key=lambda part: part[0])


def stack_parts(parts: Sequence[Part], pad_id: int) -> PackBatch:
    """Return the batch of ``parts``; rows that a slot has too few weigh nothing."""
    width = max(batch.width for _, batch in parts)
    longest = max(batch.ids.shape[1] for _, batch in parts)
    ids = _stack([_widen(batch.ids, longest, pad_id) for _, batch in parts], pad_id)[..., :width]
    # A row without any token would have no attention to normalize.
    lengths = _stack([batch.lengths for _, batch in parts], 1).view(-1, 1)
    return PackBatch(
        tuple(slot for slot, _ in parts),
        ids.flatten(0, 1),
        (torch.arange(width, device=ids.device) < lengths).long(),
        _stack([batch.classes for _, batch in parts], 0),
        _stack([batch.weights for _, batch in parts], 0.0),
    )


def _stack(fields: list[torch.Tensor], fill: float) -> torch.Tensor:
    if len({len(field) for field in fields}) == 1:
        return torch.stack(fields)
    return pad_sequence(fields, batch_first=True, padding_value=fill)


def _widen(ids: torch.Tensor, width: int, pad_id: int) -> torch.Tensor:
    return torch.nn.functional.pad(ids, (0, width - ids.shape[1]), value=pad_id)
