"""Whether the first line of a file holds names: detected, configured, or asked for."""

from pathlib import Path
from typing import Any

import pytest

from sweep.config import DataConfig
from sweep.data import Corpus, load_corpus
from sweep.errors import DataError

WORDS = ["parcel", "refund", "account", "card", "bill", "courier", "depot"]
TEXTS = [f"the {WORDS[i % 7]} of order {i} is {WORDS[i % 5]} again and late" for i in range(60)]


def write(path: Path, first: str, labels: tuple[str, ...], line: str = "{text},{label}") -> Path:
    rows = [
        line.format(text=text, label=labels[i % len(labels)], i=i + 1)
        for i, text in enumerate(TEXTS)
    ]
    path.write_text("\n".join([first, *rows] if first else rows) + "\n")
    return path


def load(path: Path, **settings: Any) -> Corpus:
    return load_corpus(DataConfig(source="files", path=str(path), **settings))


def count(corpus: Corpus) -> int:
    return sum(map(len, corpus.splits.values()))


@pytest.mark.parametrize(
    ("line", "columns"),
    [
        ("{text},{label}", ["text", "label"]),
        ("{label},{text}", ["label", "text"]),
        ("{i},{text},{label}", ["column1", "text", "label"]),
        ("{text};{label}", ["text", "label"]),
    ],
)
@pytest.mark.parametrize("labels", [("billing", "delivery"), ("0", "1"), ("content", "reason")])
def test_file_without_names_is_refused_with_the_names_that_read_it(
    tmp_path: Path, line: str, columns: list[str], labels: tuple[str, ...]
) -> None:
    path = write(tmp_path / "a.csv", "", labels, line)
    remedy = rf"a label, where column names .* data.columns=\[{', '.join(columns)}\]"
    with pytest.raises(DataError, match=remedy):
        load(path)
    corpus = load(path, columns=columns)
    assert count(corpus) == len(TEXTS)
    assert {row.labels[0] for row in corpus.splits["train"]} == set(labels)


@pytest.mark.parametrize(
    ("first", "labels"),
    [
        ("i am so happy today,content", ("content", "reason")),
        ("i am so happy today,emotion", ("emotion", "reason")),
        ("this parcel of mine never came to the door,rare", tuple("abcdefghij" * 6)),
    ],
)
def test_names_that_match_by_chance_are_no_names(
    tmp_path: Path, first: str, labels: tuple[str, ...]
) -> None:
    if labels[0] == "a":  # labels of which many occur once
        labels = tuple(f"{label}{i}" for i, label in enumerate(labels))
    with pytest.raises(DataError, match=r"the first line holds .* set data.columns=\["):
        load(write(tmp_path / "a.csv", first, labels))


@pytest.mark.parametrize(
    ("first", "labels"),
    [
        ("text,label", ("label", "other")),
        ("text,class", ("class", "lesson")),
        ("text,spam", ("spam", "ham")),
        ("review,spam", ("spam", "ham")),
        ("customer review,spam", ("spam", "ham")),
        ("0,1", ("1", "0")),
        ("What do you think of it and why?,rating", ("good", "bad")),
    ],
)
def test_usual_names_raise_no_alarm(tmp_path: Path, first: str, labels: tuple[str, ...]) -> None:
    assert count(load(write(tmp_path / "a.csv", first, labels))) == len(TEXTS)


@pytest.mark.parametrize("first", ["text,label", "Review,Stars"])
def test_names_in_the_first_line_beside_given_ones_are_refused(tmp_path: Path, first: str) -> None:
    path = write(tmp_path / "a.csv", first, ("x", "y"))
    with pytest.raises(DataError, match=r"line 1 holds column names .* leave data.columns out"):
        load(path, columns=["text", "label"])


@pytest.mark.parametrize("columns", [["text"], ["id", "text", "label"]])
def test_given_names_have_to_be_as_many_as_the_columns(tmp_path: Path, columns: list[str]) -> None:
    path = write(tmp_path / "a.csv", "", ("x", "y"))
    with pytest.raises(DataError, match=r"data.columns has \d names, but line 1 has 2 fields"):
        load(path, columns=columns)


def test_given_names_hold_for_every_split(tmp_path: Path) -> None:
    write(tmp_path / "train.csv", "", ("x", "y"))
    write(tmp_path / "test.csv", "text,label", ("x", "y"))
    with pytest.raises(DataError, match=r"test.csv: line 1 holds column names .* delete the line"):
        load(tmp_path, columns=["text", "label"])


def test_split_without_names_is_refused(tmp_path: Path) -> None:
    write(tmp_path / "train.csv", "text,label", ("x", "y"))
    write(tmp_path / "test.csv", "", ("x", "y"))
    with pytest.raises(DataError, match=r"test.csv: has no column 'text' .* put a line of column"):
        load(tmp_path)


def test_names_repeated_between_the_rows_are_refused(tmp_path: Path) -> None:
    path = write(tmp_path / "a.csv", "text,label", ("x", "y"))
    path.write_text(path.read_text() * 2)
    with pytest.raises(DataError, match=r"line 62 repeats the line of column names; delete it"):
        load(path)


SHARDS = [f"train-0000{i}-of-00002.csv" for i in range(2)]


def write_shards(folder: Path, *firsts: str) -> None:
    for number, (name, first) in enumerate(zip(SHARDS, firsts, strict=True)):
        path = write(folder / name, first, ("x", "y"))
        path.write_text(path.read_text().replace("order", f"order {number}"))


def test_shards_without_names_are_refused_with_a_remedy_that_works(tmp_path: Path) -> None:
    write_shards(tmp_path, "", "")
    with pytest.raises(DataError, match=r"the first line holds 'x', a label.*columns=\[text, labe"):
        load(tmp_path)
    assert count(load(tmp_path, columns=["text", "label"])) == 2 * len(TEXTS)


@pytest.mark.parametrize("columns", [None, ["text", "label"]])
def test_one_shard_of_another_form_is_named(tmp_path: Path, columns: list[str] | None) -> None:
    first, second = ("text,label", "") if columns is None else ("", "text,label")
    write_shards(tmp_path, first, second)
    with pytest.raises(DataError, match=rf"{SHARDS[1]}: .* holds"):
        load(tmp_path, columns=columns)


def test_name_written_just_as_usual_comes_before_one_in_capitals(tmp_path: Path) -> None:
    rows = "".join(f"id {i},{text},{i % 2}\n" for i, text in enumerate(TEXTS))
    (tmp_path / "a.csv").write_text(f"Text,text,label\n{rows}")
    assert load(tmp_path / "a.csv").sources["train"].text_columns == ("text",)


def test_remedy_for_a_test_file_with_other_columns_than_the_given_ones_works(
    tmp_path: Path,
) -> None:
    write(tmp_path / "train.csv", "", ("x", "y"))
    write(tmp_path / "test.csv", "", ("x", "y"), "{text}")
    with pytest.raises(DataError, match=r"test.csv: .* 1 field.*set data.splits.test=null"):
        load(tmp_path, columns=["text", "label"])
    assert load(tmp_path, columns=["text", "label"], splits={"test": None}).held_out
