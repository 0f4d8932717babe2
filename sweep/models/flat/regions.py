"""What a decoder's block does before and after its attention, as functions of tensors alone.

These are what `torch.compile` takes: plain formulas, which Inductor fuses forward and backward.
Attention between them stays as it is: it loops over rectangles, or is a kernel of its own. Weights
are arguments, so one compiled function serves all blocks, and every trial: rows and ranks are
dynamic, and nothing else differs between blocks.
"""

from collections.abc import Callable
from functools import partial
from typing import NamedTuple

import torch
from torch.nn import functional

from sweep.models.flat.rotary import Rotation

# By the names that configurations of transformers have for them.
ACTIVATIONS: dict[str, Callable[[torch.Tensor], torch.Tensor]] = {
    "silu": functional.silu,
    "gelu": functional.gelu,
    "gelu_new": partial(functional.gelu, approximate="tanh"),
    "gelu_pytorch_tanh": partial(functional.gelu, approximate="tanh"),
}


class Lora(NamedTuple):
    """An adapter: A (rank, inputs), B (outputs, rank) and a ``scaling`` of no dimension."""

    a: torch.Tensor
    b: torch.Tensor
    scaling: torch.Tensor


class Linear(NamedTuple):
    """A linear layer: ``weight`` (outputs, inputs) or, ``transposed``, (inputs, outputs)."""

    weight: torch.Tensor
    bias: torch.Tensor | None
    transposed: bool = False
    lora: Lora | None = None


class Norm(NamedTuple):
    """An RMS norm by ``weight`` plus ``offset`` or, with a ``bias``, a layer norm."""

    weight: torch.Tensor
    bias: torch.Tensor | None
    epsilon: float
    offset: float = 0.0


class Entry(NamedTuple):
    """What comes before attention. ``projections`` are those to queries, keys and values, or one to
    all three; ``size`` is that of a head."""

    norm: Norm
    projections: tuple[Linear, ...]
    size: int
    head_norms: tuple[Norm, Norm] | None = None


class Exit(NamedTuple):
    """What comes after attention. Gemma 3 has norms of what attention and the feed-forward give,
    GPT-2 no gate; ``activation`` is one of `ACTIVATIONS`."""

    out: Linear
    before: Norm
    up: Linear
    down: Linear
    activation: str
    gate: Linear | None = None
    of_mixed: Norm | None = None
    of_inner: Norm | None = None


def enter(
    hidden: torch.Tensor, rotation: Rotation | None, entry: Entry
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Return queries, keys and values (tokens, heads, size) of ``hidden`` (tokens, width)."""
    normed = _normalize(hidden, entry.norm)
    projected = _multiply(normed, *entry.projections)
    if len(projected) == 1:
        projected = list(projected[0].chunk(3, -1))
    queries, keys, values = (each.view(len(each), -1, entry.size) for each in projected)
    if entry.head_norms is not None:
        queries = _normalize(queries, entry.head_norms[0])
        keys = _normalize(keys, entry.head_norms[1])
    if rotation is not None:
        queries, keys = _rotate(queries, rotation), _rotate(keys, rotation)
    return queries, keys, values


def leave(hidden: torch.Tensor, mixed: torch.Tensor, exit_: Exit) -> torch.Tensor:
    """Return a block's output (tokens, width) from its input ``hidden`` and what its attention
    gives, ``mixed`` (tokens, heads x size)."""
    (mixed,) = _multiply(mixed, exit_.out)
    if exit_.of_mixed is not None:
        mixed = _normalize(mixed, exit_.of_mixed)
    hidden = hidden + mixed
    normed = _normalize(hidden, exit_.before)
    activate = ACTIVATIONS[exit_.activation]
    if exit_.gate is None:
        inner = activate(*_multiply(normed, exit_.up))
    else:
        gated, inner = _multiply(normed, exit_.gate, exit_.up)
        inner = activate(gated) * inner
    (inner,) = _multiply(inner, exit_.down)
    if exit_.of_inner is not None:
        inner = _normalize(inner, exit_.of_inner)
    return hidden + inner


def _multiply(x: torch.Tensor, *layers: Linear) -> list[torch.Tensor]:
    """Return what each of ``layers`` gives for ``x`` (rows, inputs): (rows, outputs) each."""
    dtype = layers[0].weight.dtype
    x = x.to(dtype)
    scaled = [layer.lora.a * layer.lora.scaling for layer in layers if layer.lora]
    if scaled:
        # One product for all A, in the order that is fast on CPUs too (see ``fused.Part.narrow``);
        # the factor is part of what puts them together.
        low = torch.cat(scaled).to(dtype) @ x.mT
        lows = iter(torch.split_with_sizes(low, [len(a) for a in scaled]))
    results = []
    for layer in layers:
        weight = layer.weight.mT if layer.transposed else layer.weight
        result = functional.linear(x, weight, layer.bias)
        if layer.lora:
            result = result + next(lows).mT @ layer.lora.b.to(dtype).mT
        results.append(result)
    return results


def _normalize(x: torch.Tensor, norm: Norm) -> torch.Tensor:
    if norm.bias is not None:
        return functional.layer_norm(x, x.shape[-1:], norm.weight, norm.bias, norm.epsilon)
    wide = x.float()
    inverse = torch.rsqrt(wide.square().mean(-1, keepdim=True) + norm.epsilon)
    return (wide * inverse * (norm.weight.float() + norm.offset)).to(x.dtype)


def _rotate(x: torch.Tensor, rotation: Rotation) -> torch.Tensor:
    cosines, sines = (part.chunk(2, -1)[0] for part in rotation)
    first, second = x.chunk(2, -1)
    turned = (first * cosines - second * sines, second * cosines + first * sines)
    return torch.cat(turned, -1)
