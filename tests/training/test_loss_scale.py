"""Trials in float16: their loss is scaled, and a step whose gradients overflow is skipped."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from sweep.data import Subsets
from sweep.plan import Candidate, Plan, TrialSpec
from sweep.training.checkpoint import Tensors
from sweep.training.loss_scale import GOOD_STEPS, INITIAL_SCALE, SCALE
from sweep.training.solo import SoloEngine, SoloTrial

pytestmark = pytest.mark.usefixtures("one_thread")

TIMES = ("train_seconds", "eval_seconds", "totals")


@pytest.fixture(scope="module")
def models_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("models")


@pytest.fixture
def spec(plan: Plan) -> TrialSpec:
    last = plan.trials[-1]
    return replace(last, recipe=replace(last.recipe, dtype="float16"))


@pytest.fixture
def engine(subsets: Subsets, models_folder: Path) -> SoloEngine:
    return SoloEngine(subsets, models_folder)


def start(engine: SoloEngine, spec: TrialSpec, folder: Path, scale: float) -> SoloTrial:
    """Start ``spec`` with a loss scale other than the usual one."""
    engine.start(spec, folder)
    trial = engine._trial
    trial.load_optimizer_state({SCALE: torch.tensor(scale), GOOD_STEPS: torch.tensor(0)})
    return trial


def run(engine: SoloEngine, count: int) -> list[dict[str, Any]]:
    epochs = [engine.run_epoch() for _ in range(count)]
    return [{k: v for k, v in epoch.items() if k not in TIMES} for epoch in epochs]


def copy_state(trial: SoloTrial) -> Tensors:
    """Return copies of weights and of AdamW's state."""
    state = dict(trial.trainable_weights()) | trial.optimizer_state()
    return {name: value.detach().clone() for name, value in state.items()}


def assert_equal(one: Tensors, other: Tensors) -> None:
    assert one.keys() == other.keys()
    assert [name for name in one if not torch.equal(one[name], other[name])] == []


@pytest.mark.parametrize(("dtype", "scale"), [("float16", INITIAL_SCALE), ("bfloat16", None)])
def test_only_losses_in_float16_are_scaled(
    engine: SoloEngine, spec: TrialSpec, tmp_path: Path, dtype: str, scale: float | None
) -> None:
    engine.start(replace(spec, recipe=replace(spec.recipe, dtype=dtype)), tmp_path)
    assert engine._trial.loss_scale() == scale
    assert (SCALE in engine._trial.optimizer_state()) == (scale is not None)


def test_trial_in_float16_has_the_curve_of_float32(
    engine: SoloEngine, spec: TrialSpec, subsets: Subsets, models_folder: Path, tmp_path: Path
) -> None:
    exact = SoloEngine(subsets, models_folder)
    exact.start(replace(spec, recipe=replace(spec.recipe, dtype="float32")), tmp_path / "exact")
    assert engine.start(spec, tmp_path)["dtype"] == "float16"
    losses = [[epoch["train_loss"] for epoch in run(each, 3)] for each in (exact, engine)]
    assert losses[1] == pytest.approx(losses[0], rel=0.02)


def test_overflow_skips_a_step_and_halves_the_scale(
    engine: SoloEngine, spec: TrialSpec, tmp_path: Path
) -> None:
    trial = start(engine, spec, tmp_path, 2.0**60)
    trial._step([0, 1])
    before = copy_state(trial)
    loss = trial._step([2, 3])
    after = copy_state(trial)
    assert loss.isfinite()
    assert (before.pop(SCALE), after.pop(SCALE)) == (2.0**59, 2.0**58)
    assert_equal(before, after)


@pytest.mark.parametrize("method", ["lora", "full"])
def test_resumed_trial_is_bitwise_the_undisturbed_one(
    subsets: Subsets, models_folder: Path, spec: TrialSpec, tmp_path: Path, method: Any
) -> None:
    if method == "full":
        candidate = Candidate(0, None, None, 1e-3, None, 0.01)
        spec = replace(spec, model=replace(spec.model, method="full"), candidate=candidate)
    whole, first, second = (SoloEngine(subsets, models_folder) for _ in range(3))
    # So large that the first steps overflow.
    undisturbed = start(whole, spec, tmp_path / "whole", 2.0**24)
    expected = run(whole, 2)
    start(first, spec, tmp_path / "cut", 2.0**24)
    run(first, 1)
    assert second.start(spec, tmp_path / "cut", resume_epoch=1)["resumed_epoch"] == 1
    assert INITIAL_SCALE < (second._trial.loss_scale() or 0.0) < 2.0**24
    assert run(second, 1) == expected[1:]
    assert_equal(copy_state(second._trial), copy_state(undisturbed))
    assert undisturbed.optimizer_state()[GOOD_STEPS] > 0


def test_checkpoint_without_a_scale_begins_with_the_usual_one(
    subsets: Subsets, models_folder: Path, spec: TrialSpec, tmp_path: Path
) -> None:
    first, second = (SoloEngine(subsets, models_folder) for _ in range(2))
    first.start(replace(spec, recipe=replace(spec.recipe, dtype="float32")), tmp_path)
    run(first, 1)
    assert second.start(spec, tmp_path, resume_epoch=1)["resumed_epoch"] == 1
    assert second._trial.loss_scale() == INITIAL_SCALE


def test_trial_whose_gradients_overflow_at_any_scale_has_diverged(
    engine: SoloEngine, spec: TrialSpec, tmp_path: Path
) -> None:
    trial = start(engine, spec, tmp_path, 1.0)
    for _, value in trial._parameters():
        value.register_hook(lambda gradient: gradient * torch.inf)
    metrics = trial.run_epoch()
    assert metrics["status"] == "diverged"
    assert "gradients" in (metrics["error"] or "")
    assert (metrics["error"] or "").endswith("try train.dtype=float32")


def test_loss_that_is_not_finite_in_float16_names_the_remedy(
    engine: SoloEngine, spec: TrialSpec, tmp_path: Path
) -> None:
    engine.start(spec, tmp_path)
    with torch.no_grad():
        engine._trial._parameters()[0][1].fill_(1e9)
    metrics = engine.run_epoch()
    assert metrics["status"] == "diverged"
    assert "loss is not finite; float16 ends at 65,504" in (metrics["error"] or "")
