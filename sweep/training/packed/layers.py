"""Layers of a base model with an adapter, or a head, for each slot.

They read their weights from the stacks and add to the gradients there: autograd sees neither, so
it allocates nothing of the size of a stack, and a pass touches the slots that take part alone.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from sweep.models.float16 import is_autocast_to_float16
from sweep.models.fused import adapt_backward, adapt_forward
from sweep.seeds import derive_seed


@dataclass(frozen=True)
class Dropout:
    """LoRA dropout of one slot in one pass; rows and width are those of its micro-batch."""

    probability: float
    seed: int
    rows: int
    width: int


@dataclass(frozen=True)
class Selection:
    """The slots that take part in a pass, each with as many rows.

    ``index`` (slots,) has their positions in the stacks; None: they are neighbors, from ``first``
    on. ``rank`` and ``classes`` are the largest among them, ``scaling`` (slots, 1, 1) has each
    adapter's factor.
    """

    slots: int
    rank: int
    classes: int
    scaling: torch.Tensor
    first: int = 0
    index: torch.Tensor | None = None
    dropout: Sequence[Dropout] = ()

    def pick(self, stack: torch.Tensor) -> torch.Tensor:
        """Return the part of ``stack`` (all slots, ...) that takes part."""
        if self.index is None:
            return stack[self.first : self.first + self.slots]
        return stack.index_select(0, self.index)

    def add(self, stack: torch.Tensor, values: torch.Tensor) -> None:
        """Add ``values`` (slots, ...) to the part of ``stack`` that takes part."""
        if self.index is None:
            stack[self.first : self.first + self.slots].add_(values)
        else:
            stack.index_add_(0, self.index, values.to(stack.dtype))


class Current:
    """The selection of the pass under way; ``anchor`` has autograd record the pass although no
    weight in it requires a gradient."""

    def __init__(self, device: torch.device) -> None:
        self.selection = Selection(0, 0, 0, torch.ones(1, 1, 1, device=device))
        self.anchor = torch.zeros((), device=device, requires_grad=True)


@dataclass
class Adapter:
    """A layer's A (all slots, largest rank, inputs) and transposed B (all slots, largest rank,
    outputs), and their gradients."""

    a: torch.Tensor
    b: torch.Tensor
    a_gradient: torch.Tensor
    b_gradient: torch.Tensor


class PackedLinear(nn.Module):
    """A frozen linear layer (``nn.Linear`` or GPT-2's ``Conv1D``) with one adapter per slot.

    ``Y = base(X)`` once for all rows, plus ``s_k (X_k A_k^T) B_k^T`` for each slot k by a batched
    product (Hu et al. 2021, arXiv:2106.09685, for one adapter).
    """

    def __init__(self, base: nn.Module, adapter: Adapter, current: Current, number: int) -> None:
        super().__init__()
        self.base = base
        self.adapter = adapter
        self.current = current
        self.number = number

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return (rows, tokens, outputs) of ``x`` (rows, tokens, inputs)."""
        selection = self.current.selection
        grouped = x.reshape(selection.slots, -1, x.shape[-1])
        dropped = None
        if selection.dropout:
            dropped = drop(grouped, selection.dropout, self.number, x.shape[-2])
        values = (grouped, dropped, self.current.anchor, self.base, self.adapter, selection)
        result: torch.Tensor = _AdaptSlots.apply(*values)  # type: ignore[no-untyped-call]
        return result.view(*x.shape[:-1], -1)


class _AdaptSlots(torch.autograd.Function):
    @staticmethod
    def forward(  # type: ignore[override]
        ctx: Any,
        x: torch.Tensor,
        dropped: torch.Tensor | None,
        anchor: torch.Tensor,
        base: nn.Module,
        adapter: Adapter,
        selection: Selection,
    ) -> torch.Tensor:
        a = selection.pick(adapter.a[:, : selection.rank])
        b = selection.pick(adapter.b[:, : selection.rank]).mT
        result, saved = adapt_forward(base, x, dropped, a, b, selection.scaling)
        ctx.save_for_backward(*saved)
        ctx.adapter, ctx.selection = adapter, selection
        ctx.types = (x.dtype, None if dropped is None else dropped.dtype)
        return result

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, gradient: torch.Tensor) -> tuple[torch.Tensor | None, ...]:  # type: ignore[override]
        adapter, selection = ctx.adapter, ctx.selection
        needs = ctx.needs_input_grad[:2]
        x_gradient, z_gradient, a_gradient, b_gradient = adapt_backward(
            ctx.saved_tensors, gradient, selection.scaling, ctx.types, needs
        )
        selection.add(adapter.a_gradient[:, : selection.rank], a_gradient)
        selection.add(adapter.b_gradient[:, : selection.rank], b_gradient)
        return x_gradient, z_gradient, None, None, None, None


class PackedHead(nn.Module):
    """One classification head per slot, which computes as ``sweep.models.float16.Head`` does."""

    def __init__(self, heads: torch.Tensor, gradients: torch.Tensor, current: Current) -> None:
        """``heads`` and their ``gradients`` are (all slots, most classes, hidden)."""
        super().__init__()
        self.heads = heads
        self.gradients = gradients
        self.current = current

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return logits (rows, tokens, classes) of ``x`` (rows, tokens, hidden)."""
        if not is_autocast_to_float16(x.device):
            return self._multiply(x)
        with torch.autocast(x.device.type, enabled=False):
            return self._multiply(x.float())

    def _multiply(self, x: torch.Tensor) -> torch.Tensor:
        selection = self.current.selection
        heads, gradients = (each[:, : selection.classes] for each in (self.heads, self.gradients))
        picked = selection.pick(heads)
        leaf = picked.detach().requires_grad_(torch.is_grad_enabled())
        if leaf.requires_grad:
            leaf.register_hook(lambda gradient: selection.add(gradients, gradient))  # type: ignore[no-untyped-call]
        logits = torch.bmm(x.reshape(selection.slots, -1, x.shape[-1]), leaf.mT)
        return logits.view(*x.shape[:-1], selection.classes)


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
