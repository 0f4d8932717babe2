"""Tokenized texts and the batches they are trained and scored in."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch

from sweep.models.vocabulary import check_ids
from sweep.seeds import derive_seed

WINDOW = 16
"""Batches whose texts are sorted by length together: enough to drop most padding, few enough
that the order stays random."""


@dataclass(frozen=True)
class Encoded:
    """Token ids and class of each text, and how many texts were cut."""

    ids: list[list[int]]
    classes: list[int]
    truncated: int

    @property
    def tokens(self) -> int:
        """Number of real tokens."""
        return sum(self.lengths)

    @cached_property
    def lengths(self) -> list[int]:
        """Tokens of each text."""
        return [len(ids) for ids in self.ids]


@dataclass(frozen=True)
class Batch:
    """Tensors of one step: ids and mask (texts, tokens), classes (texts,)."""

    input_ids: torch.Tensor
    attention_mask: torch.Tensor
    classes: torch.Tensor


class Encoder:
    """Tokenizes each text once and remembers it."""

    def __init__(self, tokenizer: Any, max_length: int, rows: int | None = None) -> None:
        """Take what ``tokenizer`` makes of a text; ``rows``, if known, is how many tokens the model
        has embeddings for."""
        self._tokenizer = tokenizer
        self._max_length = max_length
        self._rows = rows
        self._known: dict[str, tuple[list[int], bool]] = {}

    def encode(self, texts: Sequence[str], classes: Sequence[int]) -> Encoded:
        """Return the token ids of ``texts``, at most ``max_length`` each.

        Raises ModelError if one of them is past the model's table of embeddings.
        """
        self._learn([text for text in dict.fromkeys(texts) if text not in self._known])
        known = [self._known[text] for text in texts]
        return Encoded([ids for ids, _ in known], list(classes), sum(cut for _, cut in known))

    def _learn(self, texts: list[str]) -> None:
        if not texts:
            return
        whole = self._tokenizer(texts, add_special_tokens=True)["input_ids"]
        for text, ids in zip(texts, whole, strict=True):
            cut = len(ids) > self._max_length
            if cut:
                # Asked again, so that closing special tokens survive the cut.
                ids = self._tokenizer(text, truncation=True, max_length=self._max_length)[
                    "input_ids"
                ]
            if self._rows is not None:
                check_ids(self._tokenizer, ids, self._rows)
            # Some tokenizers give nothing for an empty text, and a model needs one token.
            self._known[text] = (ids or [self._choose_filler()], cut)

    def _choose_filler(self) -> int:
        end: int | None = self._tokenizer.eos_token_id
        known = end is not None and (self._rows is None or end < self._rows)
        return int(end if known else self._tokenizer.pad_token_id)  # type: ignore[arg-type]


def order_training(
    lengths: Sequence[int], batch_size: int, seed: int, epoch: int
) -> list[list[int]]:
    """Return the epoch's batches as lists of indices, in an order that depends on seed and epoch.

    Texts are shuffled, sorted by length inside windows of 16 batches, cut into batches, and the
    batches are shuffled.
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
    """Return batches of indices, longest texts first, so that memory is known from the start."""
    order = sorted(range(len(lengths)), key=lambda index: -lengths[index])
    return [order[i : i + batch_size] for i in range(0, len(order), batch_size)]


def split_batch(
    indices: Sequence[int], lengths: Sequence[int], max_tokens: int
) -> Iterator[list[int]]:
    """Yield the parts of a batch, each of at most ``max_tokens`` with its padding (a text that is
    longer stands alone)."""
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
    """Return the tensors of the texts at ``indices``, padded to the longest."""
    rows = [encoded.ids[index] for index in indices]
    width = max(map(len, rows))
    ids = torch.tensor([row + [pad_id] * (width - len(row)) for row in rows])
    lengths = torch.tensor([len(row) for row in rows])
    mask = (torch.arange(width) < lengths[:, None]).long()
    classes = torch.tensor([encoded.classes[index] for index in indices])
    return Batch(ids.to(device), mask.to(device), classes.to(device))
