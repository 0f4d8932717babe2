"""Stacks: the trainable weights of many trials in one tensor, with their gradients and AdamW's
moments alike, and a view of it per layer."""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch.optim.adamw import adamw

from sweep.training.optimizer import BETAS, EPSILON
from sweep.training.packed.loss_scales import LossScales

# For each adapted layer, A (slots, rank, inputs) and B (slots, outputs, rank).
LayerViews = list[tuple[torch.Tensor, torch.Tensor]]


@dataclass(frozen=True)
class LayerShape:
    """One adapted linear layer of the base model."""

    path: str
    inputs: int
    outputs: int


@dataclass(frozen=True)
class StackShape:
    """What a slot holds: an adapter of ``rank`` per layer, and a head of ``classes``.

    A trial of a lower rank or of fewer classes leaves the rest zero. Where both A and B are padded
    with zeros, the gradient of the padding is exactly zero, so it stays zero.
    """

    layers: tuple[LayerShape, ...]
    hidden: int
    rank: int
    classes: int

    @property
    def width(self) -> int:
        """Values per slot."""
        adapters = sum(layer.inputs + layer.outputs for layer in self.layers)
        return self.rank * adapters + self.classes * self.hidden

    def cut(self, flat: torch.Tensor) -> tuple[LayerViews, torch.Tensor]:
        """Return views of ``flat`` (slots, width): each layer's A and B, and the heads (slots,
        classes, hidden)."""
        layers, start = [], 0
        for layer in self.layers:
            middle = start + self.rank * layer.inputs
            stop = middle + self.rank * layer.outputs
            layers.append(
                (
                    _fold(flat[:, start:middle], self.rank),
                    _fold(flat[:, middle:stop], layer.outputs),
                )
            )
            start = stop
        return layers, _fold(flat[:, start:], self.classes)


class Stacks:
    """Weights, gradients and moments (slots, width); steps taken and summed losses (slots,). Where
    losses are ``scaled``, gradients are those of the scaled losses."""

    def __init__(
        self, shape: StackShape, slots: int, device: torch.device, scaled: bool = False
    ) -> None:
        self.shape = shape
        self.device = device
        self.weights, self.gradients, self.means, self.squares = (
            torch.zeros(slots, shape.width, device=device) for _ in range(4)
        )
        self.steps, self.losses = (torch.zeros(slots, device=device) for _ in range(2))
        self.loss_scales = LossScales(slots, device) if scaled else None

    def rebuild(self, shape: StackShape, kept: Sequence[int], slots: int) -> "Stacks":
        """Return new stacks of ``slots`` slots; the first are copies of the slots ``kept``."""
        new = Stacks(shape, slots, self.device)
        index = torch.tensor(kept, dtype=torch.long, device=self.device)
        for name in ("weights", "means", "squares"):
            _move(self.shape, getattr(self, name), shape, getattr(new, name), index)
        new.steps[: len(kept)] = self.steps[index]
        new.losses[: len(kept)] = self.losses[index]
        new.loss_scales = self.loss_scales and self.loss_scales.rebuild(index, slots)
        return new

    def leaves(self) -> tuple[LayerViews, torch.Tensor]:
        """Return views of the weights as leaves of autograd; their gradients are views as well."""
        layers, heads = self.shape.cut(self.weights)
        layer_gradients, head_gradients = self.shape.cut(self.gradients)
        pairs = zip(layers, layer_gradients, strict=True)
        leaves = [(_as_leaf(a, da), _as_leaf(b, db)) for (a, b), (da, db) in pairs]
        return leaves, _as_leaf(heads, head_gradients)


def _fold(flat: torch.Tensor, size: int) -> torch.Tensor:
    """Return ``flat`` (slots, values) as a view (slots, size, values / size)."""
    return flat.view(len(flat), size, flat.shape[1] // size)


def _as_leaf(view: torch.Tensor, gradient: torch.Tensor) -> torch.Tensor:
    leaf = view.detach().requires_grad_()
    leaf.grad = gradient
    return leaf


def _move(
    old_shape: StackShape,
    old: torch.Tensor,
    new_shape: StackShape,
    new: torch.Tensor,
    kept: torch.Tensor,
) -> None:
    """Copy the slots ``kept`` of ``old`` to the first of ``new``; all else there stays zero."""
    if old_shape == new_shape:
        new[: len(kept)] = old[kept]
        return
    rank = min(old_shape.rank, new_shape.rank)
    classes = min(old_shape.classes, new_shape.classes)
    (old_layers, old_heads), (new_layers, new_heads) = old_shape.cut(old), new_shape.cut(new)
    for (a, b), (new_a, new_b) in zip(old_layers, new_layers, strict=True):
        new_a[: len(kept), :rank] = a[kept, :rank]
        new_b[: len(kept), :, :rank] = b[kept, :, :rank]
    new_heads[: len(kept), :classes] = old_heads[kept, :classes]


def fit_shape(shape: StackShape, ranks: Iterable[int], classes: Iterable[int]) -> StackShape:
    """Return ``shape`` with the largest of ``ranks`` and ``classes``."""
    return StackShape(shape.layers, shape.hidden, max(ranks, default=1), max(classes, default=1))


@dataclass(frozen=True)
class StepSettings:
    """One trial's settings of one step."""

    learning_rate: float
    weight_decay: float
    max_grad_norm: float


def step_slots(stacks: Stacks, steps: Mapping[int, StepSettings]) -> None:
    """Take one AdamW step in each slot of ``steps``; gradients are not usable afterwards.

    Each slot's gradient is clipped by its own norm, as ``clip_grad_norm_`` does. The update is the
    fused one of ``torch.optim.AdamW``, one slot at a time, so slots that are not named stay
    bitwise as they are. So does a slot of scaled losses whose gradient is not finite, except that
    its scale falls.
    """
    scales, skipped = stacks.loss_scales, None
    if scales is not None:
        scales.unscale(stacks.gradients)
    limits = torch.full((len(stacks.weights), 1), math.inf)
    for slot, step in steps.items():
        limits[slot] = step.max_grad_norm
    norms = torch.linalg.vector_norm(stacks.gradients, dim=1, keepdim=True)
    factors = limits.to(stacks.device, non_blocking=True) / (norms + 1e-6)
    stacks.gradients.mul_(factors.clamp_(max=1.0))
    if scales is not None:
        overflowed = ~norms[:, 0].isfinite()
        scales.update(steps, overflowed)
        skipped = overflowed.float()
    for slot, step in steps.items():
        adamw(
            [stacks.weights[slot]],
            [stacks.gradients[slot]],
            [stacks.means[slot]],
            [stacks.squares[slot]],
            [],
            [stacks.steps[slot]],
            fused=True,
            # The fused update skips a slot where this is 1, its count of steps included.
            found_inf=None if skipped is None else skipped[slot],
            amsgrad=False,
            beta1=BETAS[0],
            beta2=BETAS[1],
            lr=step.learning_rate,
            weight_decay=step.weight_decay,
            eps=EPSILON,
            maximize=False,
        )
