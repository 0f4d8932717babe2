"""Fine-tuning all weights, without Ray."""

import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from model_folders import ENCODERS, write_folder
from safetensors.torch import load_file, save_file

from sweep.data import Subsets
from sweep.plan import Candidate, ModelRef, Plan, TrialSpec
from sweep.storage.checkpoints import list_checkpoints
from sweep.storage.manifest import checksum, dump_manifest
from sweep.training.solo import SoloEngine

CANDIDATE = Candidate(0, None, None, 2e-3, None, 0.01)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.manual_seed(0)
    # Stored in 16 bits, as most models are.
    return write_folder(tmp_path_factory.mktemp("models") / "bert", ENCODERS["bert"]().half())


@pytest.fixture
def spec(plan: Plan, folder: Path) -> TrialSpec:
    ref = ModelRef("bert", str(folder), "x", method="full")
    last = plan.trials[-1]
    return replace(
        last, model=ref, candidate=CANDIDATE, recipe=replace(last.recipe, dtype="float32")
    )


@pytest.fixture
def engine(subsets: Subsets, tmp_path: Path) -> SoloEngine:
    return SoloEngine(subsets, tmp_path / "models")


def run(engine: SoloEngine, count: int = 99) -> list[Any]:
    epochs: list[Any] = []
    while len(epochs) < count and not (epochs and epochs[-1]["done"]):
        epochs.append(engine.run_epoch())
    return epochs


def curve(epochs: list[Any]) -> list[Any]:
    return [(each["train_loss"], each["val_loss"], each.get("test_accuracy")) for each in epochs]


def groups(checkpoint: Path) -> set[str]:
    return {file.stem for file in checkpoint.glob("*.safetensors")}


def test_all_weights_learn_and_are_counted(
    engine: SoloEngine, spec: TrialSpec, tmp_path: Path
) -> None:
    engine.start(spec, tmp_path / "states")
    epochs = run(engine)
    totals = epochs[-1]["totals"]
    assert epochs[-1]["train_loss"] < epochs[0]["train_loss"]
    assert totals["trainable_parameters"] == totals["total_parameters"]


def test_the_base_model_is_restored_from_memory_to_the_bit(
    engine: SoloEngine, spec: TrialSpec, folder: Path, subsets: Subsets, tmp_path: Path
) -> None:
    own = tmp_path / "own"
    shutil.copytree(folder, own)
    spec = replace(spec, model=replace(spec.model, path=str(own)))
    fresh = SoloEngine(subsets, tmp_path).get_base(spec)[0].model.state_dict()
    curves = []
    for number in range(2):
        engine.start(spec, tmp_path / f"states-{number}")
        curves.append(curve(run(engine)))
        engine.close()
        shutil.rmtree(own, ignore_errors=True)  # nothing is read again
    base = engine.get_base(spec)[0]
    assert engine.base_loads == 1
    assert curves[0] == curves[1]
    for key, value in base.model.state_dict().items():
        if "pooler" not in key and "classifier" not in key:
            assert torch.equal(value, fresh[key]), key


def test_a_resumed_trial_has_the_curve_of_an_undisturbed_one(
    engine: SoloEngine, spec: TrialSpec, subsets: Subsets, tmp_path: Path
) -> None:
    engine.start(spec, tmp_path / "whole")
    whole = curve(run(engine))
    engine.close()
    engine.start(spec, tmp_path / "parts")
    first = run(engine, count=1)
    other = SoloEngine(subsets, tmp_path / "models")
    assert other.start(spec, tmp_path / "parts", resume_epoch=1)["resumed_epoch"] == 1
    assert curve(first + run(other)) == whole


def test_checkpoints_hold_no_weights_twice_and_the_last_only_the_best(
    engine: SoloEngine, spec: TrialSpec, tmp_path: Path
) -> None:
    engine.start(spec, tmp_path / "states")
    last = run(engine)[-1]
    finished, before = list_checkpoints(tmp_path / "states")
    best_epoch = last["totals"]["best_epoch"]
    assert groups(finished) == {"best"}
    expected = {"adapter", "optimizer"} | (set() if best_epoch == 2 else {"best"})
    assert groups(before) == expected
    weights = 4 * last["totals"]["trainable_parameters"]
    assert sum(file.stat().st_size for file in finished.iterdir()) < 1.2 * weights


def test_a_finished_trials_checkpoint_is_passed_over_on_resume(
    engine: SoloEngine, spec: TrialSpec, subsets: Subsets, tmp_path: Path
) -> None:
    engine.start(spec, tmp_path / "states")
    whole = run(engine)
    other = SoloEngine(subsets, tmp_path / "models")
    # As if the driver had been killed before it wrote the result down.
    assert other.start(spec, tmp_path / "states", resume_epoch=2)["resumed_epoch"] == 2
    assert curve(run(other)) == curve(whole)[2:]


def test_a_checkpoint_of_an_earlier_release_is_continued(
    engine: SoloEngine, spec: TrialSpec, subsets: Subsets, tmp_path: Path
) -> None:
    engine.start(spec, tmp_path / "states")
    first = run(engine, count=1)
    whole = curve(first + run(engine))
    shutil.rmtree(tmp_path / "states")
    engine.close()
    engine.start(spec, tmp_path / "states")
    run(engine, count=1)
    (checkpoint,) = list_checkpoints(tmp_path / "states")
    # It wrote the best weights always, and BLAKE2b's checksums without a prefix.
    save_file(load_file(checkpoint / "adapter.safetensors"), checkpoint / "best.safetensors")
    (checkpoint / "manifest.json").unlink()
    sums = {file.name: checksum(file, "") for file in sorted(checkpoint.iterdir())}
    (checkpoint / "manifest.json").write_text(dump_manifest(sums))
    other = SoloEngine(subsets, tmp_path / "models")
    assert other.start(spec, tmp_path / "states", resume_epoch=1)["resumed_epoch"] == 1
    assert curve(first + run(other)) == whole


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_weights_stay_float32_where_the_pass_is_in_16_bits(
    dtype: str, engine: SoloEngine, spec: TrialSpec, tmp_path: Path
) -> None:
    spec = replace(spec, recipe=replace(spec.recipe, dtype=dtype))
    facts = engine.start(spec, tmp_path / "states")
    epochs = run(engine, count=2)
    assert facts["dtype"] == dtype
    assert {value.dtype for _, value in engine._trial.trainable_weights()} == {torch.float32}
    assert epochs[-1]["train_loss"] < epochs[0]["train_loss"]


def test_biases_and_norms_do_not_decay(engine: SoloEngine, spec: TrialSpec, tmp_path: Path) -> None:
    engine.start(spec, tmp_path)
    groups = engine._trial.optimizer.param_groups
    decays = {p.dim(): group["weight_decay"] for group in groups for p in group["params"]}
    assert decays == {2: 0.01, 1: 0.0}


def test_gradients_of_all_groups_are_clipped_together(
    engine: SoloEngine, spec: TrialSpec, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine.start(spec, tmp_path)
    clipped: list[int] = []

    def clip(parameters: Any, limit: float) -> None:
        clipped.append(sum(p.numel() for p in parameters))

    monkeypatch.setattr(torch.nn.utils, "clip_grad_norm_", clip)
    run(engine, count=1)
    assert set(clipped) == {sum(p.numel() for _, p in engine._trial._parameters())}
