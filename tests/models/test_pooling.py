"""How a model's own files say that the vectors of tokens become one."""

from pathlib import Path
from typing import Any

import huggingface_hub
import pytest
from huggingface_hub.errors import EntryNotFoundError, LocalEntryNotFoundError
from model_folders import add_modules

from sweep.config import FeaturesConfig
from sweep.errors import ModelError
from sweep.models.file_check import ResolvedModel
from sweep.models.pooling import Pooling, find_pooling


def find(folder: Path, pooling: str = "auto") -> Pooling:
    entry = FeaturesConfig(features=str(folder), pooling=pooling)  # type: ignore[arg-type]
    return find_pooling(entry, ResolvedModel("x", {}, folder))


@pytest.mark.parametrize(
    ("settings", "mode"),
    [
        ({"pooling_mode_mean_tokens": True, "pooling_mode_cls_token": False}, "mean"),
        ({"pooling_mode_mean_tokens": False, "pooling_mode_cls_token": True}, "cls"),
        ({"pooling_mode_mean_tokens": False, "pooling_mode_lasttoken": True}, "last"),
        ({"pooling_mode": "mean", "embedding_dimension": 384}, "mean"),
        ({"pooling_mode": "lasttoken"}, "last"),
        ({"pooling_mode": ["cls"]}, "cls"),
    ],
)
def test_older_and_newer_settings_are_read(
    tmp_path: Path, settings: dict[str, Any], mode: str
) -> None:
    assert find(add_modules(tmp_path, settings)) == Pooling(mode, False)


def test_step_that_normalizes_is_found(tmp_path: Path) -> None:
    assert find(add_modules(tmp_path, {"pooling_mode": "mean"}, "Normalize")).normalized


def test_configuration_decides_over_the_files(tmp_path: Path) -> None:
    add_modules(tmp_path, {"pooling_mode": "max"}, "Normalize")
    assert find(tmp_path, "last") == Pooling("last", False)


def test_plain_folder_leaves_it_to_the_model(tmp_path: Path) -> None:
    assert find(tmp_path) == Pooling("auto", False)


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        ({"pooling_mode_max_tokens": True}, "pools tokens by max_tokens, which is not supported"),
        (
            {"pooling_mode": ["mean", "max"]},
            "by mean, max, which is not supported; set its pooling",
        ),
        ({}, "pools tokens by none, which is not supported"),
    ],
)
def test_other_pooling_is_refused(tmp_path: Path, settings: dict[str, Any], told: str) -> None:
    with pytest.raises(ModelError, match=told):
        find(add_modules(tmp_path, settings))


@pytest.mark.parametrize("text", ["", "{}}", "[1]", '[{"type": "x.Pooling"}]'])
def test_damaged_list_of_modules_is_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / "modules.json").write_text(text)
    with pytest.raises(ModelError, match=r"modules.json is not a list of modules"):
        find(tmp_path)


def test_missing_settings_are_named(tmp_path: Path) -> None:
    add_modules(tmp_path, {})
    (tmp_path / "1_Pooling" / "config.json").unlink()
    with pytest.raises(ModelError, match=r"names 1_Pooling/config.json, which is missing; add it"):
        find(tmp_path)


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Let the Hub hold the files of a folder."""

    def download(path: str, name: str, **options: Any) -> str:
        if not (tmp_path / name).is_file():
            raise EntryNotFoundError(name)
        return str(tmp_path / name)

    monkeypatch.setattr(huggingface_hub, "hf_hub_download", download)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", False)
    return tmp_path


def find_on_hub(files: set[str] | None) -> Pooling:
    found = ResolvedModel("x", {}, Path("/nowhere"), frozenset(files) if files else None)
    return find_pooling(FeaturesConfig(features="some/model"), found)


@pytest.mark.parametrize("files", [{"modules.json"}, None])
def test_files_of_a_hub_model_are_downloaded(hub: Path, files: set[str] | None) -> None:
    add_modules(hub, {"pooling_mode": "cls"})
    assert find_on_hub(files).mode == "cls"


@pytest.mark.parametrize("files", [{"config.json"}, None])
def test_hub_model_without_modules_leaves_it_to_the_model(hub: Path, files: set[str]) -> None:
    assert find_on_hub(files) == Pooling("auto", False)


def test_unreachable_hub_is_an_error_rather_than_another_pooling(
    hub: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*arguments: Any, **options: Any) -> None:
        raise LocalEntryNotFoundError("no connection")

    monkeypatch.setattr(huggingface_hub, "hf_hub_download", fail)
    with pytest.raises(ModelError, match=r"cannot be downloaded \(no connection\); check the netw"):
        find_on_hub({"modules.json"})
