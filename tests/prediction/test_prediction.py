"""Labels for new texts from exported folders: right, complete, and kept when cut off."""

import csv
import json
import math
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
from small_run import TINY_LLAMA, build_run, cell_of, predictions_of, read_test_texts, write_data

from sweep.cli.outcome import INTERRUPTED
from sweep.data import Corpus
from sweep.errors import DataError
from sweep.export.cli import main as export
from sweep.prediction import cli
from sweep.prediction.classifier import Classifier
from sweep.prediction.cli import main
from sweep.prediction.texts import load_texts


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory, corpus: Corpus) -> Path:
    root = tmp_path_factory.mktemp("run")
    return build_run(root, write_data(root / "data", corpus), TINY_LLAMA)


def export_run(run: Path, folder: Path, *options: str) -> Path:
    cell = cell_of(run, "llama")
    assert export([str(run), "--cell", cell, "--out", str(folder), *options]) == 0
    return folder


@pytest.fixture(scope="module")
def model(run: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return an exported adapter."""
    return export_run(run, tmp_path_factory.mktemp("export") / "winner")


@pytest.fixture
def texts(run: Path, tmp_path: Path) -> Path:
    """Return a CSV file of the run's test texts, with a row that has none."""
    path = tmp_path / "texts.csv"
    with path.open("w", newline="") as file:
        rows = csv.writer(file)
        rows.writerow(["id", "text"])
        rows.writerows([[1, ""], *([2, text] for text in read_test_texts(run))])
    return path


def read(path: Path) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = pq.read_table(path).to_pylist()
    return found


def test_command_on_the_card_labels_a_file(
    model: Path, texts: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    line = (model / "README.md").read_text().split("```sh\n")[1].split("\n```")[0]
    program, command, *arguments = line.split()
    assert (program, command) == ("sweep", "predict")
    (tmp_path / "winner").symlink_to(model)
    monkeypatch.chdir(tmp_path)
    assert main(arguments) == 0
    assert len(read(tmp_path / "labels.parquet")) == 1 + 32


def test_labels_are_those_of_the_report(
    run: Path, model: Path, texts: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "labels.parquet"
    assert main([str(model), str(texts), "--out", str(out)]) == 0
    empty, *rows = read(out)
    assert [row["label"] for row in rows] == predictions_of(run, "llama")
    names = [name for name in rows[0] if name.startswith("p_")]
    assert len(names) == 4
    for row in rows:
        assert sum(row[name] for name in names) == pytest.approx(1, abs=1e-5)
        assert row["probability"] == max(row[name] for name in names) == row[f"p_{row['label']}"]
    assert [row["row"] for row in [empty, *rows]] == list(range(len(rows) + 1))
    assert {empty[name] for name in ("label", "probability", *names)} == {None}
    told = capsys.readouterr().out
    assert "1 rows without a text" in told and told.splitlines()[-1] == str(out)


def test_a_merged_folder_gives_the_same_probabilities(
    run: Path, model: Path, texts: Path, tmp_path: Path
) -> None:
    merged = export_run(run, tmp_path / "merged", "--merge")
    tables = []
    for name, folder in (("a", model), ("b", merged)):
        out = tmp_path / f"{name}.parquet"
        assert main([str(folder), str(texts), "--out", str(out)]) == 0
        tables.append([row["probability"] for row in read(out)[1:]])
    assert tables[0] == pytest.approx(tables[1], abs=1e-4)


def test_what_is_done_is_kept_and_the_same_command_goes_on(
    model: Path, texts: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole, broken = tmp_path / "whole.parquet", tmp_path / "broken.parquet"
    monkeypatch.setattr(cli, "PART", 8)
    assert main([str(model), str(texts), "--out", str(whole)]) == 0
    build, built = cli.build_table, []

    def cut_off(*given: Any) -> Any:
        if len(built) == 2:
            raise KeyboardInterrupt
        built.append(given)
        return build(*given)

    monkeypatch.setattr(cli, "build_table", cut_off)
    arguments = [str(model), str(texts), "--out", str(broken)]
    assert main(arguments) == INTERRUPTED
    assert not broken.exists() and len(list((tmp_path / "broken.parquet.partial").iterdir())) == 3
    again: list[int] = []

    def count(labels: Any, first: int, *rest: Any) -> Any:
        again.append(first)
        return build(labels, first, *rest)

    monkeypatch.setattr(cli, "build_table", count)
    assert main(arguments) == 0
    assert again[0] == 16 and read(broken) == read(whole)
    assert not list(tmp_path.glob("*.partial"))


def test_parts_of_other_texts_are_not_mixed_in(
    model: Path, texts: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "labels.parquet.partial"
    folder.mkdir()
    (folder / "manifest.json").write_text(json.dumps({"trial": "x", "texts": "y", "part": 1}))
    assert main([str(model), str(texts), "--out", str(tmp_path / "labels.parquet")]) == 2
    assert "another model, file or column; delete it" in capsys.readouterr().err


def test_result_of_a_killed_command_is_recognized_by_the_same_one(
    model: Path, texts: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out, left = tmp_path / "labels.parquet", tmp_path / "labels.parquet.partial"
    arguments = [str(model), str(texts), "--out", str(out)]
    with monkeypatch.context() as patch:
        # Killed between the result and the removal of its parts.
        patch.setattr("sweep.prediction.parts.shutil.rmtree", lambda _: None)
        assert main(arguments) == 0
    assert left.is_dir()
    before = out.read_bytes()
    assert main(arguments) == 0
    assert not left.exists() and out.read_bytes() == before
    assert main(arguments) == 0


def test_result_of_other_texts_is_not_taken_for_this_one(
    model: Path, texts: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out, other = tmp_path / "labels.parquet", tmp_path / "other.csv"
    other.write_text("text\nanother one\n")
    assert main([str(model), str(texts), "--out", str(out)]) == 0
    assert main([str(model), str(other), "--out", str(out)]) == 2
    assert "exists; choose another --out, or delete it" in capsys.readouterr().err


def test_text_whose_scores_are_no_numbers_is_not_told_as_a_row_without_text(
    model: Path,
    texts: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    score = Classifier._score

    def overflow(self: Classifier, given: list[str]) -> Any:
        found = score(self, given)
        found[:2] = np.nan
        return found

    monkeypatch.setattr(Classifier, "_score", overflow)
    out = tmp_path / "labels.parquet"
    assert main([str(model), str(texts), "--out", str(out)]) == 1
    told = capsys.readouterr().out
    assert "; 1 rows without a text; 2 rows without a label, since the model's scores" in told
    empty, *rows = read(out)
    assert empty["probability"] is None
    unscored = [row for row in rows if row["label"] is None]
    assert len(unscored) == 2 and all(math.isnan(row["probability"]) for row in unscored)


def test_label_that_no_file_can_hold_is_named(
    model: Path, texts: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = Path(shutil.copytree(model, tmp_path / "copy"))
    path = folder / "classifier" / "config.json"
    config = json.loads(path.read_text())
    config["id2label"]["1"] = "jo\ud83d"
    path.write_text(json.dumps(config))
    assert main([str(folder), str(texts), "--out", str(tmp_path / "labels.parquet")]) == 2
    error = capsys.readouterr().err
    assert "the label 'jo\\ud83d' holds half a character" in error and error.count("\n") == 1


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"out": "texts.csv"}, "exists; choose another --out, or delete it"),
        ({"--text-column": "body"}, "--text-column names 'body', but the columns are id, text"),
        ({"--text-column": "id"}, ""),
        ({"model": "nowhere"}, "there is no such folder; name one that sweep export wrote"),
        ({"model": "."}, "has to be a folder that sweep export wrote"),
        ({"file": "none.csv"}, "there is no such file"),
        ({"--device": "cuda"}, "PyTorch sees no GPU here; use --device cpu"),
        ({"--text-column": "text --text-column text"}, "'text' is given twice, which would join"),
        ({"--batch-size": "0"}, "use a number from 1 to 1,000,000"),
    ],
)
def test_wrong_input_gets_one_sentence(
    model: Path,
    texts: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    change: dict[str, str],
    sentence: str,
) -> None:
    given = {"model": str(model), "file": str(texts), "out": "labels.parquet"}
    given |= {key: value for key, value in change.items() if not key.startswith("--")}
    options = [
        text for key in change if key.startswith("--") for text in (key, *change[key].split())
    ]
    out = str(tmp_path / given["out"])
    code = main([given["model"], given["file"], "--out", out, *options])
    error = capsys.readouterr().err
    assert code == (2 if sentence else 0)
    assert sentence in error and error.count("\n") == bool(sentence)


def test_a_file_without_any_text_is_refused(
    model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "empty.jsonl"
    path.write_text('{"text": ""}\n{"text": null}\n')
    assert main([str(model), str(path), "--out", str(tmp_path / "labels.parquet")]) == 2
    assert "no row has a text in text" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("data", "remedy"),
    [
        (
            b"the food was not as good as it was before\n"
            b"we came back because of the friendly people there\n",
            "add a line of column names above it, or",
        ),
        (b"text,x\nna\xefve words here,1\n", "convert it to UTF-8 (cp1252 makes that line"),
        (b'text,x\n"a b c,1\n', "fix it"),
        ("text\nhello\n".encode("utf-16-le"), "; convert it to UTF-8"),
    ],
)
def test_a_file_that_cannot_be_read_gets_a_remedy_of_this_command(
    tmp_path: Path, data: bytes, remedy: str
) -> None:
    path = tmp_path / "odd.csv"
    path.write_bytes(data)
    with pytest.raises(DataError) as caught:
        load_texts(path, None, None)
    assert remedy in str(caught.value) and "data." not in str(caught.value)


def test_columns_are_joined_as_in_training(model: Path, tmp_path: Path) -> None:
    joined, apart = tmp_path / "joined.jsonl", tmp_path / "apart.jsonl"
    joined.write_text(json.dumps({"text": "a title\na body"}) + "\n")
    apart.write_text(json.dumps({"title": "a title", "body": "a body", "text": "no"}) + "\n")
    columns = ["--text-column", "title", "--text-column", "body"]
    assert main([str(model), str(joined), "--out", str(tmp_path / "a.parquet")]) == 0
    assert main([str(model), str(apart), "--out", str(tmp_path / "b.parquet"), *columns]) == 0
    assert read(tmp_path / "a.parquet") == read(tmp_path / "b.parquet")


def test_code_of_a_model_is_not_run_because_its_folder_says_so(
    model: Path, texts: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    record = json.loads((model / "sweep.json").read_text())
    other = tmp_path / "other"
    other.mkdir()
    record["trial"]["model"]["trust_remote_code"] = True
    (other / "sweep.json").write_text(json.dumps(record))
    assert main([str(other), str(texts), "--out", str(tmp_path / "labels.parquet")]) == 2
    assert "would run as you; read it, then add --trust-remote-code" in capsys.readouterr().err
