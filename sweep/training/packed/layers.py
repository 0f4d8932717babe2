"""Layers of a base model with an adapter, or a head, for each slot.

They read their weights from the stacks and add to the gradients there: autograd sees neither, so
it allocates nothing of the size of a stack, and a pass touches the slots that take part alone.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import Any

import torch
from torch import nn

from sweep.models.float16 import is_autocast_to_float16
from sweep.models.fused import Frozen, Part, adapt_backward, adapt_forward
from sweep.models.transfer import to_device
from sweep.training.packed.dropout import Masks
from sweep.training.packed.joined import Adapter, Groups, Owners
from sweep.training.packed.products import Joint, Rows, choose_product

# Rows per slot up to which one product of several matrices, padded to the largest rank, is faster
# than a product for each: then what a call costs is more than what it computes.
BATCHED_ROWS = 64


@dataclass(frozen=True)
class Member:
    """A slot that takes part in a pass: its adapter's rank and factor, its classes, and how many
    texts and tokens it has."""

    slot: int
    rank: int
    classes: int
    scaling: float
    texts: int
    tokens: int


class Selection:
    """The slots that take part in a pass, in the order of their rows."""

    def __init__(self, members: Sequence[Member], masks: Masks | None = None) -> None:
        self.members = members
        self.masks = masks
        self._texts = sum(member.texts for member in members)
        self._tokens = sum(member.tokens for member in members)
        self._runs = _find_runs([member.slot for member in members])
        self._scaling: torch.Tensor | None = None
        self._rows: dict[tuple[int, ...], Rows] = {}
        # By the outputs that they are for, and the first of the slots.
        self._joints: dict[tuple[Owners, int], Joint] = {}

    def count(self, rows: int) -> list[int]:
        """Return how many of ``rows`` are each slot's: one for each text or token, or as many for
        each text as the longest has tokens."""
        if rows == self._tokens:
            return [member.tokens for member in self.members]
        return [rows // self._texts * member.texts for member in self.members]

    def cut(self, x: torch.Tensor, dtype: torch.dtype, adapter: "Adapter") -> list[Part]:
        """Return the parts of ``x`` (rows, values), multiplied in ``dtype``, and their adapters."""
        counts = self.count(len(x))
        stops = [0, *accumulate(counts)]
        parts: list[Part] = []
        for first, stop in self._runs:
            rows, sizes = slice(stops[first], stops[stop]), counts[first:stop]
            kind = self._choose(sizes, x, dtype, joint=adapter.outputs is not None)
            if kind is None:
                parts += (
                    self._cut_slot(number, slice(stops[number], stops[number + 1]), adapter)
                    for number in range(first, stop)
                )
                continue
            members = self.members[first:stop]
            slots = slice(members[0].slot, members[-1].slot + 1)
            rank = max(member.rank for member in members)
            a, b, a_gradient, b_gradient = (stack[slots, :rank] for stack in adapter.stacks)
            options: dict[str, Any] = (
                {} if kind is Part else {"at": self._find_rows(sizes, x.device)}
            )
            scaling = self._scale(x.device)[first:stop]
            if adapter.outputs is not None:
                options["joint"] = self._join(adapter.outputs, first, stop, scaling)
            parts.append(kind(rows, a, b, scaling, a_gradient, b_gradient, **options))
        return parts

    def joins(self, x: torch.Tensor) -> bool:
        """Return whether layers of the same input pass as one. On one core that gains nothing:
        forward and backward over 265 rows of 576 took 11.5 ms for outputs of 576, 192 and 192 by
        themselves, and 11.8 together."""
        return x.is_cuda and self.masks is None

    def _choose(self, counts: list[int], x: torch.Tensor, dtype: torch.dtype, joint: bool) -> Any:
        """Return what multiplies the rows of neighbors together; None: each slot's are multiplied
        by themselves."""
        if joint:
            return choose_product(x.device, dtype)
        if len(counts) == 1:
            return None
        alike = len(set(counts)) == 1
        if x.is_cuda:
            return Part if alike else choose_product(x.device, dtype)
        ranks = {member.rank for member in self.members}
        return Part if alike and (counts[0] <= BATCHED_ROWS or len(ranks) == 1) else None

    def _cut_slot(self, number: int, rows: slice, adapter: "Adapter") -> Part:
        member = self.members[number]
        views = (stack[member.slot, : member.rank] for stack in adapter.stacks)
        a, b, a_gradient, b_gradient = views
        return Part(rows, a, b, member.scaling, a_gradient, b_gradient)

    def _scale(self, device: torch.device) -> torch.Tensor:
        if self._scaling is None:
            scaling = torch.tensor([member.scaling for member in self.members])
            self._scaling = to_device(scaling.view(-1, 1, 1), device)
        return self._scaling

    def _join(self, outputs: Owners, first: int, stop: int, scaling: torch.Tensor) -> Joint:
        key = (outputs, first)
        if key not in self._joints:
            self._joints[key] = Joint(outputs.owners, scaling[..., None] * outputs.own)
        return self._joints[key]

    def _find_rows(self, counts: list[int], device: torch.device) -> Rows:
        key = tuple(counts)
        if key not in self._rows:
            self._rows[key] = Rows.of(counts, device)
        return self._rows[key]


def _find_runs(slots: list[int]) -> list[tuple[int, int]]:
    """Return where in ``slots``, in order, neighbors begin and end."""
    breaks = [at for at in range(1, len(slots)) if slots[at] != slots[at - 1] + 1]
    return list(zip([0, *breaks], [*breaks, len(slots)], strict=True))


class Current:
    """The selection of the pass under way; ``anchor`` has autograd record the pass although no
    weight in it requires a gradient."""

    def __init__(self, device: torch.device) -> None:
        self.selection: Selection | None = None
        self.anchor = torch.zeros((), device=device, requires_grad=True)
        self.groups = Groups()

    def adapt(
        self,
        rows: torch.Tensor,
        frozen: Frozen,
        adapter: Adapter,
        dropped: torch.Tensor | None = None,
    ) -> torch.Tensor:
        """Return (rows, outputs) of ``rows`` (rows, inputs), whose adapters read ``dropped``, if
        that is given."""
        assert self.selection is not None
        parts = self.selection.cut(rows, frozen.weight.dtype, adapter)
        values = (rows, dropped, self.anchor, frozen, parts)
        result: torch.Tensor = _AdaptSlots.apply(*values)  # type: ignore[no-untyped-call]
        return result


class PackedLinear(nn.Module):
    """A frozen linear layer (``nn.Linear`` or GPT-2's ``Conv1D``) with one adapter per slot.

    ``Y = base(X)`` once for all rows, plus ``s_k (X_k A_k^T) B_k^T`` for the rows of each slot k
    (Hu et al. 2021, arXiv:2106.09685, for one adapter).
    """

    def __init__(self, base: nn.Module, adapter: Adapter, current: Current, number: int) -> None:
        super().__init__()
        self.base = base
        self.adapter = adapter
        self.current = current
        self.number = number

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return (..., outputs) of ``x`` (..., inputs), whose rows are each slot's in turn."""
        selection = self.current.selection
        assert selection is not None
        rows = x.reshape(-1, x.shape[-1])
        dropped = None
        if selection.masks is not None:
            dropped = selection.masks.drop(rows, self.number)
        result = self.current.adapt(rows, Frozen.of(self.base), self.adapter, dropped)
        return result.view(*x.shape[:-1], -1)

    @staticmethod
    def pass_together(layers: Sequence["PackedLinear"], x: torch.Tensor) -> Sequence[torch.Tensor]:
        """Return what each of ``layers`` makes of ``x`` (rows, inputs), in one pass if that saves
        launches."""
        current = layers[0].current
        selection = current.selection
        assert selection is not None
        group = None
        if selection.joins(x):
            numbers = tuple(layer.number for layer in layers)
            bases, adapters = (
                [getattr(layer, name) for layer in layers] for name in ("base", "adapter")
            )
            group = current.groups.find(numbers, bases, adapters)
        if group is None:
            return [layer(x) for layer in layers]
        result = current.adapt(x, group.frozen, group.adapter)
        return torch.split_with_sizes(result, group.sizes, 1)


class _AdaptSlots(torch.autograd.Function):
    @staticmethod
    def forward(  # type: ignore[override]
        ctx: Any,
        x: torch.Tensor,
        dropped: torch.Tensor | None,
        anchor: torch.Tensor,
        frozen: Frozen,
        parts: list[Part],
    ) -> torch.Tensor:
        result, saved = adapt_forward(frozen, x, dropped, parts)
        ctx.save_for_backward(*saved)
        ctx.parts = parts
        ctx.types = (x.dtype, None if dropped is None else dropped.dtype)
        return result

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, gradient: torch.Tensor) -> tuple[torch.Tensor | None, ...]:  # type: ignore[override]
        needs = ctx.needs_input_grad[:2]
        x, z = adapt_backward(ctx.saved_tensors, gradient, ctx.parts, ctx.types, needs)
        return x, z, None, None, None


class PackedHead(nn.Module):
    """One classification head per slot, which computes as ``sweep.models.float16.Head`` does."""

    def __init__(self, heads: torch.Tensor, gradients: torch.Tensor, current: Current) -> None:
        """``heads`` and their ``gradients`` are (all slots, most classes, hidden)."""
        super().__init__()
        self.heads = heads
        self.gradients = gradients
        self.current = current

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return logits (..., classes) of ``x`` (..., hidden), one row for each text or token:
        minus infinity for classes that a slot's trial does not have."""
        rows = x.reshape(-1, x.shape[-1])
        selection, dtype = self.current.selection, None
        assert selection is not None
        if torch.is_autocast_enabled(x.device.type):
            # In float16 logits would be the first to exceed the range.
            half = is_autocast_to_float16(x.device)
            dtype = torch.float32 if half else torch.get_autocast_dtype(x.device.type)
        rows = rows if dtype is None else rows.to(dtype)
        values = (rows, self.current.anchor, self.heads, self.gradients, selection)
        result: torch.Tensor = _ClassifySlots.apply(*values)  # type: ignore[no-untyped-call]
        return result.view(*x.shape[:-1], -1)


class _ClassifySlots(torch.autograd.Function):
    @staticmethod
    def forward(  # type: ignore[override]
        ctx: Any,
        x: torch.Tensor,
        anchor: torch.Tensor,
        heads: torch.Tensor,
        gradients: torch.Tensor,
        selection: Selection,
    ) -> torch.Tensor:
        counts, members = selection.count(len(x)), selection.members
        ctx.save_for_backward(x)
        ctx.counts, ctx.members, ctx.heads, ctx.gradients = counts, members, heads, gradients
        result = x.new_full((len(x), max(member.classes for member in members)), -torch.inf)
        pieces = (torch.split_with_sizes(each, counts) for each in (x, result))
        for member, rows, logits in zip(members, *pieces, strict=True):
            head = heads[member.slot, : member.classes].to(x.dtype)
            logits[:, : member.classes] = rows @ head.mT
        return result

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, gradient: torch.Tensor) -> tuple[torch.Tensor | None, ...]:  # type: ignore[override]
        (x,), counts = ctx.saved_tensors, ctx.counts
        result = torch.empty_like(x)
        pieces = (torch.split_with_sizes(each, counts) for each in (x, gradient, result))
        for member, rows, own, found in zip(ctx.members, *pieces, strict=True):
            own = own[:, : member.classes]
            torch.mm(own, ctx.heads[member.slot, : member.classes].to(x.dtype), out=found)
            ctx.gradients[member.slot, : member.classes].add_(own.mT @ rows)
        return result, None, None, None, None
