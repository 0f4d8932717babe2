"""Models and files that would run code: refused at the dry run, and again when they are loaded."""

import json
import os
import pickle
import shutil
import time
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import huggingface_hub
import pytest
import torch
from huggingface_hub import constants

from sweep.config import ModelConfig
from sweep.data import Corpus
from sweep.errors import ModelError
from sweep.models.base import load_base
from sweep.models.file_check import ResolvedModel, check_model
from sweep.models.sources import list_hub_files
from sweep.models.tiny import build_tiny_model
from sweep.plan import ModelRef
from sweep.run import main

CPU = torch.device("cpu")
CODE = """
from pathlib import Path
Path({marker!r}).touch()
from transformers import AutoModel, LlamaConfig, LlamaForSequenceClassification, LlamaModel
class OddConfig(LlamaConfig): model_type = "odd"
class OddModel(LlamaModel): config_class = OddConfig
class Odd(LlamaForSequenceClassification): config_class = OddConfig
AutoModel.register(OddConfig, OddModel, exist_ok=True)
"""


class Bomb:
    """Leaves a file where it is unpickled."""

    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self) -> tuple[Callable[..., Any], tuple[Any, ...]]:
        return (os.mkdir, (str(self.marker),))


@pytest.fixture(scope="module")
def llama(tmp_path_factory: pytest.TempPathFactory, corpus: Corpus) -> Path:
    folder = tmp_path_factory.mktemp("models") / "llama"
    build_tiny_model("llama", [row.text for row in corpus.splits["train"]], folder)
    return folder


@pytest.fixture(autouse=True)
def no_measuring(monkeypatch: pytest.MonkeyPatch) -> None:
    """How fast this machine is matters to no test here, and takes a second to find out."""
    monkeypatch.setattr("sweep.api.inspect_machine", lambda: None)


@pytest.fixture(autouse=True)
def modules(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Remote code is copied here before it runs, not into the user's cache."""
    monkeypatch.setattr("transformers.dynamic_module_utils.HF_MODULES_CACHE", str(tmp_path / "m"))


@pytest.fixture
def model(llama: Path, tmp_path: Path) -> Path:
    """A sound model folder, to be spoilt."""
    return shutil.copytree(llama, tmp_path / "model")


@pytest.fixture
def marker(tmp_path: Path) -> Path:
    """What appears if code of a model ran."""
    return tmp_path / "code-ran"


def edit(path: Path, **changes: Any) -> None:
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def turn_to_pickle(model: Path, weights: Any = None) -> None:
    """Put ``weights``, or the model's own, into a pytorch_model.bin and drop the safetensors."""
    from safetensors.torch import load_file

    own = load_file(model / "model.safetensors")
    (model / "model.safetensors").unlink()
    if weights is None:
        torch.save(own, model / "pytorch_model.bin")
    else:
        (model / "pytorch_model.bin").write_bytes(pickle.dumps(weights))


def turn_to_remote_code(model: Path, marker: Path) -> None:
    (model / "odd.py").write_text(CODE.format(marker=str(marker)))
    names = {"AutoConfig": "odd.OddConfig", "AutoModelForSequenceClassification": "odd.Odd"}
    edit(model / "config.json", model_type="odd", auto_map=names)


def dry_run(model: Path, write_config: Callable[..., Path], **keys: bool) -> int:
    grid = {
        "models": [{"name": "a", "path": str(model), **keys}],
        "n_labels": [2],
        "n_samples": [16],
    }
    path = write_config(grid=grid, data={"source": "synthetic"})
    return main([str(path), "--dry-run"])


def load(model: Path, **keys: bool) -> None:
    load_base(ModelRef("a", str(model), "x", **keys), str(model), "float32", CPU)


def test_a_sound_model_passes(model: Path, write_config: Callable[..., Path]) -> None:
    assert dry_run(model, write_config) == 0
    load(model)


def test_pickled_weights_are_refused_and_not_opened(
    model: Path,
    marker: Path,
    write_config: Callable[..., Path],
    capsys: pytest.CaptureFixture[str],
) -> None:
    turn_to_pickle(model, Bomb(marker))
    assert dry_run(model, write_config) == 2
    assert "only pickled weights (pytorch_model.bin)" in capsys.readouterr().out
    with pytest.raises(ModelError):
        load(model)
    assert not marker.exists()


def test_pickled_weights_are_loaded_where_allowed(
    model: Path, write_config: Callable[..., Path]
) -> None:
    turn_to_pickle(model)
    assert dry_run(model, write_config) == 2
    assert dry_run(model, write_config, allow_pickle=True) == 0
    load(model, allow_pickle=True)


def test_allowed_pickles_still_run_no_code(model: Path, marker: Path) -> None:
    turn_to_pickle(model, Bomb(marker))
    with pytest.raises(Exception, match=r"Weights only|weights_only|mkdir"):
        load(model, allow_pickle=True)
    assert not marker.exists()
    # The pickle is a live one: what follows is what plain unpickling does.
    pickle.loads((model / "pytorch_model.bin").read_bytes())
    assert marker.exists()


def test_remote_code_is_refused_and_not_run(
    model: Path,
    marker: Path,
    write_config: Callable[..., Path],
    capsys: pytest.CaptureFixture[str],
) -> None:
    turn_to_remote_code(model, marker)
    assert dry_run(model, write_config) == 2
    assert "needs its own code (auto_map in config.json)" in capsys.readouterr().out
    with pytest.raises(ModelError):
        load(model)
    assert not marker.exists()


def test_remote_code_runs_where_trusted(
    model: Path, marker: Path, write_config: Callable[..., Path]
) -> None:
    turn_to_remote_code(model, marker)
    assert dry_run(model, write_config, trust_remote_code=True) == 0
    assert not marker.exists()
    load(model, trust_remote_code=True)
    assert marker.exists()


def test_a_tokenizers_code_is_refused_and_not_run(
    model: Path, marker: Path, write_config: Callable[..., Path]
) -> None:
    (model / "odd.py").write_text(CODE.format(marker=str(marker)))
    edit(model / "tokenizer_config.json", auto_map={"AutoTokenizer": ["odd.Odd", None]})
    dry_run(model, write_config)
    load(model)  # the family's own tokenizer is used instead
    assert not marker.exists()
    edit(model / "config.json", model_type="odd")
    assert dry_run(model, write_config) == 2


def test_an_adapter_is_no_base_model(
    model: Path, write_config: Callable[..., Path], capsys: pytest.CaptureFixture[str]
) -> None:
    (model / "adapter_config.json").write_text('{"base_model_name_or_path": "some/other"}')
    assert dry_run(model, write_config) == 2
    assert "is an adapter (adapter_config.json)" in capsys.readouterr().out


def stand_in_for_the_hub(monkeypatch: pytest.MonkeyPatch, names: list[str]) -> None:
    siblings = [SimpleNamespace(rfilename=name) for name in names]
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(
        huggingface_hub.HfApi, "model_info", lambda *_, **__: SimpleNamespace(siblings=siblings)
    )


@pytest.mark.parametrize(
    ("names", "refused"),
    [
        (["config.json", "model.safetensors", "pytorch_model.bin"], False),
        (["config.json", "pytorch_model.bin"], True),
        (["config.json", "pytorch_model.bin", "onnx/model.safetensors"], True),
        (["config.json", "adapter_config.json", "adapter_model.safetensors"], True),
    ],
)
def test_a_hub_model_needs_safetensors_in_its_listing(
    names: list[str], refused: bool, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    stand_in_for_the_hub(monkeypatch, names)
    files = list_hub_files("some/model", "main", tmp_path) | {"tokenizer.json"}
    model = ModelConfig(name="a", path="some/model")
    found = ResolvedModel("x", {"model_type": "llama"}, tmp_path, files)
    assert bool(check_model(0, model, found)) == refused


def test_offline_the_cache_is_the_listing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    (tmp_path / "pytorch_model.bin").touch()
    assert list_hub_files("some/model", "main", tmp_path) == {"pytorch_model.bin"}


LEVELS = range(1, 10)
LISTS = ["a0: &a0 [x]", *(f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 10)}]" for i in LEVELS)]
MERGES = ["a0: &a0 {k: 1}"] + [
    f"a{i}: &a{i} {{<<: [{', '.join([f'*a{i - 1}'] * 10)}]}}" for i in LEVELS
]


@pytest.mark.parametrize(
    "text",
    [
        "name: !!python/object/apply:os.mkdir ['code-ran']",
        "name: !!python/name:os.system",
        "grid: !!python/object/new:os.system [touch code-ran]",
        "\n".join([*LISTS, "grid: {models: *a9, n_labels: *a9, n_samples: *a9}"]),
        "\n".join([*LISTS, "tune: *a9"]),
        "\n".join([*MERGES, "grid: *a9"]),
        "name: " + "[" * 700,
    ],
    ids=["apply", "name", "new", "lists in a grid", "lists in a section", "merges", "depth"],
)
def test_yaml_runs_nothing_and_grows_no_further_than_its_file(
    text: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "bad.yaml").write_text(text)
    start = time.process_time()
    assert main(["bad.yaml", "--dry-run"]) == 2
    assert time.process_time() - start < 5
    assert len(capsys.readouterr().err) < 3000
    assert not (tmp_path / "code-ran").exists()
