"""Tokenized texts in a row, and where in it each is."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import accumulate, pairwise

import numpy as np
import numpy.typing as npt
import torch

from sweep.models.transfer import to_device

Numbers = npt.NDArray[np.int64]
# Padding that costs less than another call of a kernel: a bucket takes shorter texts up to this
# many tokens of it, and up to one in so many of its own.
BUCKET_TOKENS, BUCKET_SHARE = 64, 8


@dataclass(frozen=True)
class Bucket:
    """Texts of similar lengths in a rectangle (texts, width): from the ``first`` text and the token
    ``start`` on among those of all rectangles. ``lengths`` (texts,) is on the device."""

    first: int
    texts: int
    start: int
    width: int
    padded: bool
    lengths: torch.Tensor

    @property
    def stop(self) -> int:
        return self.start + self.texts * self.width


@dataclass(frozen=True)
class Layout:
    """Where tokens and texts are, on the device.

    ``positions`` (tokens,) are those in each token's text, and ``texts`` (tokens,) these texts;
    ``starts`` and ``ends`` (texts,) their first tokens and the last that are not padding.

    For kernels that take no flat rows, texts also lie in rectangles, one after another: ``origins``
    (tokens,) says where in these each token of the row is, and ``places`` (tokens of the
    rectangles,) where in the row each of theirs is, for padding the text's first; ``order``
    (texts,) has the texts as they lie there, and ``ranks`` (texts,) where each is among those.
    """

    positions: torch.Tensor
    texts: torch.Tensor
    starts: torch.Tensor
    ends: torch.Tensor
    origins: torch.Tensor
    places: torch.Tensor
    order: torch.Tensor
    ranks: torch.Tensor
    buckets: tuple[Bucket, ...]


@dataclass(frozen=True, eq=False)
class FlatTexts:
    """Tokenized texts, one after another: ``ids`` (tokens,) on a device. Of each text, ``lengths``
    has the number of tokens, and ``lasts`` the position of the one that a decoder's class is read
    at: the last that is not padding. ``pad_id`` is what a rectangle of ids is filled up with."""

    ids: torch.Tensor
    lengths: Sequence[int]
    lasts: Sequence[int]
    pad_id: int

    @classmethod
    def from_padded(cls, ids: torch.Tensor, mask: torch.Tensor, pad_id: int) -> "FlatTexts":
        """Return the texts of a rectangle (texts, tokens), padded on the right."""
        rows = [row[real].tolist() for row, real in zip(ids, mask.bool(), strict=True)]
        lasts = [find_last(row, pad_id) for row in rows]
        return cls(ids[mask.bool()], [len(row) for row in rows], lasts, pad_id)

    @classmethod
    def join(cls, parts: Sequence["FlatTexts"]) -> "FlatTexts":
        """Return the texts of all ``parts``, in their order."""
        if len(parts) == 1:
            return parts[0]
        lengths, lasts = (
            [value for part in parts for value in getattr(part, name)]
            for name in ("lengths", "lasts")
        )
        return cls(torch.cat([part.ids for part in parts]), lengths, lasts, parts[0].pad_id)

    def split(self, counts: Sequence[int]) -> list["FlatTexts"]:
        """Return the texts in parts of so many each, as views."""
        bounds = list(pairwise([0, *accumulate(counts)]))
        lengths, lasts = (
            [x[first:stop] for first, stop in bounds] for x in (self.lengths, self.lasts)
        )
        ids = torch.split_with_sizes(self.ids, [sum(part) for part in lengths])
        return [FlatTexts(*part, self.pad_id) for part in zip(ids, lengths, lasts, strict=True)]

    @cached_property
    def tokens(self) -> int:
        return sum(self.lengths)

    @cached_property
    def longest(self) -> int:
        return max(self.lengths)

    @cached_property
    def bounds(self) -> torch.Tensor:
        """Where texts begin, and where the last one ends: int32 (texts + 1,)."""
        ends = np.cumsum([0, *self.lengths], dtype=np.int32)
        return to_device(torch.from_numpy(ends), self.ids.device)

    @cached_property
    def layout(self) -> Layout:
        lengths = np.asarray(self.lengths)
        count, tokens = len(lengths), int(lengths.sum())
        starts = lengths.cumsum() - lengths
        texts = np.repeat(np.arange(count), lengths)
        positions = np.arange(tokens) - starts[texts]
        order = np.argsort(-lengths, kind="stable")
        ranks = np.empty_like(order)
        ranks[order] = np.arange(count)
        # All in one copy, for a GPU.
        cuts = list(_cut(lengths[order].tolist()))
        widths = np.repeat([lengths[order[first]] for first, _ in cuts], [n for _, n in cuts])
        corners = widths.cumsum() - widths
        origins = corners[ranks][texts] + positions
        # What is not finite in a text stays there: its padding is its own.
        places = np.repeat(starts[order], widths)
        places[origins] = np.arange(tokens)
        fields = {
            "positions": positions, "texts": texts, "starts": starts, "ends": starts + self.lasts,
            "origins": origins, "places": places, "order": order, "ranks": ranks,
            "lengths": lengths[order],
        }  # fmt: skip
        host = torch.from_numpy(np.concatenate([*fields.values()]))
        sizes = [len(field) for field in fields.values()]
        sent = torch.split_with_sizes(to_device(host, self.ids.device), sizes)
        maps = dict(zip(fields, sent, strict=True))
        ordered = maps.pop("lengths")
        buckets = tuple(
            Bucket(
                first, size, int(corners[first]), int(widths[first]),
                lengths[order[first + size - 1]] < widths[first], ordered[first : first + size],
            )
            for first, size in cuts
        )  # fmt: skip
        return Layout(**maps, buckets=buckets)

    def padded(self) -> tuple[torch.Tensor, torch.Tensor]:
        """Return ids and mask (texts, longest) of the texts, padded on the right."""
        layout, shape = self.layout, (len(self.lengths), self.longest)
        ids = torch.full(shape, self.pad_id, dtype=self.ids.dtype, device=self.ids.device)
        mask = torch.zeros(shape, dtype=torch.long, device=self.ids.device)
        ids[layout.texts, layout.positions] = self.ids
        mask[layout.texts, layout.positions] = 1
        return ids, mask


def find_last(ids: Sequence[int], pad_id: int) -> int:
    """Return the position of the last token that is not padding, as transformers' own classifiers
    find it: that of the first token, if there is no other."""
    return next((place for place in range(len(ids) - 1, 0, -1) if ids[place] != pad_id), 0)


def _cut(lengths: Sequence[int]) -> Iterator[tuple[int, int]]:
    """Yield the first of ``lengths``, the longest first, that each bucket takes, and how many."""
    first = padding = 0
    for place, length in enumerate(lengths):
        padding += lengths[first] - length
        if padding > max(BUCKET_TOKENS, lengths[first] * (place - first) // BUCKET_SHARE):
            yield first, place - first
            first, padding = place, 0
    yield first, len(lengths) - first
