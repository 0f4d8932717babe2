"""Adapters of several slots in one pass, multiplied in every way that there is."""

from typing import Any

import pytest
import torch
from torch import nn
from transformers.pytorch_utils import Conv1D

from sweep.models.fused import Frozen, Part, adapt_backward, adapt_forward
from sweep.training.packed.joined import Adapter, Group, Groups, lay_side_by_side
from sweep.training.packed.layers import Member, Selection
from sweep.training.packed.products import GroupedPart, Joint, PaddedPart, Rows

INPUTS, OUTPUTS, RANK = 24, 16, 4
COUNTS = {"unlike": [9, 1, 14], "alike": [6, 6, 6], "single rows": [1, 1, 1]}
RANKS = (4, 2, 3)
SCALING = (2.0, 0.5, 1.5)


def build_layer(kind: str) -> nn.Module:
    layer = nn.Linear(INPUTS, OUTPUTS) if kind == "linear" else Conv1D(OUTPUTS, INPUTS)
    return layer.requires_grad_(False)


def draw_stacks() -> list[torch.Tensor]:
    """Return A and B^T of five slots and their gradients; what a rank leaves is zero."""
    a, b = torch.randn(5, RANK, INPUTS), torch.randn(5, RANK, OUTPUTS)
    for slot, rank in enumerate(RANKS, start=1):
        a[slot, rank:] = b[slot, rank:] = 0
    return [a, b, torch.zeros_like(a), torch.zeros_like(b)]


def run(base: nn.Module, parts: list[Part], x: torch.Tensor, g: torch.Tensor) -> list[Any]:
    result, saved = adapt_forward(Frozen.of(base), x, None, parts)
    found, _ = adapt_backward(saved, g, parts, (x.dtype, None), (True, False))
    return [result, found]


def run_plainly(
    base: nn.Module, stacks: list[torch.Tensor], counts: list[int], x: torch.Tensor, g: torch.Tensor
) -> list[torch.Tensor]:
    """Return result and gradients of x, A and B^T, by autograd, one slot after another."""
    leaves = [x.clone().requires_grad_(), *(s.clone().requires_grad_() for s in stacks[:2])]
    rows, a, b = leaves
    results = [
        base(part) + SCALING[k] * part @ a[k + 1].T @ b[k + 1]
        for k, part in enumerate(rows.split(counts))
    ]
    result = torch.cat(results)
    return [result.detach(), *torch.autograd.grad(result, leaves, g)]


def build_parts(kind: str, stacks: list[torch.Tensor], counts: list[int]) -> list[Part]:
    members = [
        Member(k + 1, RANKS[k], 2, SCALING[k], texts=count, tokens=count)
        for k, count in enumerate(counts)
    ]
    x = torch.empty(sum(counts), INPUTS)
    if kind == "as chosen on a CPU":
        return Selection(members).cut(x, x.dtype, Adapter(*stacks))
    made: Any = {"padded": PaddedPart, "grouped": GroupedPart}[kind]
    a, b, a_gradient, b_gradient = (stack[1:4] for stack in stacks)
    scaling, at = torch.tensor(SCALING).view(-1, 1, 1), Rows.of(counts, x.device)
    return [made(slice(None), a, b, scaling, a_gradient, b_gradient, at=at)]


@pytest.mark.parametrize("layer", ["linear", "conv1d"])
@pytest.mark.parametrize("counts", COUNTS.values(), ids=COUNTS)
@pytest.mark.parametrize("kind", ["as chosen on a CPU", "padded", "grouped"])
def test_each_slot_gets_what_its_own_adapter_gives(
    kind: str, counts: list[int], layer: str
) -> None:
    torch.manual_seed(0)
    base, stacks = build_layer(layer), draw_stacks()
    x, g = torch.randn(sum(counts), INPUTS), torch.randn(sum(counts), OUTPUTS)
    expected = run_plainly(base, stacks, counts, x, g)
    found = run(base, build_parts(kind, stacks, counts), x, g)
    for k, rank in enumerate(RANKS):  # the gradient of what a rank leaves is not looked at
        for gradient in (*expected[2:], *stacks[2:]):
            gradient[k + 1, rank:] = 0
    for one, other in zip(expected, [*found, *stacks[2:]], strict=True):
        torch.testing.assert_close(other, one, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("kind", ["as chosen on a CPU", "padded", "grouped"])
def test_gradients_add_up_over_passes_and_touch_no_other_slot(kind: str) -> None:
    counts, base, stacks = [5, 2, 9], build_layer("linear"), draw_stacks()
    x, g = torch.randn(16, INPUTS), torch.randn(16, OUTPUTS)
    run(base, build_parts(kind, stacks, counts), x, g)
    once = [stack.clone() for stack in stacks[2:]]
    run(base, build_parts(kind, stacks, counts), x, g)
    for first, second in zip(once, stacks[2:], strict=True):
        torch.testing.assert_close(second, 2 * first)
        assert not second[0].any() and not second[4].any()


@pytest.mark.parametrize("kind", ["as chosen on a CPU", "padded", "grouped"])
def test_what_is_not_finite_stays_in_its_slot(kind: str) -> None:
    counts, base, stacks = [5, 2, 9], build_layer("linear"), draw_stacks()
    x, g = torch.randn(16, INPUTS), torch.randn(16, OUTPUTS)
    x[5:7], g[5:7], stacks[0][2] = torch.nan, torch.inf, torch.nan
    result, gradient = run(base, build_parts(kind, stacks, counts), x, g)
    for values in (result, gradient):
        assert values[:5].isfinite().all() and values[7:].isfinite().all()
    for stack in stacks[2:]:
        assert stack[[0, 1, 3, 4]].isfinite().all()


def test_slots_that_are_no_neighbors_have_a_part_each() -> None:
    stacks = draw_stacks()
    members = [Member(slot, 2, 2, 1.0, texts=1, tokens=3) for slot in (0, 3)]
    parts = Selection(members).cut(torch.empty(6, INPUTS), torch.float32, Adapter(*stacks))
    assert [part.rows for part in parts] == [slice(0, 3), slice(3, 6)]
    assert all(torch.equal(p.a, stacks[0][s, :2]) for p, s in zip(parts, (0, 3), strict=True))


SIZES = (16, 8, 4)


def build_layers() -> tuple[list[nn.Linear], list[Adapter]]:
    """Return layers with the same input, as they lie in a pack."""
    layers = [nn.Linear(INPUTS, size).requires_grad_(False) for size in SIZES]
    lay_side_by_side(layers)
    width = len(SIZES) * INPUTS + sum(SIZES)
    weights, gradients = torch.randn(5, RANK, width + 7), torch.zeros(5, RANK, width + 7)
    for slot, rank in enumerate(RANKS, start=1):
        weights[slot, rank:] = 0
    cuts = [INPUTS] * len(SIZES) + list(SIZES)
    views = [torch.split(stack[..., 5 : 5 + width], cuts, 2) for stack in (weights, gradients)]
    adapters = [
        Adapter(views[0][k], views[0][k + 3], views[1][k], views[1][k + 3]) for k in range(3)
    ]
    return layers, adapters


def join(layers: list[nn.Linear], adapters: list[Adapter]) -> Group:
    group = Groups().find((0, 1, 2), layers, adapters)
    assert group is not None
    return group


@pytest.mark.parametrize("kind", [PaddedPart, GroupedPart])
@pytest.mark.parametrize("counts", COUNTS.values(), ids=COUNTS)
def test_layers_joined_give_what_they_give_by_themselves(counts: list[int], kind: Any) -> None:
    torch.manual_seed(0)
    layers, adapters = build_layers()
    x, g = torch.randn(sum(counts), INPUTS), torch.randn(sum(counts), sum(SIZES))
    runs = [
        run_plainly(layer, adapter.stacks[:2], counts, x, own)
        for layer, adapter, own in zip(layers, adapters, g.split(SIZES, 1), strict=True)
    ]
    group = join(layers, adapters)
    scaling = torch.tensor(SCALING).view(-1, 1, 1)
    outputs, (a, b, *gradients) = group.adapter.outputs, group.adapter.stacks
    joint = Joint(outputs.owners, scaling[..., None] * outputs.own)
    rows = Rows.of(counts, x.device)
    a, b, *gradients = (stack[1:4] for stack in (a, b, *gradients))
    part = kind(slice(None), a, b, scaling, *gradients, at=rows, joint=joint)
    result, saved = adapt_forward(group.frozen, x, None, [part])
    found, _ = adapt_backward(saved, g, [part], (x.dtype, None), (True, False))
    torch.testing.assert_close(result, torch.cat([each[0] for each in runs], 1))
    torch.testing.assert_close(found, sum(each[1] for each in runs), rtol=1e-4, atol=1e-5)
    for adapter, (_, _, *expected) in zip(adapters, runs, strict=True):
        for own, other in zip(adapter.stacks[2:], expected, strict=True):
            for k, rank in enumerate(RANKS):
                torch.testing.assert_close(
                    own[k + 1, :rank], other[k + 1, :rank], rtol=1e-4, atol=1e-5
                )
            assert not own[0].any() and not own[4].any()


def test_layers_that_do_not_lie_side_by_side_are_not_joined() -> None:
    layers, adapters = build_layers()
    apart = [nn.Linear(INPUTS, size).requires_grad_(False) for size in SIZES]
    assert Groups().find((0, 1, 2), apart, adapters) is None
    assert Groups().find((2, 1, 0), layers[::-1], adapters[::-1]) is None
    layers[1].bias = nn.Parameter(torch.zeros(SIZES[1]))
    assert Groups().find((0, 1, 2), layers, adapters) is None
    layers[1].bias = None  # type: ignore[assignment]
    assert Groups().find((0, 1, 2), layers, adapters) is None


def test_laying_weights_side_by_side_keeps_their_values() -> None:
    layers = [nn.Linear(INPUTS, size) for size in SIZES]
    before = [value.clone() for layer in layers for value in (layer.weight, layer.bias)]
    lay_side_by_side(layers)
    after = [value for layer in layers for value in (layer.weight, layer.bias)]
    assert all(torch.equal(*pair) for pair in zip(before, after, strict=True))
    assert len({layer.weight.untyped_storage().data_ptr() for layer in layers}) == 1
