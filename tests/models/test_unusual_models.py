"""Sound models that are unlike the usual one: they train, and their export loads in stock peft."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from model_folders import ROWS, build_small_tokenizer, edit_json, write_decoder
from safetensors.torch import load_file, save_file
from small_run import PackOfOne, build_run, write_data

from sweep.config import ModelConfig
from sweep.data import Corpus, Subsets
from sweep.errors import ModelError
from sweep.export.cli import main as export
from sweep.models.base import load_base
from sweep.models.methods import needs_checkpointing
from sweep.models.sources import resolve_revision
from sweep.plan import ModelRef, Plan
from sweep.training.batches import Encoder
from sweep.training.solo import SoloEngine


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return write_decoder(tmp_path / "model")


def add_padding_past_the_table(folder: Path) -> None:
    tokenizer = build_small_tokenizer()
    tokenizer.add_tokens([f"<{number}>" for number in range(ROWS - len(tokenizer))])
    tokenizer.add_special_tokens({"pad_token": "[MY PAD]"})
    tokenizer.save_pretrained(folder)


def configure_padding_past_the_table(folder: Path) -> None:
    add_padding_past_the_table(folder)
    edit_json(folder / "config.json", pad_token_id=ROWS)


def take_other_decoder(name: str) -> Callable[[Path], Any]:
    return lambda folder: write_decoder(folder, name)


CHANGES: dict[str, Callable[[Path], Any]] = {
    "padding past the table": add_padding_past_the_table,
    "configured padding past the table": configure_padding_past_the_table,
    "five labels": take_other_decoder("llama, five labels"),
    "narrow OPT": take_other_decoder("opt, narrow"),
    "no end of text": lambda folder: edit_json(folder / "tokenizer_config.json", eos_token=None),
}


@pytest.mark.parametrize("merge", [[], ["--merge"]], ids=["adapter", "merged"])
@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
def test_model_trains_and_its_export_scores_the_same(
    change: Callable[[Path], Any], merge: list[str], folder: Path, corpus: Corpus, tmp_path: Path
) -> None:
    change(folder)
    data = write_data(tmp_path / "data", corpus)
    run = build_run(tmp_path, data, [{"name": "tiny-m", "path": str(folder)}], max_length=48)
    out = str(tmp_path / "winner")
    assert export([str(run), "--best", "--out", out, *merge]) == 0


@pytest.mark.parametrize("engine_class", [SoloEngine, PackOfOne])
def test_trial_on_broken_weights_names_them(
    engine_class: Callable[..., Any], folder: Path, plan: Plan, subsets: Subsets, tmp_path: Path
) -> None:
    weights = load_file(folder / "model.safetensors")
    weights["model.layers.0.mlp.up_proj.weight"][0, 0] = float("nan")
    save_file(weights, folder / "model.safetensors", {"format": "pt"})
    ref = ModelRef("m", str(folder), resolve_revision(ModelConfig(name="m", path=str(folder))))
    spec = replace(
        plan.trials[0], model=ref, recipe=replace(plan.trials[0].recipe, dtype="float32")
    )
    engine = engine_class(subsets, tmp_path / "models")
    engine.start(spec, tmp_path / "kept")
    outcome = engine.run_epoch()
    assert outcome["status"] == "diverged"
    assert outcome["error"] == (
        "the training loss is not finite: the base model has NaN or infinite values in 1 of its "
        "tensors (model.layers.0.mlp.up_proj.weight); download the model again"
    )


def test_text_that_spells_a_token_without_a_row_is_refused(folder: Path) -> None:
    add_padding_past_the_table(folder)
    base = load_base(ModelRef("m", str(folder), "x"), str(folder), "float32", torch.device("cpu"))
    encoder = Encoder(base.tokenizer, 24, ROWS)
    assert encoder.encode(["a day", ""], [0, 1]).truncated == 0
    with pytest.raises(
        ModelError, match=r"'\[MY PAD\]'.* without a row in the model's table of 300 embeddings"
    ):
        encoder.encode(["what [MY PAD] day"], [0])


def test_checkpointing_is_refused_where_the_architecture_has_none(folder: Path) -> None:
    base = load_base(ModelRef("m", str(folder), "x"), str(folder), "float32", torch.device("cpu"))
    base.model.supports_gradient_checkpointing = False
    assert not needs_checkpointing(base, "auto", 4, 10**9)
    with pytest.raises(ModelError, match=r"set train\.gradient_checkpointing=false"):
        needs_checkpointing(base, True, 4, 1)
