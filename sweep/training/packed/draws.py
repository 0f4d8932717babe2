"""A trial's first weights, bit by bit as PEFT and transformers draw them, without attaching an
adapter to the model: in any thread, by a generator of their own."""

import math
from dataclasses import dataclass

import torch

from sweep.models.methods import ADAPTER
from sweep.seeds import derive_seed
from sweep.training.packed.stacks import Place, StackShape


@dataclass(frozen=True)
class FirstWeights:
    """How the first weights of a base model's trials are drawn; ``deviation`` is that of a new
    head, ``dtype`` the one that PEFT stores a new adapter in before it makes it float32."""

    shape: StackShape
    deviation: float
    dtype: torch.dtype

    def draw(self, seed: int, place: Place) -> torch.Tensor:
        """Return the first weights of a trial with ``seed``: what it uses of a slot.

        The order is that of the libraries: the head, which PyTorch initializes and then
        transformers; for each layer A and B, which PyTorch initializes, and A again, by PEFT.
        """
        generator = torch.Generator().manual_seed(derive_seed(seed, ADAPTER))
        row = torch.zeros(self.shape.used(place.rank))
        head, adapters = self.shape.cut_row(row, place)
        _draw_linear(head.shape, generator)
        head.copy_(torch.empty(head.shape).normal_(0.0, self.deviation, generator=generator))
        for a, b in zip(adapters[::2], adapters[1::2], strict=True):
            _draw_linear(a.shape, generator)
            _draw_linear(b.shape, generator)
            a.copy_(_draw_linear(a.shape, generator).to(self.dtype))
        return row


def _draw_linear(shape: torch.Size, generator: torch.Generator) -> torch.Tensor:
    """Return what ``nn.Linear.reset_parameters`` draws: He et al. 2015 (arXiv:1502.01852) with a
    negative slope of the square root of 5."""
    bound = math.sqrt(3.0) * math.sqrt(2.0 / (1 + 5)) / math.sqrt(shape[1])
    return torch.empty(shape).uniform_(-bound, bound, generator=generator)
