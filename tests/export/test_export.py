"""Exported folders: how stock peft and transformers load them, and what they say."""

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
import torch
import yaml
from huggingface_hub import ModelCard
from peft import AutoPeftModelForSequenceClassification
from pydantic import TypeAdapter
from small_run import (
    TINY_LLAMA,
    build_run,
    cell_of,
    predictions_of,
    read_test_texts,
    subsets_of,
    write_data,
)
from transformers import AutoModelForSequenceClassification, AutoTokenizer, pipeline

from sweep.data import Corpus
from sweep.export.cli import main
from sweep.export.model_card import escape
from sweep.models.tiny_configs import TINY_FAMILIES
from sweep.plan import TrialSpec

HOSTILE = ("</script><b>", 'a "quoted" `label`', "two\nlines\n# title", "[x](javascript:y) | z")


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory, corpus: Corpus) -> Path:
    """Return a run with one trial of each tiny family, and one of all weights."""
    root = tmp_path_factory.mktemp("families")
    models = [{"name": f"tiny-{name}", "path": f"tiny:{name}"} for name in TINY_FAMILIES]
    models.append({"name": "tiny-full", "path": "tiny:qwen2", "method": "full"})
    return build_run(root, write_data(root / "data", corpus), models)


@pytest.fixture(scope="module")
def export(run: Path, tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Path]:
    """Return a function that exports a family once for all tests."""
    done: dict[tuple[str, ...], Path] = {}

    def call(family: str, *options: str) -> Path:
        key = (family, *options)
        if key not in done:
            out = tmp_path_factory.mktemp("out") / "winner"
            assert (
                main([str(run), "--cell", cell_of(run, family), "--out", str(out), *options]) == 0
            )
            done[key] = out
        return done[key]

    return call


@pytest.mark.parametrize("family", TINY_FAMILIES)
def test_stock_peft_predicts_what_the_run_wrote_down(
    family: str, run: Path, export: Callable[..., Path]
) -> None:
    folder = export(family)
    tokenizer = AutoTokenizer.from_pretrained(folder)
    model = AutoPeftModelForSequenceClassification.from_pretrained(
        folder, num_labels=4, pad_token_id=tokenizer.pad_token_id
    ).eval()
    batch = tokenizer(read_test_texts(run), padding=True, truncation=True, return_tensors="pt")
    with torch.inference_mode():
        classes = model(**batch).logits.argmax(-1).tolist()
    labels = subsets_of(run).labels_for(4)
    assert [labels[index] for index in classes] == predictions_of(run, family)
    assert len(set(classes)) > 1


def test_a_full_fine_tune_is_exported_as_a_complete_model(
    run: Path, export: Callable[..., Path], tmp_path: Path
) -> None:
    folder = Path(shutil.copytree(export("full"), tmp_path / "moved"))
    assert not list(folder.glob("adapter*"))
    classify = pipeline("text-classification", model=str(folder), truncation=True)
    answers = classify(read_test_texts(run), batch_size=8)
    assert [answer["label"] for answer in answers] == predictions_of(run, "full")
    card = (folder / "README.md").read_text()
    assert "all of its weights fine-tuned" in card
    assert "LoRA" not in card
    assert json.loads((folder / "sweep.json").read_text())["trial"]["model"]["method"] == "full"


@pytest.mark.parametrize("options", [(), ("--merge",)])
@pytest.mark.parametrize("family", [*TINY_FAMILIES, "full"])
def test_code_on_the_card_gives_label_names_and_the_runs_predictions(
    family: str,
    options: tuple[str, ...],
    run: Path,
    export: Callable[..., Path],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    folder = export(family, *options)
    code = (folder / "README.md").read_text().split("```python\n")[1].split("```")[0]
    monkeypatch.chdir(folder.parent)
    names: dict[str, Any] = {}
    exec(code, names)
    answers = names["classify"](read_test_texts(run), batch_size=8)
    assert [answer["label"] for answer in answers] == predictions_of(run, family)
    assert names["classify"]("really " * 300)[0]["label"] in subsets_of(run).labels_for(4)


@pytest.mark.parametrize("family", TINY_FAMILIES)
def test_merged_folder_is_a_plain_classifier_that_may_be_moved(
    family: str, run: Path, export: Callable[..., Path], tmp_path: Path
) -> None:
    moved = Path(shutil.copytree(export(family, "--merge"), tmp_path / "moved"))
    assert not list(moved.glob("adapter*"))
    model = AutoModelForSequenceClassification.from_pretrained(moved)
    assert not [name for name, _ in model.named_parameters() if "lora" in name]
    assert model.config.architectures == [type(model).__name__]
    classify = pipeline("text-classification", model=str(moved), truncation=True)
    answers = classify(read_test_texts(run), batch_size=8)
    assert [answer["label"] for answer in answers] == predictions_of(run, family)


@pytest.mark.parametrize("family", TINY_FAMILIES)
def test_tokenizer_pads_on_the_right_and_cuts_as_in_training(
    family: str, export: Callable[..., Path]
) -> None:
    tokenizer = AutoTokenizer.from_pretrained(export(family))
    assert (tokenizer.padding_side, tokenizer.model_max_length) == ("right", 24)
    assert set(tokenizer("a day")) == {"input_ids", "attention_mask"}
    assert tokenizer.pad_token_id is not None


def test_record_holds_the_exact_trial_and_its_metrics(
    run: Path, export: Callable[..., Path]
) -> None:
    record = json.loads((export("gpt2") / "sweep.json").read_text())
    rows = pq.read_table(run / "results.parquet").to_pylist()
    row = next(row for row in rows if row["model"] == "tiny-gpt2")
    spec = TypeAdapter(TrialSpec).validate_json(json.dumps(record["trial"]))
    assert spec.trial_id == row["trial_id"]
    assert record["metrics"]["test_accuracy"] == row["test_accuracy"]
    assert record["exported"]["changed_predictions"] == 0
    assert "peft" in record["exported"]["versions"]


def test_card_names_numbers_size_data_labels_and_license(
    run: Path, export: Callable[..., Path]
) -> None:
    card = (export("llama") / "README.md").read_text()
    front = yaml.safe_load(card.split("---\n")[1])
    assert front["pipeline_tag"] == "text-classification"
    row = next(
        row
        for row in pq.read_table(run / "results.parquet").to_pylist()
        if row["model"] == "tiny-llama"
    )
    assert f"| test accuracy | {row['test_accuracy']:.4f} | 32 |" in card
    (accuracy, macro_f1) = ModelCard(card).data.eval_results
    assert accuracy.metric_value == round(row["test_accuracy"], 4)
    assert macro_f1.metric_value == round(row["test_macro_f1"], 4)
    for expected in ("license of the base model", str(run.parent / "data"), "0. joy", "3. fear"):
        assert expected in card.replace("\\", "")


def test_nothing_is_pickled_and_nothing_is_left_beside(export: Callable[..., Path]) -> None:
    folder = export("qwen2")
    suffixes = {path.suffix for path in folder.rglob("*") if path.is_file()}
    assert suffixes <= {".json", ".safetensors", ".md", ".jinja"}
    assert [path.name for path in folder.parent.iterdir()] == [folder.name]


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_half_precision_trial_can_be_exported(corpus: Corpus, tmp_path: Path, dtype: str) -> None:
    run = build_run(tmp_path, write_data(tmp_path / "data", corpus), TINY_LLAMA, dtype=dtype)
    assert main([str(run), "--best", "--out", str(tmp_path / "winner")]) == 0


def test_hostile_label_names_are_shown_and_do_nothing(corpus: Corpus, tmp_path: Path) -> None:
    names = dict(zip(("joy", "anger", "love", "fear"), HOSTILE, strict=True))
    data = write_data(tmp_path / "data", corpus, names)
    run, out = build_run(tmp_path, data, TINY_LLAMA), tmp_path / "winner"
    assert main([str(run), "--best", "--out", str(out), "--merge"]) == 0
    labels = load_labels(out)
    assert tuple(labels) == subsets_of(run).labels_for(4)
    assert set(labels) == set(HOSTILE)
    assert pipeline("text-classification", model=str(out))("a day")[0]["label"] in labels
    card = (out / "README.md").read_text()
    assert not [bad for bad in ("<b>", "</script", "\n# title") if bad in card]
    assert not re.search(r"(?<!\\)\]\(", card)
    listed = card.split("## Labels\n\n")[1].split("\n\n##")[0].splitlines()
    assert listed == [f"{index}. {escape(label)}" for index, label in enumerate(labels)]


def load_labels(folder: Path) -> list[str]:
    names = json.loads((folder / "config.json").read_text())["id2label"]
    return [names[str(index)] for index in range(len(names))]


def test_hub_base_is_named_by_its_commit(run: Path, tmp_path: Path) -> None:
    commit, hub = "0123456789" * 4, tmp_path / "hub"
    snapshots = hub / "models--me--base" / "snapshots"
    shutil.copytree(run / "models" / "gpt2-v1", snapshots / commit)
    (snapshots / commit / "README.md").write_text("---\nlicense: mit\n---\n# A base\n")
    copy = Path(shutil.copytree(run, tmp_path / "copy"))
    shutil.rmtree(copy / "models")
    text = (copy / "journal.jsonl").read_text().replace('"tiny:gpt2"', '"me/base"')
    (copy / "journal.jsonl").write_text(text.replace('"gpt2-v1"', f'"{commit}"'))
    out = tmp_path / "winner"
    command = [sys.executable, "-m", "sweep.export", str(copy), "--cell", cell_of(run, "gpt2")]
    environment = os.environ | {"HF_HUB_CACHE": str(hub), "HF_HUB_OFFLINE": "1"}
    subprocess.run([*command, "--out", str(out)], check=True, env=environment)
    config = json.loads((out / "adapter_config.json").read_text())
    assert (config["base_model_name_or_path"], config["revision"]) == ("me/base", commit)
    front = yaml.safe_load((out / "README.md").read_text().split("---\n")[1])
    assert (front["base_model"], front["base_model_relation"]) == ("me/base", "adapter")
    assert front["license"] == "mit"


def test_predictions_of_an_older_journal_are_in_the_order_of_the_rows(
    run: Path, tmp_path: Path
) -> None:
    copy = Path(shutil.copytree(run, tmp_path / "copy"))
    lines = [json.loads(line) for line in (copy / "journal.jsonl").read_text().splitlines()]
    items = next(line["items"] for line in lines if line["event"] == "test_set")
    for line in lines:
        if line["event"] == "ended":
            line["predictions"] = [
                p for _, p in sorted(zip(items, line["predictions"], strict=True))
            ]
    (copy / "journal.jsonl").write_text("\n".join(map(json.dumps, lines)) + "\n")
    cell, out = cell_of(run, "llama"), str(tmp_path / "winner")
    assert main([str(copy), "--cell", cell, "--out", out]) == 0


def test_checkpoints_from_before_the_storage_changed_are_found(run: Path, tmp_path: Path) -> None:
    copy = Path(shutil.copytree(run, tmp_path / "copy"))
    path = copy / "config.yaml"
    tree = yaml.safe_load(path.read_text())
    tree["storage"]["checkpoints"] = str(tmp_path / "elsewhere")
    path.write_text(yaml.safe_dump(tree))
    out = str(tmp_path / "winner")
    assert main([str(copy), "--cell", cell_of(run, "llama"), "--out", out]) == 0


def test_storage_of_missing_checkpoints_is_named(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    copy = Path(shutil.copytree(run, tmp_path / "copy"))
    shutil.rmtree(copy / "checkpoints")
    out = str(tmp_path / "winner")
    assert main([str(copy), "--cell", cell_of(run, "llama"), "--out", out]) == 2
    assert f"error: {copy / 'checkpoints'}: the checkpoint of trial" in capsys.readouterr().err
