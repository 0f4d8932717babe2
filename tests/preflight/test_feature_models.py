"""Models of baselines on features: checked before training, in sentences that name their keys."""

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from huggingface_hub import constants
from huggingface_hub.errors import GatedRepoError
from model_folders import ENCODERS, add_modules, edit_json, write_folder

from sweep.cluster.hardware import Machine
from sweep.config import load_config
from sweep.models import load_check
from sweep.models.meta_load import answer
from sweep.preflight.features import build_features
from sweep.preflight.inputs import resolve_inputs
from sweep.preflight.paths import make_absolute
from sweep.preflight.preflight import check_plan
from sweep.preflight.setup import Target
from sweep.run import main

WriteConfig = Callable[..., Path]
POINTER = "version https://git-lfs.github.com/spec/v1\noid sha256:4d\nsize 2471645608\n"
KEY = "baselines.2.features"


def write_bert(folder: Path) -> Path:
    return write_folder(folder, ENCODERS["bert"]())


@pytest.fixture
def list_findings(
    write_config: WriteConfig, monkeypatch: pytest.MonkeyPatch
) -> Callable[..., list[tuple[str, str, str]]]:
    """Return a function that checks a sweep whose third and later baselines are on features, and
    returns level, key and sentence of each finding."""
    # In this process: the libraries are here already.
    monkeypatch.setattr(load_check, "ask", lambda requests: [answer(each) for each in requests])

    def check(*entries: dict[str, Any], **changes: Any) -> list[tuple[str, str, str]]:
        grid = {"models": [{"name": "a", "path": "tiny:llama"}], "n_labels": [2], "n_samples": [64]}
        listed = ["majority", "tf-idf", *entries]
        config = load_config(write_config(grid=grid, baselines=listed, **changes))
        target = Target(Machine(cpus=4, memory_bytes=16 * 10**9))
        inputs, folder = resolve_inputs(config), Path("/nowhere/run")
        found = check_plan(config, inputs, None, frozenset(), folder, target).findings
        return [(each.level, each.key, each.sentence) for each in found]

    return check


def test_sound_encoder_has_no_finding(list_findings: Callable[..., Any], tmp_path: Path) -> None:
    folder = add_modules(write_bert(tmp_path / "m"), {"pooling_mode": "mean"})
    assert list_findings({"features": str(folder)}, {"features": "tiny:gpt2"}) == []


def remove_config(folder: Path) -> None:
    (folder / "config.json").unlink()


def cut_weights(folder: Path) -> None:
    weights = folder / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-9])


def nest(folder: Path) -> None:
    shutil.move(folder, folder.parent / "inner")
    folder.mkdir()
    shutil.move(folder.parent / "inner", folder / "inner")


SPOILT: dict[str, tuple[Callable[[Path], Any], str]] = {
    "missing": (shutil.rmtree, "does not exist, so it has no config.json; features must be a"),
    "no config": (remove_config, "has no config.json; features must be a model folder or a Hub"),
    "one level up": (nest, "has no config.json, but there is a model below it: set features to"),
    "pointer": (
        lambda folder: (folder / "model.safetensors").write_text(POINTER),
        "is a Git LFS pointer, not the file itself; run 'git lfs pull'",
    ),
    "cut": (cut_weights, "model.safetensors is truncated: its header announces"),
    "unknown": (
        lambda folder: edit_json(folder / "config.json", model_type="brand_new"),
        "'brand_new' (model_type in config.json) is unknown to transformers",
    ),
    "another size": (
        lambda folder: edit_json(folder / "config.json", hidden_size=64),
        "weights and config.json do not match",
    ),
    "quantized": (
        lambda folder: edit_json(folder / "config.json", quantization_config={"a": 1}),
        "features need unquantized weights",
    ),
    "own code": (
        lambda folder: edit_json(folder / "config.json", auto_map={"AutoModel": "x.X"}),
        "review it, then set baselines.2.trust_remote_code=true",
    ),
    "no tokenizer": (
        lambda folder: (folder / "tokenizer.json").write_text("{"),
        "tokenizer.json",
    ),
    "odd pooling": (
        lambda folder: add_modules(folder, {"pooling_mode": "max"}),
        "pools tokens by max, which is not supported; set its pooling to mean, last or cls",
    ),
}


@pytest.mark.parametrize("kind", SPOILT)
def test_unusable_model_is_an_error_that_names_the_key(
    list_findings: Callable[..., Any], tmp_path: Path, kind: str
) -> None:
    folder = write_bert(tmp_path / "m")
    spoil, told = SPOILT[kind]
    spoil(folder)
    ((level, key, sentence),) = list_findings({"features": str(folder)})
    assert (level, key) == ("error", KEY)
    assert sentence.startswith(f"{KEY}: ")
    assert told in sentence
    assert "grid.models" not in sentence


def test_pickled_weights_need_permission(list_findings: Callable[..., Any], tmp_path: Path) -> None:
    folder = write_bert(tmp_path / "m")
    (folder / "model.safetensors").rename(folder / "pytorch_model.bin")
    ((_, key, sentence),) = list_findings({"features": str(folder)})
    assert key == KEY
    assert sentence.endswith("or set baselines.2.allow_pickle=true")


def test_gated_model_is_an_error(
    list_findings: Callable[..., Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: Any, **__: Any) -> None:
        raise GatedRepoError.__new__(GatedRepoError)

    monkeypatch.setattr("sweep.preflight.inputs.go_offline_if_silent", lambda: None)
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr("huggingface_hub.hf_hub_download", refuse)
    found = list_findings({"features": "a/b", "revision": "0123456789" * 4})
    ((_, key, sentence),) = [each for each in found if each[0] == "error"]
    assert key == KEY
    assert sentence.startswith(f"{KEY}: 'a/b' is gated: accept its terms at")


@pytest.mark.parametrize(
    ("entry", "level", "told"),
    [
        (
            {"revision": "v2"},
            "error",
            "baselines.2.revision: features-m is a folder on this machine",
        ),
        ({"allow_pickle": True}, "warning", "baselines.2.allow_pickle has no effect"),
        ({"trust_remote_code": True}, "warning", "baselines.2.trust_remote_code has no effect"),
    ],
)
def test_key_without_effect_is_told(
    list_findings: Callable[..., Any], tmp_path: Path, entry: dict[str, Any], level: str, told: str
) -> None:
    found = list_findings({"features": str(write_bert(tmp_path / "m")), **entry})
    ((found_level, _, sentence),) = found
    assert found_level == level
    assert sentence.startswith(told)


def test_same_weights_twice_are_an_error_unless_pooled_differently(
    list_findings: Callable[..., Any], tmp_path: Path
) -> None:
    one = write_bert(tmp_path / "m")
    entries = [{"features": str(one)}, {"features": str(shutil.copytree(one, tmp_path / "n"))}]
    ((level, key, sentence),) = list_findings(*entries)
    assert (level, key) == ("error", "baselines.3")
    assert "features-n has the same weights and pooling as features-m" in sentence
    assert list_findings(entries[0], entries[1] | {"pooling": "cls"}) == []


def test_longer_texts_than_the_model_has_positions_are_an_error(
    list_findings: Callable[..., Any], tmp_path: Path
) -> None:
    folder = write_bert(tmp_path / "m")
    ((_, key, sentence),) = list_findings({"features": str(folder)}, train={"max_length": 65})
    assert key == KEY
    assert "features-m has only 64 positions; set train.max_length=64 or less" in sentence


def test_dry_run_and_run_end_before_training(
    write_config: WriteConfig, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    baselines = ["majority", "tf-idf", {"features": str(tmp_path / "m")}]
    grid = {"models": [{"name": "a", "path": "tiny:llama"}], "n_labels": [2], "n_samples": [64]}
    arguments = [str(write_config(grid=grid, baselines=baselines)), "--out", str(tmp_path / "out")]
    assert main([*arguments, "--dry-run"]) == 2
    assert f"error: {KEY}: {tmp_path}/m does not exist" in capsys.readouterr().out
    assert main(arguments) == 2
    assert f"error: {KEY}: {tmp_path}/m does not exist" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_folder_is_made_absolute_and_keeps_its_name(
    write_config: WriteConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "m").mkdir()
    config = load_config(write_config(baselines=["tf-idf", {"features": "m"}, {"features": "a/b"}]))
    absolute = make_absolute(config)
    assert [entry.features for _, entry in absolute.list_features()] == [f"{tmp_path}/m", "a/b"]
    assert absolute.baseline_names == ["tf-idf", "features-m", "features-b"]


def test_workers_get_the_weights_the_pooling_and_the_length(
    write_config: WriteConfig, tmp_path: Path
) -> None:
    folder = add_modules(write_bert(tmp_path / "m"), {"pooling_mode": "cls"}, "Normalize")
    config = load_config(write_config(baselines=[{"features": str(folder)}]))
    inputs = resolve_inputs(config)
    (ref,) = build_features(config, inputs.features)
    assert (ref.pooling, ref.normalized, ref.recipe.max_length) == ("cls", True, 24)
    assert ref.model.revision == inputs.features["features-m"].model.revision
