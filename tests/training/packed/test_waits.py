"""What the training thread of a pack waits for on a GPU: nothing, as long as there is a step to
take. There is no GPU here; see ``waits`` in tests/support."""

from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import row_updates
from waits import pretend_cuda

from sweep.data import Subsets
from sweep.models.tiny_configs import TINY_FAMILIES
from sweep.plan import Candidate, Capacity, Cell, ModelRef, Plan, TrialSpec
from sweep.training.packed.engine import PackedEngine

STACKS = "sweep.training.packed.stacks"


@pytest.fixture
def specs(plan: Plan, subsets: Subsets, request: Any) -> list[TrialSpec]:
    """Return three trials of a tiny family that differ in rank, labels, sample size and seed."""
    family = getattr(request, "param", "llama")
    model = ModelRef("tiny", f"tiny:{family}", f"{family}-v1")
    recipe = replace(plan.trials[0].recipe, dtype="float32", max_epochs=2, patience=None)
    built = []
    for i, (rank, labels) in enumerate(((4, 2), (8, 4), (2, 4))):
        cell = Cell(f"cell{i}", "tiny", labels, subsets.labels_for(labels), 32 + 16 * i, i)
        candidate = Candidate(i, rank, 2.0 * rank, 5e-3, 0.0, 0.01)
        built.append(TrialSpec(f"trial{i}", cell, candidate, model, recipe, "data"))
    return built


@pytest.fixture(scope="module")
def models_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("models")


@pytest.fixture(autouse=True)
def update(monkeypatch: pytest.MonkeyPatch, request: Any) -> None:
    """Choose the optimizer: that of one slot at a time, unless a test asks for another, since no
    kernel runs on the pretended GPU."""
    chosen = getattr(request, "param", None)
    monkeypatch.setattr(f"{STACKS}._choose_update", lambda stacks: chosen)
    monkeypatch.setattr(f"{STACKS}.find_spec", lambda name: chosen)


class Inline(ThreadPoolExecutor):
    """Runs everything at once, since only this thread believes in the pretended GPU; what another
    thread would wait for is none of the training thread's waits."""

    def __init__(self, waits: list[Any]) -> None:
        super().__init__()
        self._waits = waits

    def submit(self, run: Any, /, *arguments: Any, **options: Any) -> Future[Any]:
        future: Future[Any] = Future()
        before = len(self._waits)
        future.set_result(run(*arguments, **options))
        del self._waits[before:]
        return future


class WatchedEngine(PackedEngine):
    """An engine that knows the waits so far, and writes checkpoints on the training thread."""

    def __init__(self, subsets: Subsets, models_folder: Path, waits: list[Any]) -> None:
        super().__init__(subsets, models_folder, {"tiny": Capacity(3, 8, 4)})
        self._writer._thread = Inline(waits)
        self.waits = waits


@pytest.fixture
def engine(subsets: Subsets, models_folder: Path) -> Iterator[WatchedEngine]:
    """Return an engine on the pretended GPU."""
    with pretend_cuda() as waits:
        yield WatchedEngine(subsets, models_folder, waits)


def run(engine: WatchedEngine, specs: list[TrialSpec], folder: Path) -> dict[str, Any]:
    """Train all trials to the end, from their first epoch on without counting the starts."""
    curves: dict[str, Any] = {}
    for spec in specs:
        engine.start(spec, folder / spec.trial_id)
    engine.waits.clear()
    for spec in specs:
        engine.begin_epoch(spec.trial_id)
    while engine.busy:
        for trial_id, outcome in engine.advance().items():
            assert isinstance(outcome, dict), outcome
            curves.setdefault(trial_id, []).append(outcome)
            if not outcome["done"]:
                engine.begin_epoch(trial_id)
    return curves


def train(engine: WatchedEngine, specs: list[TrialSpec]) -> None:
    """Take a step of each trial, in two groups and in one."""
    trainer = engine._trainer
    assert trainer is not None
    trials = list(trainer.trials.values())
    for chosen in (trials, trials[::2], trials[1:]):
        trainer._train(chosen)


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"dtype": "bfloat16"},
        {"dtype": "float16"},
        {"gradient_checkpointing": True},
        {"dropout": 0.1},
    ],
    ids=str,
)
@pytest.mark.parametrize("specs", TINY_FAMILIES, indirect=True)
def test_a_step_of_a_pack_waits_for_nothing(
    engine: WatchedEngine, specs: list[TrialSpec], tmp_path: Path, settings: dict[str, Any]
) -> None:  # fmt: skip
    recipe = {name: value for name, value in settings.items() if name != "dropout"}
    rate = settings.get("dropout", 0.0)
    for spec in specs:
        changed = replace(
            spec,
            recipe=replace(spec.recipe, **recipe),
            candidate=replace(spec.candidate, lora_dropout=rate),
        )
        engine.start(changed, tmp_path / spec.trial_id)
        engine.begin_epoch(spec.trial_id)
    engine.waits.clear()
    train(engine, specs)
    assert list(map(str, engine.waits)) == []


@pytest.mark.parametrize("dtype", ["float32", "float16"])
@pytest.mark.parametrize("update", [row_updates.update_rows], ids=["one launch"], indirect=True)
def test_a_step_of_all_slots_in_one_launch_waits_for_nothing(
    engine: WatchedEngine, specs: list[TrialSpec], tmp_path: Path, dtype: str
) -> None:
    for spec in specs:
        changed = replace(spec, recipe=replace(spec.recipe, dtype=dtype))
        engine.start(changed, tmp_path / spec.trial_id)
        engine.begin_epoch(spec.trial_id)
    assert engine._trainer is not None
    assert engine._trainer.pack.stacks.update_rows is row_updates.update_rows
    engine.waits.clear()
    train(engine, specs)
    assert list(map(str, engine.waits)) == []


def test_an_epoch_of_a_pack_waits_for_what_it_reads_back_alone(
    engine: WatchedEngine, specs: list[TrialSpec], tmp_path: Path
) -> None:
    curves = run(engine, specs, tmp_path)
    assert {len(curve) for curve in curves.values()} == {2}
    # For each trial: losses and scores of two epochs, and the scores of the test texts.
    assert [str(wait) for wait in engine.waits if "readback" not in wait.place] == []
    assert len(engine.waits) <= 5 * len(specs)


def test_a_pack_has_the_same_numbers_on_the_pretended_gpu(
    subsets: Subsets, models_folder: Path, specs: list[TrialSpec], tmp_path: Path
) -> None:
    curves = [run(WatchedEngine(subsets, models_folder, []), specs, tmp_path / "plain")]
    with pretend_cuda() as waits:
        pretended = WatchedEngine(subsets, models_folder, waits)
        curves.append(run(pretended, specs, tmp_path / "pretended"))
    expected, found = curves
    for trial_id, curve in expected.items():
        for one, other in zip(curve, found[trial_id], strict=True):
            assert other["train_loss"] == pytest.approx(one["train_loss"], rel=1e-6)
            assert other["val_accuracy"] == one["val_accuracy"]
        assert found[trial_id][-1]["predictions"] == curve[-1]["predictions"]
