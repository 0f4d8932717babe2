"""Data files that no split uses: which are reported, and as a note or a warning."""

import json
import zipfile
from pathlib import Path
from typing import Any

import pytest

from sweep.config import DataConfig
from sweep.data import Corpus, Subsets, build_account, load_corpus
from sweep.errors import DataError

ROWS = [("joy", "anger")[i % 2] for i in range(20)]


def write(folder: Path, *names: str) -> None:
    for name in names:
        lines = ["text,label", *(f"{name} text {i},{label}" for i, label in enumerate(ROWS))]
        path = folder / name
        path.parent.mkdir(exist_ok=True)
        path.write_text("\n".join(lines))


def load(path: Path, **settings: Any) -> Corpus:
    return load_corpus(DataConfig(source="files", path=str(path), **settings))


def list_remarks(path: Path, **settings: Any) -> list[tuple[str, str]]:
    config = DataConfig(source="files", path=str(path), **settings)
    corpus = load_corpus(config)
    remarks = build_account(corpus, Subsets(corpus), config).remarks
    return [(remark.level, remark.sentence) for remark in remarks]


def test_file_of_a_split_that_the_user_sets_is_a_note_without_remedy(tmp_path: Path) -> None:
    write(tmp_path, "train.csv", "test.csv")
    assert list_remarks(tmp_path, splits={"test": None}) == [
        ("note", "data.splits: test.csv is not used, as data.splits says")
    ]


def test_other_file_beside_it_is_still_a_warning(tmp_path: Path) -> None:
    write(tmp_path, "train_a.csv", "train_b.csv", "held.csv")
    splits = {"train": "train_a.csv"}
    assert [level for level, _ in list_remarks(tmp_path, splits=splits)] == ["warning", "note"]


@pytest.mark.parametrize(
    "value", [["joy", "anger"], {"0": "joy", "1": "anger"}, {"good": ["joy"], "bad": ["a", "b"]}]
)
def test_json_file_without_rows_is_not_told(tmp_path: Path, value: Any) -> None:
    write(tmp_path, "train.csv")
    (tmp_path / "names.json").write_text(json.dumps(value))
    assert load(tmp_path).unused == ()


def test_json_file_with_rows_is_reported(tmp_path: Path) -> None:
    write(tmp_path, "train.csv")
    (tmp_path / "more.json").write_text(json.dumps([{"text": "a", "label": "joy"}] * 2))
    assert load(tmp_path).unused == (f"{tmp_path}/more.json",)


def test_long_names_are_reported_in_full(tmp_path: Path) -> None:
    name = "unsupervised-00000-of-00001-0123456789abcdef.csv"
    write(tmp_path, "train.csv", name)
    ((_, sentence),) = list_remarks(tmp_path)
    assert f": {name} is not used" in sentence


def test_files_beside_those_named_inside_an_archive_are_found(tmp_path: Path) -> None:
    write(tmp_path / "set", "a.csv", "dev.csv", "more.csv")
    with zipfile.ZipFile(tmp_path / "x.zip", "w") as archive:
        for file in (tmp_path / "set").iterdir():
            archive.write(file, f"set/{file.name}")
    with pytest.raises(DataError, match=r"its files: set/a.csv, set/dev.csv, set/more.csv\)"):
        load(tmp_path / "x.zip")
    corpus = load(tmp_path / "x.zip", splits={"train": "set/a.csv"})
    assert corpus.held_out == ("test",)
    assert corpus.unused == (f"{tmp_path}/x.zip/set/more.csv",)


def test_of_a_folder_with_a_used_file_only_the_others_are_reported(tmp_path: Path) -> None:
    write(tmp_path, "train/a.csv", "train/b.csv", "test.csv")
    corpus = load(tmp_path, splits={"train": "train/a.csv"})
    assert corpus.unused == (f"{tmp_path}/train/b.csv",)


def test_archive_in_a_folder_is_used_as_a_whole(tmp_path: Path) -> None:
    write(tmp_path / "set", "train.csv", "more.csv")
    with zipfile.ZipFile(tmp_path / "x.zip", "w") as archive:
        for file in (tmp_path / "set").iterdir():
            archive.write(file, file.name)
            file.unlink()
    (tmp_path / "set").rmdir()
    assert load(tmp_path).unused == (f"{tmp_path}/x.zip/more.csv",)
