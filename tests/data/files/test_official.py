"""The official GoEmotions files: which of them are read, and what may be configured for them."""

import shutil
import zipfile
from pathlib import Path
from typing import Any

import pytest

from sweep.config import DataConfig
from sweep.data import Corpus, load_corpus
from sweep.errors import DataError

ROWS = [(f"text {i}", i % 2) for i in range(40)]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    folder = tmp_path / "official"
    folder.mkdir()
    (folder / "emotions.txt").write_text("joy\nanger\n")
    for name in ("train", "dev", "test"):
        lines = [f"{name} {text}\t{label}\tid" for text, label in ROWS]
        (folder / f"{name}.tsv").write_text("\n".join(lines))
    return folder


def load(path: Path, **settings: Any) -> Corpus:
    return load_corpus(DataConfig(source="files", path=str(path), **settings))


def labels_of(corpus: Corpus) -> set[str]:
    return {label for row in corpus.splits["train"] for label in row.labels}


def test_split_set_to_null_is_held_out_from_training(folder: Path) -> None:
    corpus = load(folder, splits={"test": None})
    assert corpus.held_out == ("test",)
    assert labels_of(corpus) == {"joy", "anger"}


def test_remedy_for_a_missing_file_works(folder: Path) -> None:
    (folder / "test.tsv").unlink()
    with pytest.raises(
        DataError, match=r"set data.splits.test=null to hold out test from the training"
    ):
        load(folder)
    assert load(folder, splits={"test": None}).held_out == ("test",)


def test_file_in_another_encoding_is_read_as_such(folder: Path) -> None:
    (folder / "train.tsv").write_bytes(b"caf\xe9\t0\tx\n" * 9)
    assert load(folder, encoding="cp1252").splits["train"][0].text == "café"


def test_labels_file_names_the_indices(folder: Path) -> None:
    (folder / "groups.txt").write_text("good\nbad\n")
    assert labels_of(load(folder, labels_file="groups.txt")) == {"good", "bad"}


def test_folder_below_or_archive_is_read_the_same_way(folder: Path) -> None:
    with zipfile.ZipFile(folder.parent / "all.zip", "w") as archive:
        for file in folder.iterdir():
            archive.write(file, f"official/{file.name}")
    below, packed = load(folder.parent), load(folder.parent / "all.zip")
    assert below.splits == packed.splits == load(folder).splits


def test_training_file_alone_has_its_labels_named(folder: Path) -> None:
    corpus = load(folder / "train.tsv")
    assert labels_of(corpus) == {"joy", "anger"}
    assert [Path(name).name for name in corpus.unused] == ["dev.tsv", "test.tsv"]


def test_other_training_file_beside_it_is_reported_as_unused(folder: Path) -> None:
    shutil.copy(folder / "train.tsv", folder / "train.csv")
    assert [Path(name).name for name in load(folder).unused] == ["train.csv"]


def test_file_with_a_line_of_names_is_read_by_those(folder: Path) -> None:
    for name in ("train", "dev", "test"):
        lines = [f"{name} {text}\t{label}" for text, label in ROWS]
        (folder / f"{name}.tsv").write_text("\n".join(["sentence\tclass", *lines]))
    corpus = load(folder)
    assert corpus.sources["train"].text_columns == ("sentence",)
    assert labels_of(corpus) == {"0", "1"}
