"""The optimizer of all slots in one launch. Triton's interpreter runs the kernel without a GPU."""

import importlib.util
import sys
from collections.abc import Mapping
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import row_updates
import torch

import sweep.training.packed
from sweep.training.optimizer import BETAS, EPSILON
from sweep.training.packed import stacks as stacks_module
from sweep.training.packed.stacks import LayerShape, Place, Stacks, StackShape, Step, StepSettings

NAME = "sweep.training.packed.row_kernel"
# Wider than two programs, and no multiple of any power of 2.
SHAPE = StackShape((LayerShape("a", 301, 402), LayerShape("b", 102, 203)), 7, 5, 3)
# The middle one of five slots never takes part.
SETTINGS = {
    Place(0, 5, 3): StepSettings(1e-2, 0.0, 1.0),
    Place(1, 1, 2): StepSettings(3e-3, 0.1, 0.05),
    Place(3, 3, 3): StepSettings(5e-4, 0.01, torch.inf),
    Place(4, 0, 3): StepSettings(2e-2, 0.3, 1e3),
}
# Which of them step, and which of those overflow.
TURNS = (
    ((0, 1, 3, 4), ()),
    ((1, 3), ()),
    ((0, 1, 4), (4,)),
    ((3, 4), (3, 4)),
    ((0, 1, 3, 4), (1,)),
    ((4,), ()),
    ((0, 1, 3, 4), ()),
)
CPU = torch.device("cpu")


@pytest.fixture
def kernel(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """Return a copy of the kernel's module that Triton interprets."""
    pytest.importorskip("triton", reason="Triton is not installed")
    monkeypatch.setenv("TRITON_INTERPRET", "1")
    path = Path(sweep.training.packed.__path__[0]) / "row_kernel.py"
    spec = importlib.util.spec_from_file_location("interpreted_row_kernel", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def build_stacks(scaled: bool = False, update: Any = None, device: torch.device = CPU) -> Stacks:
    """Return stacks whose weights are drawn, and what nobody uses of them, too."""
    stacks = Stacks(SHAPE, 5, device, scaled)
    generator = torch.Generator().manual_seed(0)
    stacks.weights.copy_(torch.rand(stacks.weights.shape, generator=generator) - 0.5)
    stacks.update_rows = update
    return stacks


def draw_gradients(stacks: Stacks, turn: int) -> None:
    generator = torch.Generator().manual_seed(turn)
    stacks.gradients.zero_()
    for place in SETTINGS:
        row = stacks.row("gradients", place)
        row.copy_(torch.randn(row.shape, generator=generator) * 10.0 ** (turn - 3))
    if stacks.loss_scales is not None:
        stacks.gradients.mul_(stacks.loss_scales.scales[:, None])


def take_turns(stacks: Stacks, overflows: bool = False) -> None:
    for turn, (slots, overflowed) in enumerate(TURNS):
        draw_gradients(stacks, turn)
        if overflows:
            stacks.gradients[list(overflowed), 5] = (torch.inf, torch.nan)[turn % 2]
        steps = {place: step for place, step in SETTINGS.items() if place.slot in slots}
        assert list(Step(stacks, steps).take_all()) == list(steps)


def copy_stacks(stacks: Stacks) -> dict[str, torch.Tensor]:
    names = ("weights", "means", "squares", "steps")
    return {name: getattr(stacks, name).clone() for name in names}


def train_with_adamw() -> Mapping[Place, tuple[torch.Tensor, dict[str, torch.Tensor]]]:
    """Return what PyTorch's own optimizer and clipping, in float64, make of each slot in ``TURNS``:
    in float32 its rounding is of the size of the kernel's."""
    stacks, trained = build_stacks(), {}
    for place, step in SETTINGS.items():
        weights = torch.nn.Parameter(stacks.row("weights", place).double())
        optimizer = torch.optim.AdamW(
            [weights], step.learning_rate, BETAS, EPSILON, step.weight_decay
        )
        for turn, (slots, _) in enumerate(TURNS):
            if place.slot in slots:
                draw_gradients(stacks, turn)
                weights.grad = stacks.row("gradients", place).double()
                torch.nn.utils.clip_grad_norm_([weights], step.max_grad_norm)
                optimizer.step()
        trained[place] = (weights.detach(), optimizer.state[weights])
    return trained


def test_one_launch_steps_each_slot_as_adamw_steps_it_alone(kernel: ModuleType) -> None:
    stacks = build_stacks(update=kernel.update_rows)
    take_turns(stacks)
    for place, (weights, state) in train_with_adamw().items():
        found = stacks.row("weights", place).double()
        torch.testing.assert_close(found, weights, rtol=0, atol=2.4e-7)
        for name, key in (("means", "exp_avg"), ("squares", "exp_avg_sq")):
            row, largest = stacks.row(name, place).double(), float(state[key].abs().max())
            torch.testing.assert_close(row, state[key], rtol=0, atol=2.4e-7 * largest)
        assert stacks.steps[place.slot] == state["step"]


@pytest.mark.parametrize("scaled", [False, True])
def test_one_launch_gives_what_a_launch_for_each_slot_does(
    kernel: ModuleType, scaled: bool
) -> None:
    each, together = build_stacks(scaled), build_stacks(scaled, kernel.update_rows)
    for stacks in (each, together):
        take_turns(stacks, overflows=scaled)
    found = copy_stacks(together)
    for name, expected in copy_stacks(each).items():
        torch.testing.assert_close(found[name], expected, rtol=1e-6, atol=2.4e-7)
    assert torch.equal(together.steps, each.steps)
    assert together.steps.tolist() == ([4, 4, 0, 4, 4] if scaled else [4, 5, 0, 5, 6])


@pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no GPU here")
@pytest.mark.parametrize("scaled", [False, True])
def test_gpu_takes_one_launch_for_what_a_launch_for_each_slot_does(scaled: bool) -> None:
    gpu = torch.device("cuda", torch.cuda.current_device())
    kernel = Stacks(SHAPE, 5, gpu, scaled).update_rows
    assert kernel is not None
    each, together = (build_stacks(scaled, update, gpu) for update in (None, kernel))
    for stacks in (each, together):
        take_turns(stacks, overflows=scaled)
    found = copy_stacks(together)
    for name, expected in copy_stacks(each).items():
        torch.testing.assert_close(found[name], expected, rtol=1e-6, atol=2.4e-7)


@pytest.mark.filterwarnings("ignore:invalid value:RuntimeWarning")
def test_gradient_that_is_not_a_number_reaches_all_of_its_slot_and_no_other(
    kernel: ModuleType,
) -> None:
    each, together = build_stacks(), build_stacks(update=kernel.update_rows)
    for stacks in (each, together):
        take_turns(stacks, overflows=True)
    for one, other in zip(each.weights, together.weights, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-6, atol=2.4e-7, equal_nan=True)
    assert together.weights.isnan().any(1).tolist() == [False, True, False, True, True]


@pytest.mark.parametrize("scaled", [False, True])
def test_what_takes_no_step_stays_bitwise_as_it_is(kernel: ModuleType, scaled: bool) -> None:
    stacks = build_stacks(scaled, kernel.update_rows)
    take_turns(stacks)
    before = copy_stacks(stacks)
    draw_gradients(stacks, 0)
    if scaled:
        stacks.gradients[1, 3] = torch.inf
    stepping = {place: step for place, step in SETTINGS.items() if place.slot in (0, 1, 3)}
    list(Step(stacks, stepping).take_all())
    stepped = [place for place in stepping if not (scaled and place.slot == 1)]
    for name, found in copy_stacks(stacks).items():
        changed = torch.zeros_like(found, dtype=torch.bool)
        for place in stepped:
            used = () if name == "steps" else (slice(SHAPE.used(place.rank)),)
            changed[place.slot, *used] = True
        assert torch.equal(found[~changed], before[name][~changed]), name
        assert not torch.equal(found[changed], before[name][changed]), name


def test_launch_for_which_memory_is_short_leaves_all_as_it_is() -> None:
    def fail(*arguments: Any) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory")

    stacks = build_stacks(update=fail)
    before = copy_stacks(stacks)
    draw_gradients(stacks, 0)
    step = Step(stacks, SETTINGS)
    with pytest.raises(torch.OutOfMemoryError):
        next(step.take_all())
    after = copy_stacks(stacks)
    assert [name for name in before if not torch.equal(before[name], after[name])] == []


def choose(stacks: Stacks, kernel: Any, monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.setitem(sys.modules, NAME, kernel)
    return stacks_module._choose_update(stacks)


@pytest.mark.parametrize("scaled", [False, True])
def test_kernel_that_works_is_chosen_and_leaves_no_trace(
    kernel: ModuleType, monkeypatch: pytest.MonkeyPatch, scaled: bool
) -> None:
    stacks = Stacks(SHAPE, 5, CPU, scaled)
    assert choose(stacks, kernel, monkeypatch) is kernel.update_rows
    tensors = (stacks.weights, stacks.gradients, *copy_stacks(stacks).values())
    assert not any(tensor.any() for tensor in tensors)


def fail_to_compile(*arguments: Any) -> None:
    raise RuntimeError("Failed to find C compiler.\nSee the manual.")


def do_nothing(*arguments: Any) -> None: ...


@pytest.mark.parametrize(
    ("update", "reason"),
    [(fail_to_compile, "Failed to find C compiler.$"), (do_nothing, "not close")],
)
def test_kernel_that_fails_or_differs_is_not_used(
    monkeypatch: pytest.MonkeyPatch, update: Any, reason: str
) -> None:
    stacks = Stacks(SHAPE, 5, CPU)
    broken = ModuleType(NAME)
    broken.update_rows = update  # type: ignore[attr-defined]
    with pytest.warns(UserWarning, match=f"steps one slot at a time: .*{reason}"):
        assert choose(stacks, broken, monkeypatch) is None
    assert not stacks.weights.any()


def test_memory_that_runs_out_while_a_kernel_is_tried_is_told(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def fail(*arguments: Any) -> None:
        raise RuntimeError("Triton Error [CUDA]: out of memory")

    broken = ModuleType(NAME)
    broken.update_rows = fail  # type: ignore[attr-defined]
    with pytest.raises(RuntimeError, match="out of memory"):
        choose(Stacks(SHAPE, 5, CPU), broken, monkeypatch)


def test_stand_in_of_other_tests_does_what_the_kernel_does(kernel: ModuleType) -> None:
    updates = (kernel.update_rows, row_updates.update_rows)
    found, expected = (build_stacks(True, update) for update in updates)
    for stacks in (found, expected):
        take_turns(stacks, overflows=True)
    for one, other in zip(*(copy_stacks(each).values() for each in (found, expected)), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-6, atol=2.4e-7)


@pytest.mark.parametrize("capability", [75, 80, 90])
def test_kernel_compiles_for_gpus_that_are_not_here(
    capability: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    triton = pytest.importorskip("triton", reason="Triton is not installed")
    from triton.backends.compiler import GPUTarget

    from sweep.training.packed.row_kernel import CONSTANTS, adamw_rows

    monkeypatch.setenv("TRITON_CACHE_DIR", str(tmp_path))
    types = {name: "constexpr" if name in CONSTANTS else "*fp32" for name in adamw_rows.arg_names}
    types |= {"settings": "*fp64", "first": "i32", "width": "i32"}
    source = triton.compiler.ASTSource(adamw_rows, types, CONSTANTS)
    compiled = triton.compile(source, target=GPUTarget("cuda", capability, 32))
    assert f".target sm_{capability}" in compiled.asm["ptx"]
    assert ".local" not in compiled.asm["ptx"]
    assert len(compiled.asm["cubin"]) > 1000
