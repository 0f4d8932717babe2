"""Memory that runs out, wherever a pack needs some: the trial concerned may fail, and all is as if
it had not been tried."""

import weakref
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import row_updates
import torch

from sweep.data import Subsets
from sweep.plan import Candidate, Capacity, Cell, ModelRef, Plan, TrialSpec
from sweep.training.packed.engine import PackedEngine
from sweep.training.packed.stacks import Stacks
from sweep.training.packed.trainer import PackTrainer

PACKED = "sweep.training.packed"
# What is called where memory may run out, and at which of its calls it does: the first of all, and
# one in the middle of the run.
PLACES = {
    "upload of the texts": (f"{PACKED}.trial.upload", (0, 5)),
    "first weights": (f"{PACKED}.pack.Pack.fill", (0, 2)),
    "joining": (f"{PACKED}.trainer.PackTrainer._bound_memory", (0, 2)),
    "batches of an epoch": (f"{PACKED}.trial.cut_batches", (0, 4)),
    "batch of a pass": (f"{PACKED}.trainer.stack_parts", (0, 7)),
    "pass": (f"{PACKED}.pack.Pack.logits", (0, 7)),
    "loss": (f"{PACKED}.trainer._weigh_losses", (0, 7)),
    "backward pass": ("torch.autograd.backward", (0, 7)),
    "gradient norms": ("torch.linalg.vector_norm", (0, 5)),
    "update of a slot": (f"{PACKED}.stacks.adamw", (0, 1, 7)),
    "best weights": (f"{PACKED}.pack.Pack.keep_best", (0, 2)),
    "reading back": (f"{PACKED}.trial.Readback", (0, 1, 4)),
}
CASES = [(name, at) for name, (_, calls) in PLACES.items() for at in calls]
TIMES = ("train_seconds", "eval_seconds", "wall_seconds", "peak_memory_bytes", "totals")


@pytest.fixture
def specs(plan: Plan, subsets: Subsets) -> list[TrialSpec]:
    """Return three trials that differ in rank, labels and seed."""
    recipe = replace(plan.trials[0].recipe, dtype="float32", max_epochs=2, patience=None)
    model, built = ModelRef("tiny", "tiny:llama", "llama-v1"), []
    for i, (rank, labels) in enumerate(((4, 2), (8, 4), (2, 4))):
        cell = Cell(f"cell{i}", "tiny", labels, subsets.labels_for(labels), 32, i)
        candidate = Candidate(i, rank, 2.0 * rank, 5e-3, 0.0, 0.01)
        built.append(TrialSpec(f"trial{i}", cell, candidate, model, recipe, "data"))
    return built


@pytest.fixture(scope="module")
def models_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("models")


def build_engine(subsets: Subsets, models_folder: Path) -> PackedEngine:
    return PackedEngine(subsets, models_folder, {"tiny": Capacity(3, 8, 4)})


def begin_all(engine: PackedEngine, specs: list[TrialSpec], folder: Path) -> PackTrainer:
    """Start all trials and their first epochs; return what trains them."""
    for spec in specs:
        engine.start(spec, folder / spec.trial_id)
        engine.begin_epoch(spec.trial_id)
    assert engine._trainer is not None
    return engine._trainer


def run(engine: PackedEngine, specs: list[TrialSpec], folder: Path) -> dict[str, Any]:
    """Train all trials; one that runs out of memory is started anew. Return their curves."""
    waiting, curves, by_id = list(specs), {}, {spec.trial_id: spec for spec in specs}
    while waiting or engine.busy:
        if waiting:
            spec = waiting.pop(0)
            curves[spec.trial_id] = []
            try:
                engine.start(spec, folder / spec.trial_id)
                engine.begin_epoch(spec.trial_id)
            except torch.OutOfMemoryError:
                engine.close(spec.trial_id)
                waiting.append(spec)
        for trial_id, outcome in engine.advance().items():
            if isinstance(outcome, Exception):
                assert isinstance(outcome, torch.OutOfMemoryError), outcome
                engine.close(trial_id)
                waiting.append(by_id[trial_id])
                continue
            curves[trial_id].append(outcome)
            if outcome["done"]:
                engine.close(trial_id)
                continue
            try:
                engine.begin_epoch(trial_id)
            except torch.OutOfMemoryError:
                engine.close(trial_id)
                waiting.append(by_id[trial_id])
    return curves


CALM: dict[str, Any] = {}


@pytest.fixture
def expected(
    specs: list[TrialSpec], subsets: Subsets, models_folder: Path, tmp_path: Path
) -> dict[str, Any]:
    """Return the curves of the trials where memory never runs out."""
    if not CALM:
        CALM.update(run(build_engine(subsets, models_folder), specs, tmp_path / "calm"))
    return CALM


def fail_once(real: Callable[..., Any], at: int) -> Callable[..., Any]:
    """Return ``real``, but for its call number ``at``, which runs out of memory."""
    calls = 0

    def call(*arguments: Any, **options: Any) -> Any:
        nonlocal calls
        calls += 1
        if calls == at + 1:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 1 GiB.")
        return real(*arguments, **options)

    return call


def find(dotted: str) -> Any:
    parts = dotted.split(".")
    for cut in range(len(parts) - 1, 0, -1):
        try:
            found = __import__(".".join(parts[:cut]), fromlist=["x"])
        except ImportError:
            continue
        for part in parts[cut:]:
            found = getattr(found, part)
        return found
    raise AssertionError(dotted)


@pytest.mark.parametrize(("place", "at"), CASES, ids=[f"{name}, call {at}" for name, at in CASES])
def test_memory_that_runs_out_once_changes_no_curve(
    specs: list[TrialSpec],
    subsets: Subsets,
    models_folder: Path,
    expected: dict[str, Any],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    place: str,
    at: int,
) -> None:
    engine = build_engine(subsets, models_folder)
    target, _ = PLACES[place]
    monkeypatch.setattr(target, fail_once(find(target), at))
    compare(run(engine, specs, tmp_path), expected)
    # All slots are free again, and as they were.
    assert engine._trainer is not None
    pack = engine._trainer.pack
    places = [pack.take(spec) for spec in specs]
    assert {place.slot for place in places} == {0, 1, 2}


def compare(curves: dict[str, Any], expected: dict[str, Any]) -> None:
    for trial_id, wanted in expected.items():
        assert len(curves[trial_id]) == len(wanted)
        for one, other in zip(wanted, curves[trial_id], strict=True):
            for name in one.keys() - set(TIMES):
                exact = not isinstance(one[name], float)
                value = one[name] if exact else pytest.approx(one[name], rel=1e-5)
                assert other[name] == value, (trial_id, name)


@pytest.mark.parametrize("at", [0, 1, 5])
def test_memory_that_runs_out_in_the_launch_for_all_slots_changes_no_curve(
    specs: list[TrialSpec],
    subsets: Subsets,
    models_folder: Path,
    expected: dict[str, Any],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    at: int,
) -> None:
    real, calls = Stacks.__init__, []

    def build(self: Stacks, *arguments: Any) -> None:
        real(self, *arguments)
        self.update_rows = fail_once(count, at)

    def count(*arguments: Any) -> None:
        calls.append(len(arguments))
        row_updates.update_rows(*arguments)

    monkeypatch.setattr(Stacks, "__init__", build)
    compare(run(build_engine(subsets, models_folder), specs, tmp_path), expected)
    assert len(calls) > 5


def test_failed_pass_is_freed_before_the_next_is_tried(
    specs: list[TrialSpec],
    subsets: Subsets,
    models_folder: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    engine = build_engine(subsets, models_folder)
    trainer = begin_all(engine, specs, tmp_path)
    real, passed, alive = trainer._pass, [], []

    def watch(group: Any) -> Any:
        alive.append([ref() is not None for ref in passed])
        batch, logits = real(group)
        passed.append(weakref.ref(logits))
        return batch, logits

    monkeypatch.setattr(trainer, "_pass", watch)
    monkeypatch.setattr("torch.autograd.backward", fail_once(torch.autograd.backward, 0))
    engine.advance()
    # Two passes at least: the one that failed, and those of the next try.
    assert len(alive) > 1
    assert alive[1] == [False]


def test_error_of_a_trial_that_does_not_fit_alone_keeps_nothing_of_its_pass(
    specs: list[TrialSpec],
    subsets: Subsets,
    models_folder: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    engine = build_engine(subsets, models_folder)
    engine.start(specs[0], tmp_path / "x")
    engine.begin_epoch(specs[0].trial_id)

    def fail(*arguments: Any) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory") from ValueError("why")

    monkeypatch.setattr("torch.autograd.backward", fail)
    outcomes: dict[str, Any] = {}
    while engine.busy:
        outcomes |= engine.advance()
    error = outcomes[specs[0].trial_id]
    assert (error.__traceback__, error.__context__, error.__cause__) == (None, None, None)


def test_ceiling_that_memory_set_is_lifted_when_a_trial_leaves(
    specs: list[TrialSpec],
    subsets: Subsets,
    models_folder: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    engine = build_engine(subsets, models_folder)
    trainer = begin_all(engine, specs, tmp_path)
    usual = trainer.max_tokens
    with monkeypatch.context() as patch:
        patch.setattr("torch.autograd.backward", fail_once(torch.autograd.backward, 0))
        engine.advance()
    assert trainer.max_tokens < usual
    engine.close(specs[0].trial_id)
    assert trainer.max_tokens == usual
