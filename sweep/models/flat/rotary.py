"""Rotary position embeddings (Su et al. 2021, arXiv:2104.09864) of flat rows."""

from collections.abc import Callable
from typing import Any

import torch

from sweep.models.flat.texts import FlatTexts

# Cosines and sines (tokens, 1, size), whose halves are alike.
Rotation = tuple[torch.Tensor, torch.Tensor]


def build_rotation(
    embed: Callable[..., Rotation], hidden: torch.Tensor, texts: FlatTexts, *kind: str
) -> Rotation:
    """Return the rotation by ``embed``, a model's module for rectangles of texts, which may ask for
    the ``kind`` of a layer; ``hidden`` (tokens, width) tells type and device."""
    cosines, sines = embed(hidden, texts.layout.positions[None], *kind)
    return cosines[0, :, None], sines[0, :, None]


def rotate(x: torch.Tensor, rotation: Rotation) -> torch.Tensor:
    """Return ``x`` (tokens, heads, size) with the halves of each head paired and turned by
    ``rotation``."""
    result: torch.Tensor = _Rotate.apply(x, *rotation)  # type: ignore[no-untyped-call]
    return result


class _Rotate(torch.autograd.Function):
    # Composed of PyTorch's operations, it takes eight of the full size forward and backward; this
    # takes two, and four of half the size.

    @staticmethod
    def forward(  # type: ignore[override]
        ctx: Any, x: torch.Tensor, cosines: torch.Tensor, sines: torch.Tensor
    ) -> torch.Tensor:
        ctx.save_for_backward(cosines, sines)
        return _turn(x, cosines, sines, 1.0)

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, gradient: torch.Tensor) -> tuple[torch.Tensor, None, None]:  # type: ignore[override]
        cosines, sines = ctx.saved_tensors
        return _turn(gradient, cosines, sines, -1.0), None, None


def _turn(
    x: torch.Tensor, cosines: torch.Tensor, sines: torch.Tensor, direction: float
) -> torch.Tensor:
    half = x.shape[-1] // 2
    result = x * cosines
    result[..., :half].addcmul_(x[..., half:], sines[..., :half], value=-direction)
    result[..., half:].addcmul_(x[..., :half], sines[..., half:], value=direction)
    return result
