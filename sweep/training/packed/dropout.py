"""LoRA dropout of many trials in one pass.

Which values a trial drops is a hash of its own seed, the layer, and the place of each value in its
own batch. So it is the same whoever shares the pack, and when activations are recomputed, and all
slots take a dozen operations together where a generator for each would take some for every slot.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch

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
    """Dropout of all slots of one pass."""

    def __init__(self, dropout: Sequence[Dropout], device: torch.device) -> None:
        seeds = torch.tensor([_wrap(each.seed) for each in dropout], dtype=torch.int32)
        probabilities = torch.tensor([each.probability for each in dropout], dtype=torch.float64)
        # A hash below the limit is dropped.
        limits = (-(2.0**31) + probabilities * 2.0**32).to(torch.int32)
        self._seeds = to_device(seeds, device)[:, None]
        self._limits = to_device(limits, device)[:, None, None]
        self._scales = to_device((1 / (1 - probabilities)).float(), device)[:, None, None]

    def drop(self, x: torch.Tensor, number: int, tokens: int) -> torch.Tensor:
        """Return ``x`` (slots, rows x tokens, values) with each slot's values dropped in the
        ``number``-th layer.

        ``tokens`` is 1 where only the last token passes (see `sweep.models.last_token`).
        """
        _, places, values = x.shape
        at = torch.arange(places, dtype=torch.int32, device=x.device)
        token = at if tokens == places else at // tokens * ROW_STRIDE + at % tokens
        rows = _mix((self._seeds + _wrap(number * SPREAD)) ^ (token * _wrap(SPREAD)))
        columns = _mix(torch.arange(1, values + 1, dtype=torch.int32, device=x.device))
        kept = _mix(rows[:, :, None] + columns) >= self._limits
        return x * (kept * self._scales).to(x.dtype)


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
