"""Stacks: the trainable weights of many trials in one tensor, with their gradients, AdamW's moments
and best weights alike, and views of it per layer.

A slot is a row: the head, then for each component of the rank one stretch with a row of every
layer's A, and then a column of every layer's B. So what a trial of a lower rank has is a prefix of
what one of the largest has, and neither its optimizer nor its checkpoint touches the rest; and the
adapters of layers that follow one another lie side by side.
"""

import math
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from importlib.util import find_spec

import torch
from torch.optim.adamw import adamw

from sweep.errors import first_line
from sweep.models.device import is_gpu_lost, is_out_of_memory
from sweep.models.transfer import to_device
from sweep.plan import Capacity
from sweep.training.optimizer import BETAS, EPSILON
from sweep.training.packed.loss_scales import LossScales

# Names of the stacks that a trial's slot is a row of.
STATE = ("weights", "means", "squares", "best")
UpdateRows = Callable[..., None]


@dataclass(frozen=True)
class LayerShape:
    """One adapted linear layer of the base model."""

    path: str
    inputs: int
    outputs: int

    @property
    def width(self) -> int:
        """Values per component of the rank."""
        return self.inputs + self.outputs


@dataclass(frozen=True)
class Place:
    """Where a trial's values are: its slot, and the size of its own adapter and head."""

    slot: int
    rank: int
    classes: int


@dataclass(frozen=True)
class StackShape:
    """What a slot can hold: an adapter of ``rank`` per layer, and a head of ``classes``.

    A trial of a lower rank or of fewer classes leaves the rest zero. Where both A and B are padded
    with zeros, the gradient of the padding is exactly zero, so it stays zero.
    """

    layers: tuple[LayerShape, ...]
    hidden: int
    rank: int
    classes: int

    @cached_property
    def stretch(self) -> int:
        """Values per component of the rank, over all layers."""
        return sum(layer.width for layer in self.layers)

    @property
    def width(self) -> int:
        """Values per slot."""
        return self.used(self.rank)

    def used(self, rank: int) -> int:
        """Return how many values of a slot a trial of ``rank`` uses, its head with padding."""
        return self.classes * self.hidden + rank * self.stretch

    def count(self, place: Place) -> int:
        """Return how many parameters a trial trains."""
        return place.classes * self.hidden + place.rank * self.stretch

    def cut_heads(self, stack: torch.Tensor, classes: int) -> torch.Tensor:
        """Return the heads (slots, classes, hidden) in ``stack`` (slots, width), as a view."""
        return stack[:, : classes * self.hidden].view(len(stack), classes, self.hidden)

    def cut_layers(self, stack: torch.Tensor, rank: int) -> list[tuple[torch.Tensor, torch.Tensor]]:
        """Return each layer's A (slots, rank, inputs) and transposed B (slots, rank, outputs) in
        ``stack`` (slots, width), as views."""
        if not rank or not self.layers:
            return []
        start = self.classes * self.hidden
        components = stack[:, start : start + rank * self.stretch]
        sizes = [layer.inputs for layer in self.layers] + [layer.outputs for layer in self.layers]
        parts = torch.split(components.view(len(stack), rank, self.stretch), sizes, 2)
        count = len(self.layers)
        return list(zip(parts[:count], parts[count:], strict=True))

    def cut_row(self, row: torch.Tensor, place: Place) -> tuple[torch.Tensor, list[torch.Tensor]]:
        """Return the head (classes, hidden) and each layer's A (rank, inputs) and B (outputs, rank)
        in ``row``, a prefix of a slot that holds all of ``place``, as views."""
        stack = row[None]
        pairs = self.cut_layers(stack, place.rank)
        adapters = [part for a, b in pairs for part in (a[0], b[0].mT)]
        return self.cut_heads(stack, place.classes)[0], adapters


class Stacks:
    """Weights, gradients, moments and best weights (slots, width); steps taken and summed losses
    (slots,). All are allocated here, so that no trial that joins, steps or improves needs more.

    Where losses are ``scaled``, gradients are those of the scaled losses. ``update_rows`` is the
    optimizer of all slots in one launch (``row_kernel``), where there is one.
    """

    def __init__(
        self, shape: StackShape, slots: int, device: torch.device, scaled: bool = False
    ) -> None:
        self.shape = shape
        self.slots = slots
        self.device = device
        self.weights, self.means, self.squares, self.best, self.gradients = (
            torch.zeros(slots, shape.width, device=device) for _ in range(5)
        )
        self.steps, self.losses = (torch.zeros(slots, device=device) for _ in range(2))
        self.loss_scales = LossScales(slots, device) if scaled else None
        self.update_rows: UpdateRows | None = None
        if device.type == "cuda" and find_spec("triton") is not None:
            self.update_rows = _choose_update(self)

    def row(self, name: str, place: Place) -> torch.Tensor:
        """Return what a trial uses of its row of the stack ``name``."""
        stack: torch.Tensor = getattr(self, name)
        # A view by ``data`` has a version of its own: autograd would take a write into this row for
        # one into those that the pass under way has yet to read again.
        return stack.data[place.slot, : self.shape.used(place.rank)]

    def clear(self, slot: int) -> None:
        """Make a slot what it was when nothing had used it."""
        for name in (*STATE, "gradients"):
            getattr(self, name).data[slot].zero_()
        self.steps.data[slot] = 0
        self.losses.data[slot] = 0
        if self.loss_scales is not None:
            self.loss_scales.reset(slot)

    def zero_gradients(self, places: Sequence[Place]) -> None:
        """Zero the gradients in the slots of ``places``, and between."""
        self.span(self.gradients, places).zero_()

    def span(self, stack: torch.Tensor, places: Sequence[Place]) -> torch.Tensor:
        """Return the part of ``stack`` from the first to the last of ``places``, as wide as the
        widest."""
        slots = [place.slot for place in places]
        used = self.shape.used(max(place.rank for place in places))
        return stack[min(slots) : max(slots) + 1, :used]


@dataclass(frozen=True)
class StepSettings:
    """One trial's settings of one step."""

    learning_rate: float
    weight_decay: float
    max_grad_norm: float


class Step:
    """One AdamW step of some slots, each with its own settings.

    Each slot's gradient is clipped by its own norm, as ``clip_grad_norm_`` does. The update is the
    fused one of ``torch.optim.AdamW``: of all slots at once where the stacks have that, else one
    slot at a time. So slots that take no step stay bitwise as they are, and so does a slot of
    scaled losses whose gradient is not finite, except that its scale falls.

    What needs memory happens in the constructor: where it runs out, no slot has taken a step.
    Gradients are not usable afterwards.
    """

    def __init__(self, stacks: Stacks, steps: Mapping[Place, StepSettings]) -> None:
        self._stacks = stacks
        self._steps = steps
        self._first = min(place.slot for place in steps)
        gradients = stacks.span(stacks.gradients, list(steps))
        self._widest = gradients.shape[1]
        settings = [(0.0, 0.0, 0.0, math.inf)] * len(gradients)
        for place, step in steps.items():
            used = stacks.shape.used(place.rank)
            own = (used, step.learning_rate, step.weight_decay, step.max_grad_norm)
            settings[place.slot - self._first] = own
        # In float64, which counts every value of a row.
        rows = torch.tensor(settings, dtype=torch.float64)
        self._settings = to_device(rows, stacks.device)
        scales, self._skipped = stacks.loss_scales, None
        if scales is not None:
            scales.unscale(gradients, self._first)
        self._norms = torch.linalg.vector_norm(gradients, dim=1)
        if scales is not None:
            overflowed = ~self._norms.isfinite()
            self._skipped = overflowed.float()
            self._settings[:, 0].masked_fill_(overflowed, 0.0)
            scales.update([place.slot for place in steps], overflowed, self._first)
        if stacks.update_rows is None:
            factors = self._settings[:, 3].float() / (self._norms + 1e-6)
            gradients.mul_(factors.clamp_(max=1.0)[:, None])
        else:
            self._stepping = self._settings[:, 0].sign().float()

    def take_all(self) -> Iterator[Place]:
        """Update the weights of all slots; yield each as soon as its step is taken."""
        update = self._stacks.update_rows
        if update is not None:
            self._take_together(update)
        for place in self._steps:
            if update is None:
                self._take(place)
            yield place

    def _take_together(self, update: UpdateRows) -> None:
        stacks, first = self._stacks, self._first
        tensors = (stacks.weights, stacks.gradients, stacks.means, stacks.squares, stacks.steps)
        update(*tensors, self._norms, self._settings, first, self._widest)
        stacks.steps[first : first + len(self._stepping)].add_(self._stepping)

    def _take(self, place: Place) -> None:
        stacks, step = self._stacks, self._steps[place]
        adamw(
            [stacks.row("weights", place)],
            [stacks.row("gradients", place)],
            [stacks.row("means", place)],
            [stacks.row("squares", place)],
            [],
            [stacks.steps[place.slot]],
            fused=True,
            # The fused update skips a slot where this is 1, its count of steps included.
            found_inf=None if self._skipped is None else self._skipped[place.slot - self._first],
            amsgrad=False,
            beta1=BETAS[0],
            beta2=BETAS[1],
            lr=step.learning_rate,
            weight_decay=step.weight_decay,
            eps=EPSILON,
            maximize=False,
        )


def _choose_update(stacks: Stacks) -> UpdateRows | None:
    """Return the update of all slots in one launch, compiled for ``stacks``, which are new, if it
    works here and gives what ``torch.optim.AdamW`` does."""
    try:
        from sweep.training.packed.row_kernel import update_rows

        expected, found = (_try_update(stacks, update) for update in (None, update_rows))
        torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-6)
    except Exception as error:
        stacks.clear(0)
        if is_out_of_memory(error) or is_gpu_lost(error):
            raise
        # Triton needs a C compiler, for one.
        reason = first_line(error)
        warnings.warn(f"the optimizer steps one slot at a time: {reason}", stacklevel=2)
        return None
    return update_rows


def _try_update(stacks: Stacks, update: UpdateRows | None) -> torch.Tensor:
    """Return what a step with ``update`` makes of made-up values in the first slot."""
    place, stacks.update_rows = Place(0, 0, stacks.shape.classes), update
    names = ("weights", "means", "squares")
    for factor, name in enumerate((*names, "gradients"), 1):
        row = stacks.row(name, place)
        row.copy_(torch.linspace(0, factor, len(row), device=row.device).sin_())
    list(Step(stacks, {place: StepSettings(0.01, 0.1, 1.0)}).take_all())
    result = torch.cat([*(stacks.row(name, place) for name in names), stacks.steps[:1]])
    stacks.clear(0)
    return result


def shape_for(layers: Sequence[LayerShape], hidden: int, capacity: Capacity) -> StackShape:
    """Return the shape of slots that hold every trial of ``capacity``."""
    return StackShape(tuple(layers), hidden, capacity.rank, capacity.classes)
