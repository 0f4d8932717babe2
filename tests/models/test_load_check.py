"""What the libraries would make of a model, found out before training without its weights."""

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from model_folders import (
    DECODERS,
    ENCODERS,
    ROWS,
    UNTRAINABLE,
    build_small_tokenizer,
    edit_json,
    write_decoder,
    write_folder,
)
from safetensors.torch import load_file, save_file
from transformers import BertConfig, BertForMaskedLM

from sweep.config import ModelConfig
from sweep.errors import ModelError
from sweep.models import load_check as loadcheck
from sweep.models.base import load_base
from sweep.models.file_check import ResolvedModel
from sweep.models.load_check import LoadAnswer, build_request, check_loading
from sweep.models.meta_load import answer
from sweep.plan import ModelRef
from sweep.preflight.inputs import resolve_model
from sweep.run import main


def ask(folder: Path, **keys: Any) -> LoadAnswer:
    """Return what is answered of a folder, in this process: the libraries are here already."""
    model = ModelConfig(name="m", path=str(folder), **keys)
    request = build_request(0, model, resolve_model(0, model))
    assert request is not None
    return answer(request)


def refusal(folder: Path, **keys: Any) -> str:
    """Return why a folder is refused, and check that loading it to train refuses it alike."""
    error = ask(folder, **keys).error
    assert error is not None
    ref = ModelRef("m", str(folder), "x", target_modules=keys.get("target_modules"))
    if not keys:
        with pytest.raises(ModelError) as caught:
            load_base(ref, str(folder), "float32", torch.device("cpu"))
        assert str(caught.value) == error or "cannot be loaded" in str(caught.value)
    return error


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Return a sound model folder, to be spoilt."""
    return write_decoder(tmp_path / "model")


@pytest.mark.parametrize("name", DECODERS)
def test_decoders_pass(name: str, tmp_path: Path) -> None:
    assert ask(write_decoder(tmp_path / "m", name)) == LoadAnswer("grid.models.0")


@pytest.mark.parametrize("name", ENCODERS)
def test_encoders_pass(name: str, tmp_path: Path) -> None:
    folder = write_folder(tmp_path / "m", ENCODERS[name]())
    assert ask(folder) == LoadAnswer("grid.models.0")


@pytest.mark.parametrize("name", ["t5", "fnet"])
def test_what_cannot_be_trained_is_refused_with_the_reason(name: str, tmp_path: Path) -> None:
    build, reason = UNTRAINABLE[name]
    sentence = ask(write_folder(tmp_path / "m", build())).error or ""
    assert reason in sentence
    assert "use another model" in sentence or "use an encoder" in sentence


def test_a_classifier_that_padding_changes_is_refused_when_it_is_loaded(tmp_path: Path) -> None:
    build, reason = UNTRAINABLE["xlnet"]
    folder = write_folder(tmp_path / "m", build())
    with pytest.raises(ModelError, match=reason):
        load_base(ModelRef("m", str(folder), "x"), str(folder), "float32", torch.device("cpu"))


@pytest.mark.parametrize(
    ("kind", "words"),
    [("llama9", "'llama9' (model_type in config.json) is unknown to transformers"),
     ("mamba", "'mamba' has no text classifier in transformers")],
)  # fmt: skip
def test_architecture_without_a_classifier_is_named(folder: Path, kind: str, words: str) -> None:
    edit_json(folder / "config.json", model_type=kind)
    assert words in refusal(folder)


@pytest.mark.parametrize(
    ("changes", "words"),
    [({"vocab_size": 400},
      "embed_tokens.weight is 300 x 32 in the weights but 400 x 32 according to config"),
     ({"hidden_size": 64, "head_dim": 16}, "according to config.json"),
     ({"num_key_value_heads": 4},
      "k_proj.weight is 16 x 32 in the weights but 32 x 32 according to config"),
     ({"num_hidden_layers": 3}, "lack 9 of the 29 tensors of a llama model"),
     ({"hidden_size": "wide"}, "Field 'hidden_size' expected int")],
)  # fmt: skip
def test_configuration_that_contradicts_the_weights_is_refused(
    folder: Path, changes: dict[str, Any], words: str
) -> None:
    edit_json(folder / "config.json", **changes)
    assert words in refusal(folder)


def test_layers_that_the_configuration_leaves_out_are_told(folder: Path) -> None:
    edit_json(folder / "config.json", num_hidden_layers=1)
    warning = ask(folder).warning
    assert warning is not None
    assert "hold 9 tensors (model.layers.1.input_layernorm.weight" in warning


def test_weights_of_another_architecture_are_refused(folder: Path) -> None:
    names = ("vocab_size", "hidden_size", "num_hidden_layers", "num_attention_heads")
    tree = json.loads((folder / "config.json").read_text())
    other = BertForMaskedLM(BertConfig(**{name: tree[name] for name in names}))
    other.save_pretrained(folder / "other")
    (folder / "other" / "model.safetensors").rename(folder / "model.safetensors")
    sentence = refusal(folder)
    assert "lack 20 of the 20 tensors of a llama model" in sentence
    assert "and hold bert." in sentence


def test_weights_without_the_prefix_of_their_class_are_found(folder: Path) -> None:
    own = load_file(folder / "model.safetensors")
    bare = {name.removeprefix("model."): value for name, value in own.items() if "head" not in name}
    save_file(bare, folder / "model.safetensors")
    assert ask(folder) == LoadAnswer("grid.models.0")


def test_tensor_that_is_missing_is_named(folder: Path) -> None:
    own = load_file(folder / "model.safetensors")
    del own["model.layers.1.mlp.up_proj.weight"]
    save_file(own, folder / "model.safetensors")
    assert "lack 1 of the 20 tensors" in refusal(folder)


def retokenize(folder: Path, change: Callable[[Any], Any]) -> None:
    tokenizer = build_small_tokenizer()
    change(tokenizer)
    tokenizer.save_pretrained(folder)


def test_tokenizer_of_another_model_is_refused(tmp_path: Path) -> None:
    small = DECODERS["llama"]()
    small.resize_token_embeddings(100)
    sentence = refusal(write_folder(tmp_path / "m", small))
    assert "beyond the model's table of 100 embeddings: it is another model's" in sentence


def test_words_added_past_the_table_are_refused(folder: Path) -> None:
    words = [f"<{number}>" for number in range(ROWS)]
    retokenize(folder, lambda tokenizer: tokenizer.add_tokens(words))
    assert f"beyond the model's table of {ROWS} embeddings" in refusal(folder)


def add_past_the_table(tokenizer: Any, **special: str) -> None:
    """Fill the table with tokens that no text has, then add special ones."""
    fill = [f"<{number}>" for number in range(ROWS - len(tokenizer))]
    tokenizer.add_tokens(fill)
    tokenizer.add_special_tokens(special)


def test_padding_past_the_table_gives_way_to_the_end_of_text(folder: Path) -> None:
    retokenize(folder, lambda tokenizer: add_past_the_table(tokenizer, pad_token="[MY PAD]"))
    assert ask(folder).error is None
    base = load_base(ModelRef("m", str(folder), "x"), str(folder), "float32", torch.device("cpu"))
    assert base.tokenizer.pad_token == base.tokenizer.eos_token
    assert base.model.config.pad_token_id == base.tokenizer.eos_token_id < ROWS


def test_configured_padding_past_the_table_does_not_keep_a_model_from_loading(
    folder: Path,
) -> None:
    edit_json(folder / "config.json", pad_token_id=ROWS)
    assert ask(folder).error is None
    base = load_base(ModelRef("m", str(folder), "x"), str(folder), "float32", torch.device("cpu"))
    assert base.model.config.pad_token_id == base.tokenizer.pad_token_id


def test_end_of_text_past_the_table_is_refused(folder: Path) -> None:
    new = {"pad_token": "[PAD]", "eos_token": "[END]"}
    retokenize(folder, lambda tokenizer: add_past_the_table(tokenizer, **new))
    assert "no row for the tokenizer's [PAD] (id 3" in refusal(folder)


def test_special_token_past_the_table_that_no_text_has_is_let_pass(folder: Path) -> None:
    retokenize(
        folder,
        lambda tokenizer: add_past_the_table(tokenizer, additional_special_tokens=["<image>"]),
    )
    assert ask(folder).error is None


@pytest.mark.parametrize("changes", [{"pad_token": None, "eos_token": None}, None])
def test_neither_pad_nor_eos_is_refused(folder: Path, changes: dict[str, Any] | None) -> None:
    if changes is None:
        (folder / "tokenizer_config.json").unlink()
    else:
        edit_json(folder / "tokenizer_config.json", **changes)
    assert "neither a pad nor an eos token" in refusal(folder)


@pytest.mark.parametrize("text", ["{", "{}", "[]", '{"version": "1.0"}'])
def test_damaged_tokenizer_is_named(folder: Path, text: str) -> None:
    (folder / "tokenizer.json").write_text(text)
    assert f"{folder / 'tokenizer.json'} cannot be read (" in refusal(folder)


def test_tokenizer_that_the_library_makes_up_is_refused(folder: Path) -> None:
    # For some architectures the library makes an empty tokenizer where there are no files.
    edit_json(folder / "config.json", model_type="qwen2")
    (folder / "tokenizer.json").unlink()
    edit_json(folder / "tokenizer_config.json", tokenizer_class="Qwen2Tokenizer")
    error = ask(folder).error
    assert error is not None
    assert "has no complete tokenizer" in error or "lack" in error


def test_target_modules_that_name_no_layer_are_refused(folder: Path) -> None:
    assert ask(folder, target_modules=["q_proj", "mlp.up_proj"]).error is None
    sentence = refusal(folder, target_modules=["q_proj", "query"])
    assert "target_modules name 'query', but its layers are " in sentence
    assert "q_proj" in sentence


def test_models_are_tried_in_another_process_and_told_by_their_key(tmp_path: Path) -> None:
    build, reason = UNTRAINABLE["t5"]
    models = [
        ModelConfig(name="tiny", path="tiny:llama"),
        ModelConfig(name="good", path=str(write_decoder(tmp_path / "good"))),
        ModelConfig(name="t5", path=str(write_folder(tmp_path / "t5", build()))),
    ]
    found = [(index, model, resolve_model(index, model)) for index, model in enumerate(models)]
    (finding,) = check_loading(found).findings
    assert (finding.level, finding.key) == ("error", "grid.models.2")
    assert f"model t5's architecture 't5' {reason}" in finding.sentence


@pytest.mark.parametrize("module", ["sweep.no_such_module", "sweep.errors"])
def test_trial_that_gives_no_answer_is_a_warning(
    folder: Path, module: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(loadcheck, "MODULE", module)
    model = ModelConfig(name="m", path=str(folder))
    (finding,) = check_loading([(0, model, resolve_model(0, model))]).findings
    assert finding.level == "warning"
    assert "could not check before the run" in finding.sentence


def test_code_of_a_model_is_not_run_to_try_it(folder: Path) -> None:
    edit_json(folder / "config.json", auto_map={"AutoConfig": "odd.Odd"})
    trusted = ModelConfig(name="m", path=str(folder), trust_remote_code=True)
    assert build_request(0, trusted, resolve_model(0, trusted)) is None


def test_dry_run_and_run_give_one_sentence_and_load_no_torch(
    folder: Path, write_config: Callable[..., Path], capsys: pytest.CaptureFixture[str]
) -> None:
    edit_json(folder / "tokenizer_config.json", pad_token=None, eos_token=None)
    grid = {
        "models": [{"name": "m", "path": str(folder)}],
        "n_labels": [2],
        "n_samples": [16],
    }
    path = write_config(grid=grid)
    code = (
        "import sys; from sweep.run import main; code = main(sys.argv[1:]);"
        "print(code, [n for n in ('torch', 'transformers', 'peft', 'ray') if n in sys.modules])"
    )
    command = [sys.executable, "-c", code, str(path), "--dry-run"]
    lines = subprocess.run(command, capture_output=True, text=True).stdout.splitlines()
    assert lines[-1] == "2 []"
    sentence = next(line for line in lines if "error: " in line).strip()
    assert main([str(path)]) == 2
    assert capsys.readouterr().err == f"{sentence}\n"


def test_hub_model_is_refused_by_its_configuration_alone(tmp_path: Path) -> None:
    build, reason = UNTRAINABLE["t5"]
    write_folder(tmp_path / "whole", build())
    (tmp_path / "snapshot").mkdir()
    (tmp_path / "whole" / "config.json").rename(tmp_path / "snapshot" / "config.json")
    tree = json.loads((tmp_path / "snapshot" / "config.json").read_text())
    files = frozenset({"config.json", "model.safetensors", "tokenizer.json"})
    found = ResolvedModel("x", tree, tmp_path / "snapshot", files)
    request = build_request(0, ModelConfig(name="m", path="some/t5"), found)
    assert request is not None
    assert not request.has_weights
    assert not request.has_tokenizer
    assert reason in str(answer(request).error)


def test_hub_decoder_that_is_not_here_yet_needs_no_try(tmp_path: Path) -> None:
    files = frozenset({"config.json", "model.safetensors", "tokenizer.json"})
    found = ResolvedModel("x", {"model_type": "llama"}, tmp_path, files)
    assert build_request(0, ModelConfig(name="m", path="some/llama"), found) is None
