"""Micro-batches: the texts that a trial brings to a pass, and how those of several share one."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch.nn.utils.rnn import pad_sequence

from sweep.models.transfer import to_device
from sweep.training.batches import Encoded, split_batch

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


@dataclass(frozen=True)
class TextTensors:
    """Tokenized texts on the device: ids (texts, longest), lengths and classes (texts,)."""

    ids: torch.Tensor
    lengths: torch.Tensor
    classes: torch.Tensor


@dataclass(frozen=True, eq=False)
class MicroBatch:
    """Some texts of one trial: ids (rows, longest), lengths, classes and weights (rows,); the
    loss of a text is multiplied by its weight."""

    ids: torch.Tensor
    lengths: torch.Tensor
    classes: torch.Tensor
    weights: torch.Tensor
    indices: list[int]
    width: int

    @property
    def rows(self) -> int:
        return len(self.indices)

    @property
    def tokens(self) -> int:
        """Number of tokens, padding included."""
        return self.rows * self.width


@dataclass(frozen=True)
class PackBatch:
    """Texts of several slots, with equally many rows for each: ids and mask (slots x rows, tokens),
    classes and weights (slots, rows)."""

    input_ids: torch.Tensor
    attention_mask: torch.Tensor
    classes: torch.Tensor
    weights: torch.Tensor


def choose_pass_tokens(device_type: str, layer_parameters: float) -> int:
    """Return how many tokens of padding cost less than another pass through the model."""
    work = PASS_WORK.get(device_type, math.inf)
    return int(min(PASS_TOKENS[device_type], work / max(1.0, layer_parameters)))


# A slot, and the micro-batch that its trial brings.
Part = tuple[int, MicroBatch]


def upload(encoded: Encoded, pad_id: int, device: torch.device) -> TextTensors:
    width = max(encoded.lengths)
    ids = torch.tensor([row + [pad_id] * (width - len(row)) for row in encoded.ids])
    fields = (ids, torch.tensor(encoded.lengths), torch.tensor(encoded.classes))
    return TextTensors(*(to_device(field, device) for field in fields))


def cut_batches(
    texts: TextTensors,
    lengths: Sequence[int],
    batches: Sequence[Sequence[int]],
    max_tokens: int,
    mean: bool,
) -> list[list[MicroBatch]]:
    """Cut each of ``batches`` (indices of texts) into parts of at most ``max_tokens``. The weight
    of a text is 1 or, for the ``mean`` loss, one over the size of its batch."""
    parts = [list(split_batch(indices, lengths, max_tokens)) for indices in batches]
    flat = [part for batch in parts for part in batch]
    sizes = [len(part) for part in flat]
    device = texts.ids.device
    order = to_device(torch.tensor([index for part in flat for index in part]), device)
    weights = to_device(
        torch.tensor([1 / len(batch) if mean else 1.0 for batch in batches for _ in batch]), device
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
    """Yield ``parts`` in groups that pass through the model together, each in slot order.

    Groups are filled widest part first, up to ``max_tokens`` with padding or ``pass_tokens`` of
    padding. A part that is larger is a group of its own.
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
    """Stack ``parts`` into one batch; rows added to a slot that has too few have weight 0."""
    width = max(batch.width for _, batch in parts)
    longest = max(batch.ids.shape[1] for _, batch in parts)
    ids = _stack([_widen(batch.ids, longest, pad_id) for _, batch in parts], pad_id)[..., :width]
    # Attention over a row without any token would be NaN.
    lengths = _stack([batch.lengths for _, batch in parts], 1).view(-1, 1)
    return PackBatch(
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
