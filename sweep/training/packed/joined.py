"""Layers that take the same input, passed as one on GPUs: there a launch for each of them would
take longer than what it computes."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import nn

from sweep.models.fused import Frozen
from sweep.models.transfer import to_device


@dataclass(frozen=True, eq=False)
class Owners:
    """Which of several layers, whose outputs lie side by side, each output belongs to: ``owners``
    (outputs,) are their numbers, and ``own`` (layers, outputs) is 1 at the outputs of each."""

    owners: torch.Tensor
    own: torch.Tensor

    @classmethod
    def of(cls, sizes: Sequence[int], device: torch.device) -> "Owners":
        """Return those of layers with outputs of these ``sizes``."""
        owners = torch.arange(len(sizes)).repeat_interleave(torch.tensor(sizes))
        own = nn.functional.one_hot(owners).T.float()
        return cls(to_device(owners, device), to_device(own.contiguous(), device))


class Adapter:
    """A layer's A (all slots, largest rank, inputs) and B^T (all slots, largest rank, outputs), and
    their gradients.

    Those of several layers, whose ``outputs`` are told apart, are one adapter of as many times
    their rank: A is (all slots, largest rank, layers, inputs), B^T (all slots, largest rank,
    outputs of all), whose parts meet the A of their own layers alone.
    """

    def __init__(self, *stacks: torch.Tensor, outputs: Owners | None = None) -> None:
        self.stacks = stacks
        self.outputs = outputs


@dataclass(frozen=True, eq=False)
class Group:
    """Layers that pass as one, and the outputs of each."""

    frozen: Frozen
    adapter: Adapter
    sizes: tuple[int, ...]


class Groups:
    """The layers of a pack that pass as one, by their numbers."""

    def __init__(self) -> None:
        self._groups: dict[tuple[int, ...], Group | None] = {}
        self._owners: dict[tuple[int, ...], Owners] = {}

    def find(
        self,
        numbers: tuple[int, ...],
        bases: Sequence[nn.Module],
        adapters: Sequence[Adapter],
    ) -> Group | None:
        """Return layers as one, if their weights and adapters lie side by side in memory."""
        if numbers not in self._groups:
            # What is made in inference mode could not be trained with.
            with torch.inference_mode(False):
                self._groups[numbers] = self._build(bases, adapters)
        return self._groups[numbers]

    def _build(self, bases: Sequence[nn.Module], adapters: Sequence[Adapter]) -> Group | None:
        weights, biases = zip(*map(Frozen.of, bases), strict=True)
        weight, bias = adjoin(weights, 0), None
        if any(each is not None for each in biases):
            bias = None if None in biases else adjoin(biases, 0)
            weight = None if bias is None else weight
        stacks = [adjoin(x, 2) for x in zip(*(each.stacks for each in adapters), strict=True)]
        known = [stack for stack in stacks if stack is not None]
        if weight is None or len(known) < len(stacks):
            return None
        sizes = tuple(map(len, weights))
        if sizes not in self._owners:
            self._owners[sizes] = Owners.of(sizes, weight.device)
        a, b, a_gradient, b_gradient = known
        a, a_gradient = (each.view(*each.shape[:2], len(bases), -1) for each in (a, a_gradient))
        adapter = Adapter(a, b, a_gradient, b_gradient, outputs=self._owners[sizes])
        return Group(Frozen(weight, bias), adapter, sizes)


def adjoin(views: Sequence[torch.Tensor], dim: int) -> torch.Tensor | None:
    """Return ``views``, which differ in their sizes of ``dim`` alone, as one if they lie side by
    side in one storage."""
    first = views[0]
    place, storage = first.storage_offset(), _find_storage(first)
    if storage is None:
        return None
    for view in views:
        is_next = view.storage_offset() == place and view.stride() == first.stride()
        if not is_next or _find_storage(view) != storage:
            return None
        place += view.shape[dim] * view.stride(dim)
    shape = list(first.shape)
    shape[dim] = sum(view.shape[dim] for view in views)
    return first.as_strided(shape, first.stride())


def _find_storage(tensor: torch.Tensor) -> int | None:
    """Return the address of the memory that ``tensor`` is part of; None if it has none of its
    own, as those that stand for others."""
    try:
        return tensor.untyped_storage().data_ptr() or None
    except RuntimeError:
        return None


@torch.no_grad()
def lay_side_by_side(layers: Sequence[nn.Module]) -> None:
    """Have the frozen weights of linear ``layers``, and their biases, lie in a row in memory."""
    for name in ("weight", "bias"):
        values = [getattr(layer, name) for layer in layers]
        if any(value is None for value in values):
            continue
        joint = torch.cat([value.detach() for value in values])
        rows = torch.split_with_sizes(joint, [len(value) for value in values])
        for value, own in zip(values, rows, strict=True):
            value.data = own
