"""LoRA dropout of many trials in one pass.

Which values a trial drops is a hash of its own seed, the layer, and the place of each value in its
own batch. So it is the same whoever shares the pack, and when activations are recomputed, and all
slots take a dozen operations together where a generator for each would take some for every slot.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch

from sweep.models.flat.texts import FlatTexts
from sweep.models.transfer import to_device

# Most tokens of a row: the hash of a token's place is of row x this + position.
ROW_STRIDE = 2**16
# The finalizer of MurmurHash3 for 32 bits (Appleby 2011): factors and shifts.
FACTORS, SHIFTS = (0x85EBCA6B, 0xC2B2AE35), (16, 13)
# 2^32 over the golden ratio, which spreads neighboring numbers (Knuth, TAOCP 3, 6.4).
SPREAD = 0x9E3779B1


@dataclass(frozen=True)
class Dropout:
    """LoRA dropout of one slot in one pass."""

    probability: float
    seed: int


class Masks:
    """Dropout of all slots of one pass over ``texts``, of which each slot in turn has as many as
    ``counts`` says."""

    def __init__(self, dropout: Sequence[Dropout], counts: Sequence[int], texts: FlatTexts) -> None:
        seeds = torch.tensor([_wrap(each.seed) for each in dropout], dtype=torch.int32)
        probabilities = torch.tensor([each.probability for each in dropout], dtype=torch.float64)
        # A hash below the limit is dropped.
        limits = (-(2.0**31) + probabilities * 2.0**32).to(torch.int32)
        scales = (1 / (1 - probabilities)).float()
        sizes = torch.tensor(list(counts))
        places = torch.cat([torch.arange(count, dtype=torch.int32) for count in counts])
        # By text: its place in its own batch, the seed of its slot, and so on.
        of_texts = (places, *(each.repeat_interleave(sizes) for each in (seeds, limits, scales)))
        self._of_texts = [to_device(each, texts.ids.device) for each in of_texts]
        self._texts = texts
        # The same by row, for each number of rows.
        self._of_rows: dict[int, list[torch.Tensor]] = {}

    def drop(self, x: torch.Tensor, number: int) -> torch.Tensor:
        """Return ``x`` (rows, values) with each slot's values dropped in the ``number``-th layer.

        A row is a token of the flat row, or a text; or rows are those of the texts' rectangle.
        """
        keys, seeds, limits, scales = self._expand(len(x))
        rows = _mix((seeds + _wrap(number * SPREAD)) ^ keys)
        columns = _mix(torch.arange(1, x.shape[1] + 1, dtype=torch.int32, device=x.device))
        kept = _mix(rows[:, None] + columns) >= limits[:, None]
        return x * (kept * scales[:, None]).to(x.dtype)

    def _expand(self, rows: int) -> list[torch.Tensor]:
        """Return a key that tells the place of each row in its slot's batch, and its slot's seed,
        limit and factor (rows,)."""
        if rows not in self._of_rows:
            texts, positions = self._find_texts(rows)
            places, *others = (each[texts] for each in self._of_texts)
            keys = (places * ROW_STRIDE + positions.int()) * _wrap(SPREAD)
            self._of_rows[rows] = [keys, *others]
        return self._of_rows[rows]

    def _find_texts(self, rows: int) -> tuple[torch.Tensor, torch.Tensor]:
        """Return the text of each row, and the position in it."""
        if rows == self._texts.tokens:
            return self._texts.layout.texts, self._texts.layout.positions
        at = torch.arange(rows, device=self._texts.ids.device)
        width = rows // len(self._texts.lengths)
        return at // width, at % width


def _mix(hashes: torch.Tensor) -> torch.Tensor:
    """Spread ``hashes`` (int32) in place, so that each bit depends on every bit."""
    for factor, shift in zip(FACTORS, SHIFTS, strict=True):
        # The shift of a negative number would bring in ones.
        hashes ^= (hashes >> shift).bitwise_and_(2 ** (32 - shift) - 1)
        hashes *= _wrap(factor)
    return hashes


def _wrap(number: int) -> int:
    """Return the 32-bit integer with the lowest bits of ``number``."""
    return (number + 2**31) % 2**32 - 2**31
