"""Products of the rows of several slots with each slot's own adapter, on GPUs: there a launch for
each slot would take longer than what it computes."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
import torch
from torch.nn import functional

from sweep.models.fused import Part
from sweep.models.transfer import to_device

# The first compute capability whose kernel for groups PyTorch has, and the bytes that a row of
# their matrices has to be a multiple of.
GROUPED, ROW_BYTES = (8, 0), 16


@dataclass(frozen=True)
class Rows:
    """How many rows each slot has: where those of each end (slots,), as int32; where each row is if
    all slots had as many as the most (rows,); which row is where then (slots x most,), and where
    none is (slots, most, 1)."""

    ends: torch.Tensor
    origins: torch.Tensor
    places: torch.Tensor
    padding: torch.Tensor

    @classmethod
    def of(cls, counts: Sequence[int], device: torch.device) -> "Rows":
        sizes = np.asarray(counts)
        ends, most = sizes.cumsum(), int(sizes.max())
        starts = ends - sizes
        slots = np.repeat(np.arange(len(sizes)), sizes)
        origins = slots * most + np.arange(ends[-1]) - starts[slots]
        # What is not finite in a slot stays there: its padding is its own.
        places = np.repeat(starts, most)
        places[origins] = np.arange(ends[-1])
        padding = np.ones_like(places)
        padding[origins] = 0
        fields = [ends, origins, places, padding]
        sent = to_device(torch.from_numpy(np.concatenate(fields)), device)
        found = torch.split_with_sizes(sent, [len(field) for field in fields])
        ends_at, at, chosen, padded = found
        return cls(ends_at.int(), at, chosen, padded.bool().view(len(counts), -1, 1))


@dataclass(frozen=True)
class Joint:
    """How the adapters of several layers multiply as one: ``owners`` (outputs,) are the layers that
    outputs belong to, and ``factors`` (slots, 1, layers, outputs) each slot's own factor there, and
    0 at the outputs of other layers."""

    owners: torch.Tensor
    factors: torch.Tensor


@dataclass(frozen=True, kw_only=True)
class _Together(Part):
    """Rows of several slots for a product in one call; ``scaling`` is (slots, 1, 1).

    Those of several layers are ``joint``: A is (slots, rank, layers, inputs), and multiplies as one
    of rank x layers.
    """

    at: Rows
    joint: Joint | None = None

    @property
    def rank(self) -> int:
        """The rank that is multiplied."""
        return self.a.shape[1:-1].numel()

    @property
    def keeps_b(self) -> bool:
        # With the zeros of a joint one, those of a large pack would take half a gigabyte.
        return self.joint is None

    def prepare_a(self, dtype: torch.dtype) -> torch.Tensor:
        a = self.a.to(dtype)
        return a if self.joint is None else a.flatten(1, 2)

    def prepare_b(self, dtype: torch.dtype) -> torch.Tensor:
        # With the factor in B, it is in all but one of the products.
        if self.joint is None:
            return (self.b * self.scaling).to(dtype)
        return (self.b[:, :, None] * self.joint.factors).to(dtype).flatten(1, 2)

    def add(self, product: torch.Tensor, of_b: bool) -> None:
        """Add what was collected (slots, rank, values) to a gradient."""
        gradient = self.b_gradient if of_b else self.a_gradient
        if self.joint is not None:
            product = product.view(*self.a.shape[:-1], -1)
            if of_b:
                # Where an output meets the A of another layer, there is nothing to learn.
                owners = self.joint.owners.expand(*product.shape[:2], 1, -1)
                product = product.gather(2, owners).squeeze(2)
        if of_b:
            scaling = torch.as_tensor(self.scaling)
            gradient.addcmul_(product.to(scaling.dtype), scaling)
        else:
            gradient.add_(product)


class PaddedPart(_Together):
    """As many rows for each slot as the one with most has."""

    def cut(self, x: torch.Tensor) -> torch.Tensor:
        rows = x[self.rows].index_select(0, self.at.places)
        return rows.view(len(self.a), -1, x.shape[-1])

    def cut_gradient(self, x: torch.Tensor) -> torch.Tensor:
        # A row that stands for padding is another one once more.
        return self.cut(x).masked_fill_(self.at.padding, 0.0)

    def widen(self, total: torch.Tensor, low: torch.Tensor, matrix: torch.Tensor) -> None:
        product = torch.bmm(low, matrix).flatten(0, 1)
        total[self.rows].add_(product.index_select(0, self.at.origins))

    def collect(self, low: torch.Tensor, rows: torch.Tensor, of_b: bool) -> None:
        if of_b:
            # Those of rows that are not finite are no numbers times zero.
            low = low.masked_fill(self.at.padding, 0.0)
        self.add(torch.bmm(low.mT, rows), of_b)


class GroupedPart(_Together):
    """Each slot's rows are a group for kernels that take such."""

    def prepare_a(self, dtype: torch.dtype) -> torch.Tensor:
        return _round_up(super().prepare_a(dtype))

    def prepare_b(self, dtype: torch.dtype) -> torch.Tensor:
        return _round_up(super().prepare_b(dtype))

    def cut(self, x: torch.Tensor) -> torch.Tensor:
        return x[self.rows]

    def narrow(self, rows: torch.Tensor, matrix: torch.Tensor) -> torch.Tensor:
        return functional.grouped_mm(rows, matrix.mT, offs=self.at.ends)

    def widen(self, total: torch.Tensor, low: torch.Tensor, matrix: torch.Tensor) -> None:
        total[self.rows].add_(functional.grouped_mm(low, matrix, offs=self.at.ends))

    def collect(self, low: torch.Tensor, rows: torch.Tensor, of_b: bool) -> None:
        product = functional.grouped_mm(low.mT, rows, offs=self.at.ends)
        self.add(product[:, : self.rank], of_b)


def _round_up(matrix: torch.Tensor) -> torch.Tensor:
    """Return ``matrix`` (slots, rank, values) with as many ranks of zeros as kernels want."""
    multiple = ROW_BYTES // matrix.element_size()
    lacking = -matrix.shape[1] % multiple
    return functional.pad(matrix, (0, 0, 0, lacking)) if lacking else matrix.contiguous()


@cache
def choose_product(device: torch.device, dtype: torch.dtype) -> type[Part]:
    """Return how rows of several slots are multiplied on the GPU ``device`` in ``dtype``: in groups
    where this release of PyTorch has a kernel for that, and it gives what products of padded rows
    give."""
    if dtype != torch.bfloat16 or torch.cuda.get_device_capability(device) < GROUPED:
        return PaddedPart
    results = []
    for kind in (PaddedPart, GroupedPart):
        generator = torch.Generator().manual_seed(0)

        def draw(*shape: int, generator: torch.Generator = generator) -> torch.Tensor:
            return torch.randn(shape, generator=generator).to(device, dtype)

        a, b, x, g = draw(3, 4, 64), draw(3, 4, 32), draw(21, 64), draw(21, 32)
        a_gradient, b_gradient = (torch.zeros(3, 4, size, device=device) for size in (64, 32))
        scaling = torch.tensor([1.0, 2.0, 0.5], device=device).view(-1, 1, 1)
        rows: dict[str, Any] = {"at": Rows.of([9, 1, 11], device)}
        part = kind(slice(None), a, b, scaling, a_gradient, b_gradient, **rows)
        try:
            prepared = part.prepare_a(dtype), part.prepare_b(dtype)
            own, gradient = part.cut(x), part.cut_gradient(g)
            low, back = (
                part.narrow(rows, m) for rows, m in zip((own, gradient), prepared, strict=True)
            )
            part.collect(back, own, of_b=False)
            part.collect(low, gradient, of_b=True)
            part.widen(x, back, prepared[0])
            part.widen(g, low, prepared[1])
        except (RuntimeError, ValueError, TypeError, AttributeError):
            return PaddedPart
        results.append([x, g, a_gradient, b_gradient])
    agree = all(
        torch.allclose(one.float(), other.float(), rtol=0.05, atol=0.5)
        for one, other in zip(*results, strict=True)
    )
    return GroupedPart if agree else PaddedPart
