"""Tokenized texts, and the batches in which they are trained on and scored."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import torch

from sweep.models.flat.texts import FlatTexts, Numbers, find_last
from sweep.models.transfer import to_device
from sweep.models.vocabulary import check_ids
from sweep.seeds import derive_seed

# Batches whose texts are sorted by length together: enough to avoid most padding, few enough to
# keep the order random.
WINDOW = 16


@dataclass(frozen=True, eq=False)
class Encoded:
    """Token ids and class of each text, and how many texts were truncated."""

    ids: list[list[int]]
    classes: list[int]
    truncated: int

    @property
    def tokens(self) -> int:
        """Number of tokens, without padding."""
        return sum(self.lengths)

    @cached_property
    def lengths(self) -> list[int]:
        return [len(ids) for ids in self.ids]


@dataclass(frozen=True)
class Batch:
    """Tensors of one pass: ids and mask (texts, tokens), classes (texts,)."""

    input_ids: torch.Tensor
    attention_mask: torch.Tensor
    classes: torch.Tensor


@dataclass(frozen=True, eq=False)
class Texts:
    """Tokenized texts on a device: the ids of all in a row, and classes (texts,). Where in the row
    each text begins, how many tokens it has, and which of these is the last that is not padding, is
    known on this side."""

    row: torch.Tensor
    classes: torch.Tensor
    starts: Numbers
    lengths: Numbers
    lasts: Numbers
    pad_id: int

    def select(self, indices: Sequence[int]) -> tuple[FlatTexts, torch.Tensor]:
        """Return the texts at ``indices`` and their classes (texts,). A GPU gathers them while the
        CPU goes on."""
        chosen = np.asarray(indices)
        lengths = self.lengths[chosen]
        ends = lengths.cumsum()
        places = np.repeat(self.starts[chosen] - (ends - lengths), lengths) + np.arange(ends[-1])
        host = torch.from_numpy(np.concatenate([places, chosen]))
        sizes = [len(places), len(chosen)]
        at, of = torch.split_with_sizes(to_device(host, self.row.device), sizes)
        lasts = self.lasts[chosen].tolist()
        return FlatTexts(self.row[at], lengths.tolist(), lasts, self.pad_id), self.classes[of]


def upload(encoded: Encoded, pad_id: int, device: torch.device) -> Texts:
    """Return ``encoded`` on ``device``; a GPU copies it while the CPU goes on."""
    row = to_device(torch.tensor([token for ids in encoded.ids for token in ids]), device)
    classes = to_device(torch.tensor(encoded.classes), device)
    lengths = np.asarray(encoded.lengths)
    lasts = np.asarray([find_last(ids, pad_id) for ids in encoded.ids])
    return Texts(row, classes, lengths.cumsum() - lengths, lengths, lasts, pad_id)


class Encoder:
    """Tokenizes each text once and remembers it."""

    def __init__(self, tokenizer: Any, max_length: int, rows: int | None = None) -> None:
        """``rows``, if known, is how many tokens the model has embeddings for."""
        self._tokenizer = tokenizer
        self._max_length = max_length
        self._rows = rows
        self._known: dict[str, tuple[list[int], bool]] = {}

    def encode(self, texts: Sequence[str], classes: Sequence[int]) -> Encoded:
        """Return the token ids of ``texts``, at most ``max_length`` each.

        Raises ModelError if a token has no row in the model's table of embeddings.
        """
        self._learn([text for text in dict.fromkeys(texts) if text not in self._known])
        known = [self._known[text] for text in texts]
        return Encoded([ids for ids, _ in known], list(classes), sum(cut for _, cut in known))

    def _learn(self, texts: list[str]) -> None:
        if not texts:
            return
        full = self._tokenizer(texts, add_special_tokens=True)["input_ids"]
        for text, ids in zip(texts, full, strict=True):
            cut = len(ids) > self._max_length
            if cut:
                # The tokenizer truncates, so that closing special tokens survive.
                ids = self._tokenizer(text, truncation=True, max_length=self._max_length)[
                    "input_ids"
                ]
            if self._rows is not None:
                check_ids(self._tokenizer, ids, self._rows)
            # Some tokenizers return nothing for an empty text, but a model needs a token.
            self._known[text] = (ids or [self._choose_filler()], cut)

    def _choose_filler(self) -> int:
        end: int | None = self._tokenizer.eos_token_id
        known = end is not None and (self._rows is None or end < self._rows)
        return int(end if known else self._tokenizer.pad_token_id)  # type: ignore[arg-type]


def order_training(
    lengths: Sequence[int], batch_size: int, seed: int, epoch: int
) -> list[list[int]]:
    """Return the epoch's batches as lists of indices; the order depends on seed and epoch.

    Texts are shuffled, sorted by length within windows of 16 batches, and split into batches,
    which are shuffled in turn.
    """
    generator = torch.Generator().manual_seed(derive_seed(seed, "order", epoch))
    order = torch.randperm(len(lengths), generator=generator).tolist()
    size = batch_size * WINDOW
    batches = []
    for start in range(0, len(order), size):
        window = sorted(order[start : start + size], key=lambda index: lengths[index])
        batches += [window[i : i + batch_size] for i in range(0, len(window), batch_size)]
    shuffle = torch.randperm(len(batches), generator=generator).tolist()
    return [batches[index] for index in shuffle]


def order_scoring(lengths: Sequence[int], batch_size: int) -> list[list[int]]:
    """Return batches of indices, longest texts first, so the first batch needs the most memory."""
    order = sorted(range(len(lengths)), key=lambda index: -lengths[index])
    return [order[i : i + batch_size] for i in range(0, len(order), batch_size)]


def split_batch(
    indices: Sequence[int], lengths: Sequence[int], max_tokens: int, flat: bool = False
) -> Iterator[list[int]]:
    """Yield the parts of a batch, each of at most ``max_tokens``, with padding unless it is
    ``flat``; a longer text is a part of its own."""
    part: list[int] = []
    width = tokens = 0
    for index in indices:
        width, tokens = max(width, lengths[index]), tokens + lengths[index]
        if part and (tokens if flat else width * (len(part) + 1)) > max_tokens:
            yield part
            part, width, tokens = [], lengths[index], lengths[index]
        part.append(index)
    if part:
        yield part


def build_batch(
    encoded: Encoded, indices: Sequence[int], pad_id: int, device: torch.device
) -> Batch:
    rows = [encoded.ids[index] for index in indices]
    width = max(map(len, rows))
    ids = torch.tensor([row + [pad_id] * (width - len(row)) for row in rows])
    lengths = torch.tensor([len(row) for row in rows])
    mask = (torch.arange(width) < lengths[:, None]).long()
    classes = torch.tensor([encoded.classes[index] for index in indices])
    return Batch(ids.to(device), mask.to(device), classes.to(device))
