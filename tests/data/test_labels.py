"""Number labels that files write in several ways."""

import json
from pathlib import Path
from typing import Any

import datasets
import pytest

from sweep.config import Config, DataConfig
from sweep.data import Corpus, build_subsets, load_corpus
from sweep.data.spellings import find_label, unify_spellings
from sweep.preflight.inputs import resolve_inputs


def write(path: Path, labels: list[Any]) -> None:
    rows = [{"text": f"{path.stem} text {i}", "label": labels[i % len(labels)]} for i in range(12)]
    if path.suffix == ".csv":
        lines = ["text,label", *(f"{row['text']},{row['label']}" for row in rows)]
    else:
        lines = [json.dumps(row) for row in rows]
    path.write_text("\n".join(lines) + "\n")


def load(path: Path, **settings: Any) -> Corpus:
    return load_corpus(DataConfig(source="files", path=str(path), **settings))


def list_labels(corpus: Corpus) -> list[set[str]]:
    return [{label for row in rows for label in row.labels} for rows in corpus.splits.values()]


@pytest.mark.parametrize(
    ("train", "test", "labels"),
    [
        (("csv", ["1.0", "0.0", ""]), ("csv", ["1", "0"]), {"0", "1"}),
        (("csv", ["1", "0"]), ("csv", ["1.0", "0.00"]), {"0", "1"}),
        (("jsonl", [1, 0]), ("csv", ["1.0", "0.0"]), {"0", "1"}),
        (("jsonl", [1.0, 0.0]), ("jsonl", ["1", "0"]), {"0", "1"}),
        (("jsonl", [4.5, 3]), ("csv", ["4.5", "3.0"]), {"4.5", "3"}),
        (("jsonl", [True, False]), ("csv", ["true", "false"]), {"True", "False"}),
        (("csv", ["TRUE", "FALSE"]), ("csv", ["True", "False"]), {"True", "False"}),
        (("jsonl", [True, False]), ("csv", ["1", "0"]), {"0", "1"}),
        (("csv", ["+1", "-1"]), ("csv", ["1", "-1"]), {"1", "-1"}),
    ],
)
def test_number_labels_match_across_files(
    tmp_path: Path, train: tuple[str, list[Any]], test: tuple[str, list[Any]], labels: set[str]
) -> None:
    for split, (ending, values) in (("train", train), ("test", test)):
        write(tmp_path / f"{split}.{ending}", values)
    assert all(found == labels for found in list_labels(load(tmp_path)))


@pytest.mark.parametrize(
    "labels",
    [
        ["1.0", "1.1", "2.0"],
        ["1.1", "1.10"],
        ["007", "7"],
        ["1e5", "2"],
        ["+1", "-1"],
        ["Bug", "bug"],
        ["50%", "100%"],
        ["yes", "no", "off", "null", "NA", "None", "nan"],
        ["[Bug]", "[Feature]"],
    ],
)
def test_labels_of_one_file_stay_as_they_are_written(tmp_path: Path, labels: list[str]) -> None:
    write(tmp_path / "a.csv", labels)
    corpus = load(tmp_path / "a.csv")
    assert {label for found in list_labels(corpus) for label in found} == set(labels)
    assert not corpus.spellings


@pytest.mark.parametrize(
    "splits",
    [
        [{"1.0", "1", "2.0"}, {"1", "2"}],
        [{"01", "02"}, {"1", "2"}],
        [{"1.0", "2.0"}, {"1", "2", "many"}],
        [{"True", "False"}, {"1", "2"}],
    ],
)
def test_labels_that_may_differ_are_not_merged(splits: list[set[str]]) -> None:
    assert unify_spellings(splits) == {}


def test_configuration_may_spell_a_label_as_its_file_does(tmp_path: Path) -> None:
    write(tmp_path / "train.csv", ["0.0", "1.0", "2.0"])
    write(tmp_path / "test.csv", ["0", "1", "2"])
    data = {"source": "files", "path": str(tmp_path), "exclude_labels": ["2.0"],
            "label_order": ["1.0", "0"]}  # fmt: skip
    grid = {"models": [{"name": "m", "path": "tiny:llama"}], "n_labels": [2], "n_samples": [2]}
    subsets = build_subsets(Config.model_validate({"data": data, "grid": grid}))
    assert subsets.labels_for(2) == ("1", "0")
    assert set(subsets.counts) == {"0", "1"}


@pytest.mark.parametrize(
    ("name", "labels", "meant"),
    [
        ("1.0", {"0", "1"}, "1"),
        ("1", {"0.0", "1.0"}, "1.0"),
        ("+1", {"-1", "1"}, "1"),
        ("true", {"True", "False"}, "True"),
        ("TRUE", {"0", "1"}, "1"),
        ("1", {"1", "1.0"}, "1"),
        ("1.00", {"1", "1.0"}, "1.00"),
        ("true", {"1", "2"}, "true"),
        ("007", {"7"}, "007"),
        ("joy", {"Joy"}, "joy"),
    ],
)
def test_name_in_the_configuration_means_the_label_it_writes(
    name: str, labels: set[str], meant: str
) -> None:
    assert find_label(name, labels) == meant


def test_excluded_number_written_differently_raises_no_alarm(tmp_path: Path) -> None:
    write(tmp_path / "a.csv", ["0.0", "1.0", "2.0"])
    data = {"source": "files", "path": str(tmp_path / "a.csv"), "exclude_labels": ["2"]}
    grid = {"models": [{"name": "m", "path": "tiny:llama"}], "n_labels": [2], "n_samples": [2]}
    reached = resolve_inputs(Config.model_validate({"data": data, "grid": grid}))
    assert reached.subsets and set(reached.subsets.counts) == {"0.0", "1.0"}
    assert reached.account and reached.account.remarks == ()


@pytest.mark.parametrize("values", [["1.0", "0.0"], ["1", "0"], ["True", "false"], ["pos", "0"]])
def test_indices_have_their_names_however_written(tmp_path: Path, values: list[str]) -> None:
    (tmp_path / "names.txt").write_text("neg\npos\n")
    write(tmp_path / "a.csv", values)
    corpus = load(tmp_path / "a.csv", labels_file="names.txt")
    assert {label for found in list_labels(corpus) for label in found} == {"neg", "pos"}


def test_names_of_one_file_hold_for_the_indices_of_another(tmp_path: Path) -> None:
    features = datasets.Features(
        {"text": datasets.Value("string"), "label": datasets.ClassLabel(names=["neg", "pos"])}
    )
    train = {"text": [f"text {i}" for i in range(12)], "label": [0, 1] * 6}
    datasets.Dataset.from_dict(train, features).to_parquet(tmp_path / "train.parquet")
    write(tmp_path / "test.csv", ["0", "1"])
    assert list_labels(load(tmp_path))[2] == {"neg", "pos"}
