"""Training one candidate, without Ray."""

import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn
from transformers import get_linear_schedule_with_warmup

from sweep.data import Corpus, Subsets
from sweep.models.base import load_base, materialize
from sweep.models.checkpointing import is_checkpointing
from sweep.models.formulas import activation_bytes, full_activation_bytes
from sweep.models.methods import needs_checkpointing, state_bytes
from sweep.models.shape import read_shape
from sweep.models.tiny_configs import TINY_FAMILIES
from sweep.plan import Capacity, Plan, TrialSpec
from sweep.storage.checkpoints import list_checkpoints
from sweep.training.batches import Encoder
from sweep.training.optimizer import schedule
from sweep.training.packed.engine import PackedEngine
from sweep.training.solo import SoloEngine, SoloTrial, build_solo_trial

pytestmark = pytest.mark.usefixtures("one_thread")

TIMES = ("train_seconds", "eval_seconds", "totals")


@pytest.fixture(scope="module")
def models_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("models")


@pytest.fixture
def engine(subsets: Subsets, models_folder: Path) -> SoloEngine:
    return SoloEngine(subsets, models_folder)


@pytest.fixture
def spec(plan: Plan) -> TrialSpec:
    return plan.trials[-1]


def run(engine: SoloEngine, count: int = 99) -> list[dict[str, Any]]:
    """Run up to ``count`` epochs; return their metrics without times."""
    epochs: list[dict[str, Any]] = []
    while len(epochs) < count and not (epochs and epochs[-1]["done"]):
        metrics = engine.run_epoch()
        epochs.append({key: value for key, value in metrics.items() if key not in TIMES})
    return epochs


def test_a_trial_learns_and_ends_with_its_only_test_scores(
    engine: SoloEngine, spec: TrialSpec, tmp_path: Path
) -> None:
    engine.start(spec, tmp_path)
    epochs = run(engine)
    assert [epoch["epoch"] for epoch in epochs] == [1, 2, 3]
    assert epochs[-1]["train_loss"] < epochs[0]["train_loss"]
    assert epochs[-1]["status"] == "finished"
    assert len(epochs[-1]["predictions"]) == 8 * spec.cell.n_labels
    assert not any("test_accuracy" in epoch for epoch in epochs[:-1])


def test_a_trial_can_be_repeated_to_the_bit_after_others(
    engine: SoloEngine, plan: Plan, tmp_path: Path
) -> None:
    curves = []
    for number, spec in enumerate((plan.trials[0], plan.trials[-1], plan.trials[0])):
        engine.start(spec, tmp_path / str(number))
        curves.append(run(engine))
        engine.close()
    assert curves[0] == curves[2]
    assert engine.base_loads == 1


@pytest.mark.parametrize("packed", [False, True])
def test_how_many_texts_are_scored_at_once_changes_no_score(
    subsets: Subsets, models_folder: Path, spec: TrialSpec, tmp_path: Path, packed: bool
) -> None:
    spec = replace(spec, recipe=replace(spec.recipe, dtype="float32", max_epochs=2))
    curves = []
    for size in (3, "auto", 4096):
        own = replace(spec, recipe=replace(spec.recipe, eval_batch_size=size))
        folder = tmp_path / str(size)
        if packed:
            pack = PackedEngine(subsets, models_folder, {own.model.name: Capacity(1, 16, 16)})
            pack.start(own, folder)
            curve: list[Any] = []
            while not (curve and curve[-1]["done"]):
                pack.begin_epoch(own.trial_id)
                while pack.busy:
                    curve += pack.advance().values()
        else:
            engine = SoloEngine(subsets, models_folder)
            engine.start(own, folder)
            curve = run(engine)
        curves.append(curve)
    for curve in curves[1:]:
        for one, other in zip(curves[0], curve, strict=True):
            assert one["val_accuracy"] == other["val_accuracy"]
            assert one["val_loss"] == pytest.approx(other["val_loss"], rel=1e-4)
    assert curves[0][-1]["predictions"] == curves[2][-1]["predictions"]


@pytest.mark.parametrize("stop_after", [1, 2])
def test_resumed_trial_has_the_curve_of_an_undisturbed_one(
    subsets: Subsets, models_folder: Path, spec: TrialSpec, tmp_path: Path, stop_after: int
) -> None:
    whole, first, second = (SoloEngine(subsets, models_folder) for _ in range(3))
    whole.start(spec, tmp_path / "whole")
    expected = run(whole)
    first.start(spec, tmp_path / "cut")
    run(first, stop_after)
    facts = second.start(spec, tmp_path / "cut", resume_epoch=stop_after)
    assert facts["resumed_epoch"] == stop_after
    assert run(second) == expected[stop_after:]


def test_epoch_that_nobody_wrote_down_is_trained_again(
    subsets: Subsets, models_folder: Path, spec: TrialSpec, tmp_path: Path
) -> None:
    first, second = (SoloEngine(subsets, models_folder) for _ in range(2))
    first.start(spec, tmp_path)
    expected = run(first)
    assert second.start(spec, tmp_path, resume_epoch=2)["resumed_epoch"] == 2
    assert run(second) == expected[2:]


@pytest.mark.parametrize("damaged", [1, 2])
def test_damaged_checkpoint_is_passed_over(
    subsets: Subsets, models_folder: Path, spec: TrialSpec, tmp_path: Path, damaged: int
) -> None:
    first, second = (SoloEngine(subsets, models_folder) for _ in range(2))
    first.start(spec, tmp_path)
    expected = run(first, 2)
    for folder in list_checkpoints(tmp_path)[:damaged]:
        (folder / "adapter.safetensors").write_bytes(b"torn")
    assert second.start(spec, tmp_path, resume_epoch=2)["resumed_epoch"] == 2 - damaged
    assert run(second)[: 1 if damaged == 1 else 2] == expected[2 - damaged :]


def test_checkpoint_of_another_trial_is_not_taken(
    engine: SoloEngine, plan: Plan, tmp_path: Path
) -> None:
    engine.start(plan.trials[0], tmp_path)
    run(engine, 1)
    engine.close()
    assert engine.start(plan.trials[1], tmp_path, resume_epoch=1)["resumed_epoch"] == 0


@pytest.fixture
def trial(corpus: Corpus, subsets: Subsets, spec: TrialSpec, models_folder: Path) -> SoloTrial:
    source = materialize(spec.model, models_folder, [r.text for r in corpus.splits["train"]])
    base = load_base(spec.model, source, "float32", torch.device("cpu"))
    encoder = Encoder(base.tokenizer, 24)
    return build_solo_trial(spec, base, encoder, subsets.of_cell(4, 32, 0))


def test_test_scores_come_from_the_best_epoch(trial: SoloTrial) -> None:
    trial.run_epoch()
    best = {name: value.clone() for name, value in trial.best.items()}
    trial.progress.val_accuracy = 2.0  # no later epoch can be better
    trial.run_epoch()
    trial.run_epoch()
    weights = dict(trial.model.named_parameters())
    assert all(torch.equal(weights[name], value) for name, value in best.items())


def test_patience_ends_a_trial_that_gets_no_better(trial: SoloTrial) -> None:
    trial.spec = replace(trial.spec, recipe=replace(trial.spec.recipe, patience=1))
    trial.run_epoch()
    trial.progress.val_accuracy = 2.0
    metrics = trial.run_epoch()
    assert (metrics["done"], metrics["epoch"], metrics["status"]) == (True, 2, "finished")


def test_loss_that_is_not_finite_ends_the_trial_as_diverged(trial: SoloTrial) -> None:
    with torch.no_grad():
        next(p for p in trial.model.parameters() if p.requires_grad).fill_(math.nan)
    metrics = trial.run_epoch()
    assert (metrics["done"], metrics["status"]) == (True, "diverged")
    assert "val_accuracy" not in metrics
    assert trial.summary()["val_accuracy"] is None


def test_scoring_gives_predictions_in_the_order_of_the_texts(trial: SoloTrial) -> None:
    score = trial.score(trial.test)
    hits = [p == c for p, c in zip(score.predictions, trial.test.classes, strict=True)]
    assert score.accuracy == sum(hits) / len(hits)


@pytest.mark.parametrize(("total", "warmup_ratio"), [(100, 0.1), (7, 0.0), (5, 0.5)])
def test_schedule_is_the_usual_linear_one(total: int, warmup_ratio: float) -> None:
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=1.0)
    warmup = round(total * warmup_ratio)
    usual = get_linear_schedule_with_warmup(optimizer, warmup, total)
    for step in range(total):
        expected = (step + 1) / warmup if step < warmup else usual.get_last_lr()[0]
        assert schedule(step, total, warmup_ratio) == pytest.approx(expected)
        optimizer.step()
        usual.step()


def test_batch_taken_in_parts_gives_the_same_curve(
    subsets: Subsets, models_folder: Path, spec: TrialSpec, tmp_path: Path
) -> None:
    curves = []
    for bound in (8192, 64):
        recipe = replace(spec.recipe, max_batch_tokens=bound, dtype="float32")
        engine = SoloEngine(subsets, models_folder)
        engine.start(replace(spec, recipe=recipe), tmp_path / str(bound))
        curves.append([epoch["val_loss"] for epoch in run(engine)])
    assert curves[0] == pytest.approx(curves[1], rel=1e-4)


@pytest.mark.parametrize("family", TINY_FAMILIES)
def test_gradient_checkpointing_changes_no_curve(
    subsets: Subsets, models_folder: Path, spec: TrialSpec, tmp_path: Path, family: str
) -> None:
    model = replace(spec.model, path=f"tiny:{family}", revision=f"{family}-v1")
    curves = []
    for wanted in (False, True):
        recipe = replace(spec.recipe, gradient_checkpointing=wanted, dtype="float32")
        engine = SoloEngine(subsets, models_folder)
        engine.start(replace(spec, model=model, recipe=recipe), tmp_path / f"{wanted}")
        assert is_checkpointing(engine._trial.base.model) == wanted
        curves.append([epoch["val_loss"] for epoch in run(engine)])
    assert curves[0] == pytest.approx(curves[1], rel=1e-4)


def test_activations_are_kept_where_no_gpu_is_short_of_memory(trial: SoloTrial) -> None:
    assert not needs_checkpointing(trial.base, "auto", rank=8, tokens=10**9)


@pytest.mark.parametrize(("kept", "checkpointed"), [(0, True), (10**9, False)])
def test_memory_that_this_process_keeps_unused_is_free_for_activations(
    trial: SoloTrial, monkeypatch: pytest.MonkeyPatch, kept: int, checkpointed: bool
) -> None:
    # The driver has 10 MB left; 10,000 tokens need some 100 MB.
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device: (10**7, 10**10))
    monkeypatch.setattr(torch.cuda, "memory_reserved", lambda device: 10**9 + kept)
    monkeypatch.setattr(torch.cuda, "memory_allocated", lambda device: 10**9)
    base = replace(trial.base, device=torch.device("cuda"))
    assert needs_checkpointing(base, "auto", rank=8, tokens=10_000) is checkpointed


def test_memory_that_a_trial_has_yet_to_allocate_is_not_free_for_activations(
    trial: SoloTrial, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sweep.models.methods.free_gpu_memory", lambda device: 10**9)
    base = replace(trial.base, device=torch.device("cuda"))
    assert not needs_checkpointing(base, "auto", rank=8, tokens=10_000)
    assert needs_checkpointing(base, "auto", rank=8, tokens=10_000, pending=990_000_000)


def test_full_fine_tuning_keeps_more_activations_than_adapters(
    trial: SoloTrial, monkeypatch: pytest.MonkeyPatch
) -> None:
    base = replace(trial.base, device=torch.device("cuda"))
    full = replace(base, ref=replace(base.ref, method="full"))
    shape = read_shape(base.model.config.to_dict())
    assert shape is not None
    lora, whole = activation_bytes(shape, 0, "float32", True), full_activation_bytes(shape, 4)
    free = int(1000 * (lora + whole) / 2 / 0.8)
    monkeypatch.setattr("sweep.models.methods.free_gpu_memory", lambda device: free)
    assert not needs_checkpointing(base, "auto", rank=0, tokens=1000)
    assert needs_checkpointing(full, "auto", rank=0, tokens=1000)


def test_state_of_a_trial_is_four_float32_values_per_trained_parameter(trial: SoloTrial) -> None:
    model = nn.Linear(3, 5)
    assert state_bytes(trial.base, model) == 16 * 20
    model.bias.requires_grad_(False)
    assert state_bytes(trial.base, model) == 16 * 15
    full = replace(trial.base, ref=replace(trial.base.ref, method="full"), dtype=torch.bfloat16)
    assert state_bytes(full, model) == 18 * 15
