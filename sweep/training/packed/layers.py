"""Layers of a base model with an adapter, or a head, for each slot."""

from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
from torch import nn

from sweep.models.float16 import is_autocast_to_float16
from sweep.models.fused import adapt
from sweep.seeds import derive_seed


@dataclass(frozen=True)
class Dropout:
    """LoRA dropout of one slot in one pass; rows and width are those of its micro-batch."""

    probability: float
    seed: int
    rows: int
    width: int


@dataclass
class Layout:
    """Which slots the current batch holds rows of: ``slots`` of them, each with as many rows.

    ``index`` (slots,) has their positions in the stacks; None: all, in order. ``scaling``
    (slots, 1, 1) has each adapter's factor.
    """

    slots: int = 0
    scaling: torch.Tensor = field(default_factory=lambda: torch.ones(1, 1, 1))
    index: torch.Tensor | None = None
    dropout: Sequence[Dropout] = ()

    def pick(self, stack: torch.Tensor) -> torch.Tensor:
        """Return the part of ``stack`` (all slots, ...) that the batch needs."""
        return stack if self.index is None else stack.index_select(0, self.index)


class PackedLinear(nn.Module):
    """A frozen linear layer (``nn.Linear`` or GPT-2's ``Conv1D``) with one adapter per slot.

    ``Y = base(X)`` once for all rows, plus ``s_k (X_k A_k^T) B_k^T`` for each slot k by a batched
    product (Hu et al. 2021, arXiv:2106.09685, for one adapter).
    """

    def __init__(self, base: nn.Module, layout: Layout, number: int) -> None:
        super().__init__()
        self.base = base
        self.layout = layout
        self.number = number
        self.a = self.b = torch.empty(0)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return (rows, tokens, outputs) of ``x`` (rows, tokens, inputs)."""
        layout = self.layout
        grouped = x.reshape(layout.slots, -1, x.shape[-1])
        dropped = None
        if layout.dropout:
            dropped = drop(grouped, layout.dropout, self.number, x.shape[-2])
        a, b = layout.pick(self.a), layout.pick(self.b)
        result = adapt(self.base, grouped, a, b, layout.scaling, dropped)
        return result.view(*x.shape[:-1], -1)


class PackedHead(nn.Module):
    """One classification head per slot, which computes as ``sweep.models.float16.Head`` does."""

    def __init__(self, layout: Layout) -> None:
        super().__init__()
        self.layout = layout
        self.heads = torch.empty(0)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return logits (rows, tokens, classes) of ``x`` (rows, tokens, hidden)."""
        if not is_autocast_to_float16(x.device):
            return self._multiply(x)
        with torch.autocast(x.device.type, enabled=False):
            return self._multiply(x.float())

    def _multiply(self, x: torch.Tensor) -> torch.Tensor:
        heads = self.layout.pick(self.heads)
        logits = torch.bmm(x.reshape(self.layout.slots, -1, x.shape[-1]), heads.mT)
        return logits.view(*x.shape[:-1], heads.shape[1])


def drop(x: torch.Tensor, dropout: Sequence[Dropout], number: int, tokens: int) -> torch.Tensor:
    """Return ``x`` (slots, rows x tokens, values) with each slot's values dropped.

    The mask depends only on the slot's seed, the layer's ``number`` and the slot's own batch, so
    it is the same whoever shares the pack, and when activations are recomputed. ``tokens`` is 1
    where only the last token passes (see `sweep.models.last_token`).
    """
    slots, _, values = x.shape
    keep = x.new_ones(slots, x.shape[1] // tokens, tokens, values)
    for slot, one in enumerate(dropout):
        if one.probability:
            generator = torch.Generator(x.device).manual_seed(
                derive_seed(one.seed, "layer", number)
            )
            width = min(one.width, tokens)
            shape = (one.rows, width, values)
            drawn = torch.rand(shape, generator=generator, device=x.device)
            kept = drawn >= one.probability
            keep[slot, : one.rows, :width] = kept.to(x.dtype) / (1 - one.probability)
    return x * keep.view(x.shape)
