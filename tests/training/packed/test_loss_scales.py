"""Packed trials in float16: each has a loss scale of its own."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from sweep.data import Subsets
from sweep.models.tiny_configs import TINY_FAMILIES
from sweep.plan import Candidate, Capacity, Cell, ModelRef, Plan, TrialSpec
from sweep.training.loss_scale import BACKOFF, GOOD_STEPS, GROWTH, GROWTH_STEPS, SCALE
from sweep.training.packed.engine import PackedEngine
from sweep.training.packed.loss_scales import LossScales
from sweep.training.packed.stacks import LayerShape, Place, Stacks, StackShape, Step, StepSettings
from sweep.training.packed.trial import PackedTrial
from sweep.training.solo import SoloEngine

pytestmark = pytest.mark.usefixtures("one_thread")

HUGE = 2.0**60


@pytest.fixture(scope="module")
def models_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("models")


def build_specs(plan: Plan, subsets: Subsets, family: str, count: int) -> list[TrialSpec]:
    """Return trials that differ in rank, labels and seed."""
    model = ModelRef("tiny", f"tiny:{family}", f"{family}-v1")
    recipe = replace(plan.trials[0].recipe, dtype="float16", max_epochs=3, patience=None)
    specs = []
    for i in range(count):
        labels, rank = (2, 4)[i % 2], (4, 8, 2)[i % 3]
        cell = Cell(f"cell{i}", "tiny", labels, subsets.labels_for(labels), 32, i)
        candidate = Candidate(i, rank, 2.0 * rank, 5e-3, 0.0, 0.01)
        specs.append(TrialSpec(f"trial{i:02}", cell, candidate, model, recipe, "data"))
    return specs


def build_engine(subsets: Subsets, models_folder: Path) -> PackedEngine:
    return PackedEngine(subsets, models_folder, {"tiny": Capacity(3, 8, 4)})


def start(engine: PackedEngine | SoloEngine, spec: TrialSpec, folder: Path, epoch: int = 0) -> Any:
    engine.start(spec, folder / spec.trial_id, epoch)
    if isinstance(engine, SoloEngine):
        return engine._trial
    assert engine._trainer is not None
    return engine._trainer.trials[spec.trial_id]


def plant_scale(trial: Any, scale: float) -> None:
    trial.load_optimizer_state({SCALE: torch.tensor(scale), GOOD_STEPS: torch.tensor(0)})


def run_epoch(engine: PackedEngine, *trials: PackedTrial) -> list[dict[str, Any]]:
    """Train an epoch of each of ``trials``; return their metrics."""
    outcomes: dict[str, Any] = {}
    for trial in trials:
        engine.begin_epoch(trial.spec.trial_id)
    while engine.busy:
        outcomes |= engine.advance()
    assert all(isinstance(outcome, dict) for outcome in outcomes.values()), outcomes
    return [outcomes[trial.spec.trial_id] for trial in trials]


def copy_state(trial: Any) -> dict[str, torch.Tensor]:
    state = dict(trial.trainable_weights()) | trial.optimizer_state()
    return {name: value.detach().clone() for name, value in state.items()}


@pytest.mark.parametrize("family", TINY_FAMILIES)
def test_packed_trials_in_float16_are_those_of_the_solo_engine(
    plan: Plan, subsets: Subsets, models_folder: Path, tmp_path: Path, family: str
) -> None:
    engine, solo = (
        build_engine(subsets, models_folder),
        SoloEngine(subsets, models_folder),
    )
    specs = build_specs(plan, subsets, family, 3)
    packed = [start(engine, spec, tmp_path / "packed") for spec in specs]
    # The first steps of one trial overflow, in either engine the same ones.
    plant_scale(packed[1], 2.0**24)
    curves = [run_epoch(engine, *packed) for _ in range(3)]
    for number, spec in enumerate(specs):
        alone = start(solo, spec, tmp_path / "solo")
        if number == 1:
            plant_scale(alone, 2.0**24)
        expected = [solo.run_epoch() for _ in range(3)]
        for one, other in zip(expected, curves, strict=True):
            assert other[number]["train_loss"] == pytest.approx(one["train_loss"], rel=0.01)
            assert other[number]["val_loss"] == pytest.approx(one["val_loss"], rel=0.01)
        assert packed[number].loss_scale() == alone.loss_scale()
        solo.close()


def test_overflow_in_one_slot_reaches_no_other(
    plan: Plan, subsets: Subsets, models_folder: Path, tmp_path: Path
) -> None:
    states = []
    for scale in (1024.0, HUGE):
        engine = build_engine(subsets, models_folder)
        specs = build_specs(plan, subsets, "llama", 3)
        trials = [start(engine, spec, tmp_path / f"{scale}") for spec in specs]
        plant_scale(trials[1], scale)
        before = copy_state(trials[1])
        run_epoch(engine, *trials)
        states.append([copy_state(trial) for trial in (trials[0], trials[2])])
    for calm, beside in zip(*states, strict=True):
        assert [name for name in calm if not torch.equal(calm[name], beside[name])] == []
    after = copy_state(trials[1])
    assert (before.pop(SCALE), after.pop(SCALE)) == (HUGE, HUGE * BACKOFF**4)
    assert [name for name in before if not torch.equal(before[name], after[name])] == []


@pytest.mark.parametrize("packed_first", [True, False])
def test_either_engine_resumes_the_scale_of_the_other(
    plan: Plan, subsets: Subsets, models_folder: Path, tmp_path: Path, packed_first: bool
) -> None:
    (spec,) = build_specs(plan, subsets, "llama", 1)
    engine, solo = (
        build_engine(subsets, models_folder),
        SoloEngine(subsets, models_folder),
    )
    first, second = (engine, solo) if packed_first else (solo, engine)
    trial = start(first, spec, tmp_path)
    plant_scale(trial, 2.0**19)
    run_epoch(engine, trial) if packed_first else solo.run_epoch()
    state, resumed = trial.optimizer_state(), start(second, spec, tmp_path, 1).optimizer_state()
    assert state.keys() == resumed.keys()
    assert [name for name in state if not torch.equal(state[name], resumed[name])] == []
    assert state[GOOD_STEPS] > 0


def test_trial_in_a_slot_that_another_had_starts_with_a_new_scale(
    plan: Plan, subsets: Subsets, models_folder: Path, tmp_path: Path
) -> None:
    engine = build_engine(subsets, models_folder)
    first, second, third = build_specs(plan, subsets, "llama", 3)
    start(engine, first, tmp_path)
    trial = start(engine, second, tmp_path)
    plant_scale(trial, 8.0)
    engine.close(second.trial_id)
    engine.close(first.trial_id)
    newcomer = start(engine, third, tmp_path)
    successor = start(engine, first, tmp_path)
    assert (newcomer.slot, successor.slot, trial.slot) == (0, 1, 1)
    assert (newcomer.loss_scale(), successor.loss_scale()) == (2.0**16, 2.0**16)


def test_scales_change_as_those_of_pytorch() -> None:
    scales = LossScales(2, torch.device("cpu"))
    scales.good_steps[0] = GROWTH_STEPS - 3
    expected = [(scales.scales[k].clone(), scales.good_steps[k].clone()) for k in range(2)]
    for step in range(6):
        overflowed = torch.tensor([step == 4, step == 1])
        scales.update([0, 1], overflowed)
        for k, (scale, tracker) in enumerate(expected):
            found = overflowed[k].float()
            torch._amp_update_scale_(scale, tracker, found, GROWTH, BACKOFF, GROWTH_STEPS)
            assert (scales.scales[k], scales.good_steps[k]) == (scale, tracker)
    assert scales.scales.tolist() == [2.0**16, 2.0**15]


def test_slot_without_a_step_keeps_its_scale() -> None:
    scales = LossScales(2, torch.device("cpu"))
    scales.update([1], torch.tensor([True, True]))
    assert scales.scales.tolist() == [2.0**16, 2.0**15]


def take_steps(stacks: Stacks, steps: dict[Place, StepSettings]) -> None:
    assert list(Step(stacks, steps).take_all()) == list(steps)


@pytest.mark.parametrize("gradient", [torch.inf, torch.nan])
def test_slot_with_an_overflowed_gradient_stays_bitwise_as_it_is(gradient: float) -> None:
    shape = StackShape((LayerShape("layer", 3, 3),), 3, 2, 2)
    stacks = Stacks(shape, 2, torch.device("cpu"), scaled=True)
    settings = StepSettings(0.1, 0.1, 1.0)
    steps = {Place(slot, 2, 2): settings for slot in range(2)}
    for value in (0.5, 0.25):
        stacks.weights.fill_(value)
        stacks.gradients.fill_(value)
        take_steps(stacks, steps)
    parts = (stacks.weights, stacks.means, stacks.squares, stacks.steps)
    before = [part.clone() for part in parts]
    stacks.gradients.fill_(1.0)[0, 1] = gradient
    take_steps(stacks, steps)
    assert all(torch.equal(part[0], old[0]) for part, old in zip(parts, before, strict=True))
    assert not any(torch.equal(part[1], old[1]) for part, old in zip(parts, before, strict=True))
