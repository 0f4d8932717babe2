"""Tokenized texts, and the batches in which they are trained on and scored."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch

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

    @cached_property
    def columns(self) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """The token ids of all texts in a row, and the lengths and classes (texts,)."""
        row = [token for ids in self.ids for token in ids]
        return torch.tensor(row), torch.tensor(self.lengths), torch.tensor(self.classes)


@dataclass(frozen=True)
class Batch:
    """Tensors of one pass: ids and mask (texts, tokens), classes (texts,)."""

    input_ids: torch.Tensor
    attention_mask: torch.Tensor
    classes: torch.Tensor


@dataclass(frozen=True)
class Texts:
    """Tokenized texts on a device: the ids of all in a row with one of padding at the end, where
    in the row each begins, lengths and classes (texts,)."""

    row: torch.Tensor
    starts: torch.Tensor
    lengths: torch.Tensor
    classes: torch.Tensor

    def select(self, indices: torch.Tensor, width: int) -> Batch:
        """Return the batch of the texts at ``indices`` (texts,), the longest of which has ``width``
        tokens."""
        columns = torch.arange(width, device=self.row.device)
        mask = columns < self.lengths[indices, None]
        places = torch.where(mask, self.starts[indices, None] + columns, len(self.row) - 1)
        return Batch(self.row[places], mask.long(), self.classes[indices])


def upload(encoded: Encoded, pad_id: int, device: torch.device) -> Texts:
    """Return ``encoded`` on ``device``; a GPU copies it while the CPU goes on."""
    row, lengths, classes = encoded.columns
    row = torch.nn.functional.pad(row, (0, 1), value=pad_id)
    starts = lengths.cumsum(0) - lengths
    return Texts(*(to_device(each, device) for each in (row, starts, lengths, classes)))


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
    indices: Sequence[int], lengths: Sequence[int], max_tokens: int
) -> Iterator[list[int]]:
    """Yield the parts of a batch, each of at most ``max_tokens`` with its padding; a longer text
    is a part of its own."""
    part: list[int] = []
    width = 0
    for index in indices:
        wider = max(width, lengths[index])
        if part and wider * (len(part) + 1) > max_tokens:
            yield part
            part, wider = [], lengths[index]
        part.append(index)
        width = wider
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
