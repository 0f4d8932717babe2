"""Model folders whose files cannot be loaded: each is refused by its headers and names alone."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from huggingface_hub import constants
from model_folders import edit_json, write_decoder

from sweep.config import ModelConfig
from sweep.errors import Finding, ModelError
from sweep.models.file_check import check_model
from sweep.models.sources import hash_folder, is_local, resolve_revision
from sweep.models.weight_files import read_weights
from sweep.preflight.inputs import resolve_model

POINTER = "version https://git-lfs.github.com/spec/v1\noid sha256:4d\nsize 2471645608\n"
WEIGHTS, INDEX = "model.safetensors", "model.safetensors.index.json"
SHARD = "model-00002-of-00004.safetensors"
COMMIT = "0123456789abcdef0123456789abcdef01234567"


@pytest.fixture(scope="module")
def sound(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a model folder in one piece, and beside it one in shards."""
    root = tmp_path_factory.mktemp("models")
    write_decoder(root / "one")
    write_decoder(root / "shards", max_shard_size="45KB")
    assert len(list((root / "shards").glob("model-*"))) == 4
    return root


@pytest.fixture
def folder(sound: Path, tmp_path: Path) -> Path:
    """Return a copy of the model in one piece, to be spoilt."""
    return shutil.copytree(sound / "one", tmp_path / "model")


@pytest.fixture
def shards(sound: Path, tmp_path: Path) -> Path:
    """Return a copy of the model in shards, to be spoilt."""
    return shutil.copytree(sound / "shards", tmp_path / "model")


def check(folder: Path, **keys: Any) -> list[Finding]:
    model = ModelConfig(name="m", path=str(folder), **keys)
    return check_model(0, model, resolve_model(0, model))


def refusal(folder: Path, **keys: Any) -> str:
    """Return the only sentence that speaks against the model."""
    (finding,) = check(folder, **keys)
    assert finding.level == "error"
    assert finding.sentence.startswith("grid.models.0: ")
    return finding.sentence


def cut(file: Path, size: int) -> None:
    file.write_bytes(file.read_bytes()[:size])


def test_sound_folders_pass(folder: Path, sound: Path) -> None:
    assert check(folder) == check(sound / "shards") == []


@pytest.mark.parametrize(
    "name", [WEIGHTS, "tokenizer.json", "tokenizer_config.json", "config.json"]
)
def test_lfs_pointer_is_named_with_its_remedy(folder: Path, name: str) -> None:
    (folder / name).write_text(POINTER)
    sentence = refusal(folder)
    assert f"{folder / name} is a Git LFS pointer" in sentence
    assert "git lfs pull" in sentence


@pytest.mark.parametrize("name", [SHARD, INDEX])
def test_lfs_pointer_among_shards_is_named(shards: Path, name: str) -> None:
    (shards / name).write_text(POINTER)
    assert f"{shards / name} is a Git LFS pointer" in refusal(shards)


DAMAGE: dict[str, tuple[Callable[[Path], Any], str]] = {
    "cut weights": (lambda file: cut(file, file.stat().st_size - 9), "is truncated: its header"),
    "cut header": (lambda file: cut(file, 300), "is truncated within its header"),
    "three bytes": (lambda file: cut(file, 3), "is truncated within its header"),
    "nothing": (lambda file: file.write_bytes(b""), "is empty; download it again"),
    "zeros": (lambda file: file.write_bytes(bytes(5000)), "is not a safetensors file, but damaged"),
    "more bytes": (lambda file: file.write_bytes(file.read_bytes() + b"x"), "is damaged ("),
    "other header": (
        lambda file: file.write_bytes(b"\x10" + bytes(7) + b"{not a JSON file"),
        "has a damaged header",
    ),
    "no tensor": (lambda file: file.write_bytes(b"\x02" + bytes(7) + b"{}"), "damaged header"),
    "web page": (lambda file: file.write_text("<!DOCTYPE html>\n<html>"), "is a web page"),
    "pickle": (lambda file: file.write_bytes(b"PK\x03\x04" + bytes(99)), "a pickle under another"),
}


@pytest.mark.parametrize(("spoil", "words"), DAMAGE.values(), ids=DAMAGE)
def test_damaged_weights_are_refused_by_name(
    folder: Path, spoil: Callable[[Path], Any], words: str
) -> None:
    spoil(folder / WEIGHTS)
    sentence = refusal(folder)
    assert f"{folder / WEIGHTS} " in sentence
    assert words in sentence


def test_cut_shard_is_named(shards: Path) -> None:
    cut(shards / SHARD, (shards / SHARD).stat().st_size - 1)
    assert f"{shards / SHARD} is truncated" in refusal(shards)


def test_missing_shard_is_named_with_the_index(shards: Path) -> None:
    (shards / SHARD).unlink()
    assert f"lacks 1 of the 4 weight files that {INDEX} names ({SHARD})" in refusal(shards)


def test_shards_without_index_are_refused(shards: Path) -> None:
    (shards / INDEX).unlink()
    assert f"but no {INDEX}" in refusal(shards)


@pytest.mark.parametrize("text", ["{", "[]", "{}", '{"weight_map": {}}', '{"weight_map": [1]}'])
def test_damaged_index_is_refused(shards: Path, text: str) -> None:
    (shards / INDEX).write_text(text)
    assert str(shards / INDEX) in refusal(shards)


def test_index_of_another_model_is_refused(shards: Path) -> None:
    parts = json.loads((shards / INDEX).read_text())["weight_map"]
    edit_json(shards / INDEX, weight_map=parts | {"model.layers.9.x": SHARD})
    assert f"{shards / SHARD} lacks model.layers.9.x" in refusal(shards)


def test_weights_under_another_name_are_refused(folder: Path) -> None:
    (folder / WEIGHTS).rename(folder / "weights.safetensors")
    assert "loaders look for model.safetensors; rename it" in refusal(folder)


def test_weights_one_folder_below_are_found(folder: Path) -> None:
    (folder / "inner").mkdir()
    (folder / WEIGHTS).rename(folder / "inner" / WEIGHTS)
    assert "its folder inner does; move them beside config.json" in refusal(folder)


@pytest.mark.parametrize("name", ["m.Q4_K_M.gguf", "tf_model.h5", "flax_model.msgpack"])
def test_weights_of_other_programs_are_no_weights(folder: Path, name: str) -> None:
    (folder / WEIGHTS).rename(folder / name)
    assert f"only {name}" in refusal(folder)


def test_link_that_leads_nowhere_is_named(folder: Path) -> None:
    for name in ("tokenizer.json", WEIGHTS):
        (folder / name).unlink()
        (folder / name).symlink_to("/nowhere/blob")
        assert f"{folder / name} is a broken link to /nowhere/blob" in refusal(folder)


def test_pickled_shards_are_refused_and_checked_where_allowed(folder: Path) -> None:
    (folder / WEIGHTS).unlink()
    index = folder / "pytorch_model.bin.index.json"
    index.write_text(json.dumps({"weight_map": {"a": "pytorch_model-00001-of-00001.bin"}}))
    assert "set grid.models.0.allow_pickle=true" in refusal(folder)
    assert "lacks 1 of the 1 weight files" in refusal(folder, allow_pickle=True)
    (folder / "pytorch_model-00001-of-00001.bin").write_bytes(b"PK\x03\x04" + bytes(99))
    assert "is truncated or empty" in refusal(folder, allow_pickle=True)


def test_pickles_that_no_loader_looks_for_are_not_offered(folder: Path) -> None:
    (folder / WEIGHTS).rename(folder / "consolidated.00.pth")
    assert "allow_pickle" not in refusal(folder)


@pytest.mark.parametrize("kind", ["gptq", "bitsandbytes", "awq"])
def test_quantized_model_is_refused_by_its_kind(folder: Path, kind: str) -> None:
    edit_json(folder / "config.json", quantization_config={"quant_method": kind, "bits": 4})
    assert f"m is quantized ({kind} in its config.json)" in refusal(folder)


def test_quantized_weights_are_seen_without_the_configuration(folder: Path) -> None:
    text = (folder / WEIGHTS).read_bytes()
    (folder / WEIGHTS).write_bytes(text.replace(b'"dtype":"F32"', b'"dtype":"I32"'))
    assert "holds weights of type I32" in refusal(folder)


@pytest.mark.parametrize("text", ["", "{", "[]", "null", "\ufeff{}"])
def test_damaged_configuration_says_why(folder: Path, text: str) -> None:
    (folder / "config.json").write_text(text, encoding="utf-8")
    assert f"{folder / 'config.json'} is not a JSON object (" in refusal(folder)


def test_configuration_without_architecture_is_refused(folder: Path) -> None:
    edit_json(folder / "config.json", model_type=None)
    assert "names no architecture (model_type)" in refusal(folder)


def test_missing_tokenizer_is_refused(folder: Path) -> None:
    for file in folder.glob("token*"):
        file.unlink()
    assert "has no complete tokenizer" in refusal(folder)
    (folder / "vocab.json").write_text("{}")
    assert "vocab.json with merges.txt" in refusal(folder)


@pytest.mark.parametrize("name", ["tokenizer_config.json", "special_tokens_map.json"])
def test_damaged_part_of_a_tokenizer_is_named(folder: Path, name: str) -> None:
    (folder / name).write_text('{"eos')
    assert f"{folder / name} is not a JSON object" in refusal(folder)


def test_file_that_may_not_be_read_is_named(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    plain = Path.open

    def refuse(file: Path, *options: Any, **named: Any) -> Any:
        if file.name == WEIGHTS:
            raise PermissionError(13, "Permission denied", str(file))
        return plain(file, *options, **named)

    monkeypatch.setattr(Path, "open", refuse)
    with pytest.raises(ModelError, match=r"model\.safetensors cannot be read \(permission denied"):
        hash_folder(folder)
    with pytest.raises(ModelError, match="give this user read access"):
        read_weights(folder, {WEIGHTS}, allow_pickle=False)


def test_folder_that_may_not_be_entered_is_named(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(file: Path) -> Any:
        raise PermissionError(13, "Permission denied", str(file))

    monkeypatch.setattr(Path, "is_file", refuse)
    with pytest.raises(ModelError, match=r"config\.json cannot be read \(permission denied"):
        hash_folder(folder)


def test_stale_files_that_no_loader_reads_do_no_harm(folder: Path) -> None:
    (folder / "model-00001-of-00002.safetensors").write_text(POINTER)
    (folder / "old.bin").write_bytes(b"")
    assert check(folder) == []


def explain(path: Path) -> str:
    with pytest.raises(ModelError) as caught:
        resolve_revision(ModelConfig(name="m", path=str(path)))
    return str(caught.value)


def test_place_without_a_model_says_what_it_is(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "adapter").mkdir()
    (tmp_path / "adapter" / "adapter_config.json").write_text("{}")
    (tmp_path / "gguf").mkdir()
    (tmp_path / "gguf" / "m.gguf").write_bytes(b"GGUF")
    assert "does not exist" in explain(tmp_path / "nowhere")
    assert "is a file; path must be a folder" in explain(folder / WEIGHTS)
    assert "is empty" in explain(tmp_path / "empty")
    assert "is an adapter" in explain(tmp_path / "adapter")
    assert "GGUF weights (m.gguf)" in explain(tmp_path / "gguf")


def test_model_one_folder_below_is_found(folder: Path, tmp_path: Path) -> None:
    folder.rename(tmp_path / "inner")
    (tmp_path / "outer").mkdir()
    (tmp_path / "inner").rename(tmp_path / "outer" / "inner")
    assert f"set path to {tmp_path / 'outer' / 'inner'}" in explain(tmp_path / "outer")


def test_relative_path_of_a_file_is_no_hub_id(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(folder.parent)
    assert is_local(f"model/{WEIGHTS}")
    assert not is_local("some/model")


@pytest.fixture
def cached(sound: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return the snapshot of a Hub model in shards, in a cache and offline."""
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    snapshot = tmp_path / "models--a--b" / "snapshots" / COMMIT
    return shutil.copytree(sound / "shards", snapshot)


def refuse_cached() -> str:
    model = ModelConfig(name="m", path="a/b", revision=COMMIT)
    (finding,) = check_model(0, model, resolve_model(0, model))
    return finding.sentence


def test_cached_hub_model_is_checked_like_a_folder(cached: Path) -> None:
    cut(cached / SHARD, 300)
    assert f"{cached / SHARD} is truncated" in refuse_cached()
    assert f"delete {cached.parents[1]}" in refuse_cached()
    (cached / SHARD).unlink()
    assert "the next run that can reach the Hub downloads them" in refuse_cached()
