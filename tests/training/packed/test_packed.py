"""Many trials in one pack, against the same trials alone in stock PEFT."""

import math
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import AutoPeftModelForSequenceClassification
from small_run import (
    PackOfOne,
    build_run,
    cell_of,
    predictions_of,
    read_test_texts,
    subsets_of,
    write_data,
)
from transformers import AutoTokenizer, PreTrainedModel

from sweep.data import Corpus, Subsets
from sweep.export.cli import main as export
from sweep.models.full_pass import ForwardPass
from sweep.models.fused import Part
from sweep.models.tiny_configs import TINY_FAMILIES
from sweep.plan import Candidate, Capacity, Cell, ModelRef, Plan, TrialSpec
from sweep.training.packed.engine import PackedEngine
from sweep.training.packed.layers import Selection
from sweep.training.packed.pack import Pack
from sweep.training.packed.products import GroupedPart, PaddedPart
from sweep.training.solo import SoloEngine

pytestmark = pytest.mark.usefixtures("one_thread")

TIMES = ("train_seconds", "eval_seconds", "wall_seconds", "peak_memory_bytes", "totals")
THOROUGH = "SWEEP_THOROUGH" in os.environ
"""Whether packs of every size are tried with every architecture: minutes more."""
EPOCHS = 13
"""At least 52 steps for each trial."""


@pytest.fixture(scope="module")
def models_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("models")


def build_specs(plan: Plan, subsets: Subsets, family: str, count: int) -> list[TrialSpec]:
    """Return trials that differ in rank, learning rate, labels, sample size and seed."""
    model = ModelRef("tiny", f"tiny:{family}", f"{family}-v1")
    recipe = replace(
        plan.trials[0].recipe, dtype="float32", batch_size=8, max_epochs=EPOCHS, patience=None
    )
    specs = []
    for i in range(count):
        labels, samples = (2, 4)[i % 2], (32, 48)[i // 2 % 2]
        rank, rate = (4, 8, 2, 16)[i % 4], (2e-3, 5e-3, 1e-3)[i % 3]
        cell = Cell(f"cell{i}", "tiny", labels, subsets.labels_for(labels), samples, i)
        candidate = Candidate(i, rank, 2.0 * rank, rate, 0.0, 0.01)
        specs.append(TrialSpec(f"trial{i:02}", cell, candidate, model, recipe, "data"))
    return specs


def build_engine(subsets: Subsets, models_folder: Path) -> PackedEngine:
    return PackedEngine(subsets, models_folder, {"tiny": Capacity(16, 16, 4)})


@contextmanager
def stock_recipe() -> Iterator[None]:
    """Have trials pass through transformers' own modules and PEFT's, as they come."""

    def whole(model: PreTrainedModel) -> ForwardPass:
        return ForwardPass.of_rectangles(
            lambda ids, mask: model(input_ids=ids, attention_mask=mask, use_cache=False).logits
        )

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("sweep.models.device.choose_forward", whole)
        patch.setattr("sweep.models.methods.speed_up", lambda model: None)
        yield


def run_solo(engine: SoloEngine, spec: TrialSpec, folder: Path) -> list[dict[str, Any]]:
    engine.start(spec, folder / spec.trial_id)
    curve: list[dict[str, Any]] = []
    while not (curve and curve[-1]["done"]):
        curve.append(engine.run_epoch())
    engine.close()
    return curve


Curves = dict[str, list[dict[str, Any]]]


def advance(engine: PackedEngine, curves: Curves) -> None:
    """Let every busy trial take a step; those whose epoch is over begin the next, or leave."""
    for trial_id, outcome in engine.advance().items():
        assert isinstance(outcome, dict), outcome
        curves.setdefault(trial_id, []).append(outcome)
        (engine.close if outcome["done"] else engine.begin_epoch)(trial_id)


def join(engine: PackedEngine, spec: TrialSpec, folder: Path) -> None:
    engine.start(spec, folder / spec.trial_id)
    engine.begin_epoch(spec.trial_id)


def run_packed(
    engine: PackedEngine, specs: list[TrialSpec], folder: Path, stagger: int = 3
) -> Curves:
    """Let a trial join every ``stagger`` steps, and leave when it is done; return all curves."""
    curves: Curves = {}
    waiting, steps = list(specs), 0
    while waiting or engine.busy:
        if waiting and steps % stagger == 0:
            join(engine, waiting.pop(0), folder)
        advance(engine, curves)
        steps += 1
    return curves


def assert_same(solo: list[dict[str, Any]], packed: list[dict[str, Any]]) -> None:
    """Assert that two curves agree: numbers to rounding, all else exactly.

    1e-7 is what float32 resolves in a cross entropy, which counts where a trial knows its texts by
    heart.
    """
    assert len(solo) == len(packed)
    for expected, found in zip(solo, packed, strict=True):
        assert expected.keys() == found.keys()
        for one, other in ((expected, found), (expected["totals"], found["totals"])):
            # The stock recipe pads; nothing else here does.
            if "padded_tokens" in one:
                assert other["padded_tokens"] == other["train_tokens"] <= one["padded_tokens"]
            for name in one.keys() - {*TIMES, "padded_tokens"}:
                exact = not isinstance(one[name], float)
                value = one[name] if exact else pytest.approx(one[name], rel=1e-4, abs=1e-7)
                assert other[name] == value, name


SIZES = {family: (1, 4, 16) if THOROUGH or family == "llama" else (4,) for family in TINY_FAMILIES}


@pytest.mark.parametrize(("family", "counts"), SIZES.items(), ids=SIZES)
def test_solo_and_packed_trials_are_those_of_the_stock_recipe(
    plan: Plan,
    subsets: Subsets,
    models_folder: Path,
    tmp_path: Path,
    family: str,
    counts: tuple[int, ...],
) -> None:
    specs = build_specs(plan, subsets, family, max(counts))
    with stock_recipe():
        stock = SoloEngine(subsets, models_folder)
        curves = {s.trial_id: run_solo(stock, s, tmp_path / "stock") for s in specs}
    solo = SoloEngine(subsets, models_folder)
    for spec in specs[:4]:
        assert_same(curves[spec.trial_id], run_solo(solo, spec, tmp_path / "solo"))
    for count in counts:
        engine = build_engine(subsets, models_folder)
        packed = run_packed(engine, specs[:count], tmp_path / f"packed{count}")
        for trial_id, curve in packed.items():
            assert_same(curves[trial_id], curve)


@contextmanager
def products_of_a_gpu(kind: type[Part]) -> Iterator[None]:
    """Have packs multiply as they do on a GPU: rows of all slots together, by ``kind``, and layers
    of the same input as one."""
    plug_in = Pack._plug_in

    def plug_in_joined(pack: Pack) -> None:
        plug_in(pack)
        pack.join_weights()

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Pack, "_plug_in", plug_in_joined)
        patch.setattr(Selection, "joins", lambda selection, x: selection.masks is None)
        patch.setattr(Selection, "_choose", lambda *_, **__: kind)
        yield


@pytest.mark.parametrize("kind", [GroupedPart, PaddedPart])
@pytest.mark.parametrize("family", TINY_FAMILIES)
def test_trials_packed_as_on_a_gpu_learn_as_alone(
    plan: Plan, subsets: Subsets, models_folder: Path, tmp_path: Path, family: str, kind: type[Part]
) -> None:
    specs = [
        replace(spec, recipe=replace(spec.recipe, max_epochs=4))
        for spec in build_specs(plan, subsets, family, 4)
    ]
    engine = build_engine(subsets, models_folder)
    with products_of_a_gpu(kind):
        packed = run_packed(engine, specs, tmp_path / "packed")
    assert engine._trainer is not None
    groups = engine._trainer.pack._current.groups._groups.values()
    assert all(groups) and bool(groups) == (family != "gpt2")  # whose layers are joined already
    solo = SoloEngine(subsets, models_folder)
    for spec in specs:
        assert_same(run_solo(solo, spec, tmp_path / "solo"), packed[spec.trial_id])


def test_trial_that_leaves_early_changes_nothing_for_the_others(
    plan: Plan, subsets: Subsets, models_folder: Path, tmp_path: Path
) -> None:
    *specs, guest = build_specs(plan, subsets, "llama", 4)
    expected = run_packed(build_engine(subsets, models_folder), specs, tmp_path / "a")
    engine, curves = build_engine(subsets, models_folder), Curves()
    # The guest has the widest rank and the first row, and goes in the middle of its epoch.
    for spec in (guest, *specs):
        join(engine, spec, tmp_path / "b")
    for _ in range(3):
        advance(engine, curves)
    assert not curves
    engine.close(guest.trial_id)
    while engine.busy:
        advance(engine, curves)
    for trial_id, curve in expected.items():
        assert_same(curve, curves[trial_id])


def test_trial_that_diverges_changes_nothing_for_the_others(
    plan: Plan, subsets: Subsets, models_folder: Path, tmp_path: Path
) -> None:
    *specs, guest = build_specs(plan, subsets, "gpt2", 3)
    expected = run_packed(build_engine(subsets, models_folder), specs, tmp_path / "a", 1)
    engine, curves = build_engine(subsets, models_folder), Curves()
    for spec in (guest, *specs):
        join(engine, spec, tmp_path / "b")
    assert engine._trainer is not None
    for _, value in engine._trainer.trials[guest.trial_id].trainable_weights():
        value.fill_(math.nan)
    while engine.busy:
        advance(engine, curves)
    (ended,) = curves.pop(guest.trial_id)
    assert (ended["status"], ended["done"]) == ("diverged", True)
    for trial_id, curve in expected.items():
        assert_same(curve, curves[trial_id])


@pytest.mark.parametrize("family", ["llama", "gpt2"])
def test_either_engine_resumes_what_the_other_began(
    plan: Plan, subsets: Subsets, models_folder: Path, tmp_path: Path, family: str
) -> None:
    spec, other = build_specs(plan, subsets, family, 2)
    solo = SoloEngine(subsets, models_folder)
    expected = run_solo(solo, spec, tmp_path / "whole")
    # Solo for two epochs, packed for three with another trial beside it, solo to the end.
    folder = tmp_path / "mixed" / spec.trial_id
    solo.start(spec, folder)
    curve = [solo.run_epoch() for _ in range(2)]
    packed = build_engine(subsets, models_folder)
    packed.start(other, tmp_path / "mixed" / other.trial_id)
    assert packed.start(spec, folder, resume_epoch=2)["resumed_epoch"] == 2
    packed.begin_epoch(spec.trial_id)
    packed.begin_epoch(other.trial_id)
    while len(curve) < 5:
        outcome = packed.advance().get(spec.trial_id)
        if isinstance(outcome, dict):
            curve.append(outcome)
            packed.begin_epoch(spec.trial_id)
    assert SoloEngine(subsets, models_folder).start(spec, folder, 5)["resumed_epoch"] == 5
    last = SoloEngine(subsets, models_folder)
    last.start(spec, folder, 5)
    while not curve[-1]["done"]:
        curve.append(last.run_epoch())
    assert_same(expected, curve)


def test_few_tokens_at_once_change_no_curve(
    plan: Plan, subsets: Subsets, models_folder: Path, tmp_path: Path
) -> None:
    specs = [
        replace(spec, recipe=replace(spec.recipe, max_batch_tokens=64, max_epochs=4))
        for spec in build_specs(plan, subsets, "llama", 3)
    ]
    solo = SoloEngine(subsets, models_folder)
    packed = run_packed(build_engine(subsets, models_folder), specs, tmp_path / "packed")
    for spec in specs:
        assert_same(run_solo(solo, spec, tmp_path / "solo"), packed[spec.trial_id])


@pytest.mark.parametrize("family", TINY_FAMILIES)
def test_gradient_checkpointing_changes_no_curve(
    plan: Plan, subsets: Subsets, models_folder: Path, tmp_path: Path, family: str
) -> None:
    specs = build_specs(plan, subsets, family, 2)
    curves = []
    for wanted in (False, True):
        changed = [
            replace(s, recipe=replace(s.recipe, gradient_checkpointing=wanted, max_epochs=3))
            for s in specs
        ]
        engine = build_engine(subsets, models_folder)
        curves.append(run_packed(engine, changed, tmp_path / f"{wanted}"))
        assert engine._base is not None
    for spec in specs:
        assert_same(curves[0][spec.trial_id], curves[1][spec.trial_id])


def test_dropout_of_a_trial_does_not_depend_on_who_shares_the_pack(
    plan: Plan, subsets: Subsets, models_folder: Path, tmp_path: Path
) -> None:
    specs = [
        replace(
            spec,
            candidate=replace(spec.candidate, lora_dropout=(0.3, 0.0, 0.1)[i]),
            recipe=replace(spec.recipe, max_epochs=4),
        )
        for i, spec in enumerate(build_specs(plan, subsets, "llama", 3))
    ]
    together = run_packed(build_engine(subsets, models_folder), specs, tmp_path / "together")
    for spec in specs:
        alone = run_packed(build_engine(subsets, models_folder), [spec], tmp_path / "alone")
        assert_same(alone[spec.trial_id], together[spec.trial_id])


def test_trial_out_of_memory_fails_alone(
    plan: Plan, subsets: Subsets, models_folder: Path, tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    specs = build_specs(plan, subsets, "llama", 3)
    engine = build_engine(subsets, models_folder)
    for spec in specs:
        engine.start(spec, tmp_path / spec.trial_id)
    assert engine._trainer is not None
    trials, real = engine._trainer.trials, engine._trainer._pass
    big = trials[specs[0].trial_id]

    def fake(group: Any) -> Any:
        if any(trial is big for trial, _ in group):
            raise torch.OutOfMemoryError("CUDA out of memory")
        return real(group)

    monkeypatch.setattr(engine._trainer, "_pass", fake)
    for spec in specs:
        engine.begin_epoch(spec.trial_id)
    outcomes: dict[str, Any] = {}
    while engine.busy:
        outcomes |= engine.advance()
    assert isinstance(outcomes.pop(specs[0].trial_id), torch.OutOfMemoryError)
    solo = SoloEngine(subsets, models_folder)
    for spec in specs[1:]:
        solo.start(spec, tmp_path / "solo" / spec.trial_id)
        assert_same([solo.run_epoch()], [outcomes[spec.trial_id]])
        solo.close()


@pytest.fixture(scope="module")
def packed_run(tmp_path_factory: pytest.TempPathFactory, corpus: Corpus) -> Path:
    """Return a run whose trials, one of each family, were trained by the packed engine."""
    root = tmp_path_factory.mktemp("packed")
    models = [{"name": f"tiny-{name}", "path": f"tiny:{name}"} for name in TINY_FAMILIES]
    return build_run(root, write_data(root / "data", corpus), models, PackOfOne)


@pytest.mark.parametrize("family", TINY_FAMILIES)
def test_stock_peft_predicts_with_an_exported_packed_adapter_what_the_run_wrote_down(
    packed_run: Path, tmp_path: Path, family: str
) -> None:
    folder = tmp_path / "winner"
    cell = cell_of(packed_run, family)
    assert export([str(packed_run), "--cell", cell, "--out", str(folder)]) == 0
    tokenizer = AutoTokenizer.from_pretrained(folder)
    model = AutoPeftModelForSequenceClassification.from_pretrained(
        folder, num_labels=4, pad_token_id=tokenizer.pad_token_id
    ).eval()
    texts = read_test_texts(packed_run)
    batch = tokenizer(texts, padding=True, truncation=True, return_tensors="pt")
    with torch.inference_mode():
        classes = model(**batch).logits.argmax(-1).tolist()
    labels = subsets_of(packed_run).labels_for(4)
    assert [labels[index] for index in classes] == predictions_of(packed_run, family)
