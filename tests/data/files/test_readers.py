"""Files on disk, read back as tables and rows."""

import csv
import json
import os
from collections.abc import Callable
from decimal import Decimal
from pathlib import Path
from typing import Any

import datasets
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from sweep.config import DataConfig
from sweep.data import Corpus, load_corpus
from sweep.data.columns import find_columns
from sweep.data.files.readers import read_table
from sweep.data.files.table import Table
from sweep.data.labels import parse_labels
from sweep.errors import DataError

Write = Callable[[Path, list[str], list[str]], None]
ODD_TEXTS = ['said "hi", twice', "two\nlines", "two\r\nlines", "tab\there", "caf\u00e9 \u2028 \x85"]
TEXTS = st.lists(st.text(st.characters(exclude_categories=["Cs"])), min_size=1, max_size=6)
RELAXED = settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


def write_delimited(path: Path, texts: list[str], labels: list[str]) -> None:
    delimiter = "," if path.suffix == ".csv" else "\t"
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, delimiter=delimiter)
        writer.writerows([("text", "label"), *zip(texts, labels, strict=True)])


def write_jsonl(path: Path, texts: list[str], labels: list[str]) -> None:
    pairs = zip(texts, labels, strict=True)
    lines = [json.dumps({"text": t, "label": n}, ensure_ascii=False) + "\n" for t, n in pairs]
    path.write_text("".join(lines), encoding="utf-8", newline="")


def write_parquet(path: Path, texts: list[str], labels: list[str]) -> None:
    pq.write_table(pa.table({"text": texts, "label": labels}), path)


KINDS: dict[str, Write] = {
    ".csv": write_delimited,
    ".tsv": write_delimited,
    ".jsonl": write_jsonl,
    ".parquet": write_parquet,
}


@pytest.mark.parametrize("kind", KINDS)
def test_quotes_and_newlines_survive(tmp_path: Path, kind: str) -> None:
    path = tmp_path / f"train{kind}"
    KINDS[kind](path, ODD_TEXTS, ["joy"] * len(ODD_TEXTS))
    assert read_table(path).columns["text"] == ODD_TEXTS


@pytest.mark.parametrize("kind", KINDS)
@RELAXED
@given(texts=TEXTS)
def test_any_text_reads_back_the_same(tmp_path: Path, kind: str, texts: list[str]) -> None:
    path = tmp_path / f"train{kind}"
    KINDS[kind](path, texts, ["joy"] * len(texts))
    assert read_table(path).columns == {"text": texts, "label": ["joy"] * len(texts)}


def load_or_refuse(path: Path) -> None:
    try:
        assert isinstance(load_corpus(DataConfig(source="files", path=str(path))), Corpus)
    except DataError as error:
        assert "\n" not in str(error)


@pytest.mark.parametrize("kind", [*KINDS, ".json"])
@RELAXED
@given(data=st.binary(max_size=200) | st.text('{}[]":,\\ntextlabe0\r\n\t').map(str.encode))
def test_any_bytes_give_a_corpus_or_one_sentence(tmp_path: Path, kind: str, data: bytes) -> None:
    path = tmp_path / f"data{kind}"
    path.write_bytes(data)
    load_or_refuse(path)


@RELAXED
@given(start=st.floats(0, 1), data=st.binary(min_size=1, max_size=8))
def test_damaged_parquet_gives_a_corpus_or_one_sentence(
    tmp_path: Path, start: float, data: bytes
) -> None:
    path = tmp_path / "data.parquet"
    write_parquet(path, ["a b", "c d", "e f"], ["x", "y", "x"])
    whole = path.read_bytes()
    place = int(start * len(whole))
    path.write_bytes(whole[:place] + data + whole[place + len(data) :])
    load_or_refuse(path)


def test_byte_order_mark_and_crlf_are_no_part_of_the_data(tmp_path: Path) -> None:
    path = tmp_path / "data.csv"
    path.write_bytes(b"\xef\xbb\xbftext,label\r\nglad,joy\r\n\r\nmad,anger")
    table = read_table(path)
    assert table.columns == {"text": ["glad", "mad"], "label": ["joy", "anger"]}
    assert table.lines == [2, 4]


def test_line_of_a_row_counts_the_newlines_inside_texts(tmp_path: Path) -> None:
    path = tmp_path / "data.csv"
    path.write_text('text,label\n"one\ntwo",joy\nthree,anger\n')
    assert [read_table(path).where(row) for row in (0, 1)] == [f"{path}: line 2", f"{path}: line 4"]


def test_long_text_is_read_completely(tmp_path: Path) -> None:
    path = tmp_path / "data.csv"
    limit = csv.field_size_limit()
    write_delimited(path, ["x" * 200_000], ["joy"])
    assert len(read_table(path).columns["text"][0]) == 200_000
    assert csv.field_size_limit() == limit


def test_file_without_quoting_keeps_its_quotes(tmp_path: Path) -> None:
    path = tmp_path / "data.tsv"
    path.write_text('text\tlabel\n"Well" he said\tjoy\n')
    assert read_table(path, quoted=False).columns["text"] == ['"Well" he said']


def test_json_may_be_one_array(tmp_path: Path) -> None:
    path = tmp_path / "data.json"
    path.write_text('[{"text": "a",\n "label": 1}, {"text": "b"}]')
    assert read_table(path).columns == {"text": ["a", "b"], "label": [1, None]}


def test_parquet_brings_its_class_names(tmp_path: Path) -> None:
    feature = datasets.List(datasets.ClassLabel(names=["joy", "anger"]))
    features = datasets.Features({"text": datasets.Value("string"), "labels": feature})
    rows = datasets.Dataset.from_dict({"text": ["a"], "labels": [[1]]}, features)
    rows.to_parquet(tmp_path / "data.parquet")
    assert read_table(tmp_path / "data.parquet").class_names == {"labels": ["joy", "anger"]}


def test_categories_and_other_types_of_pandas_are_read_or_left(tmp_path: Path) -> None:
    path = tmp_path / "data.parquet"
    frame = pd.DataFrame({"text": ["a", "b"], "label": pd.Categorical(["x", None])})
    frame.assign(vector=[[0.5], [1.5]], day=pd.Timestamp("2020-01-01")).to_parquet(path)
    assert read_table(path).columns == {"text": ["a", "b"], "label": ["x", None]}


@pytest.mark.parametrize(
    ("name", "data", "sentence"),
    [
        ("a.csv", b"text,label\ncaf\xe9,joy\n", r"not UTF-8 text \(byte 14, line 2\); convert it"),
        (
            "a.csv",
            b"\xff\xfet",
            r"begins like UTF-16 text but is not \(byte 2: .*copy it",
        ),
        ("a.csv", b"", "is empty; it needs a line of column names"),
        ("a.csv", b"text,label\na,b,c\n", "line 2 has 3 fields where the header has 2; put quotes"),
        ("a.csv", b'text,label\na,b\n"c,d\n', r"row at line 3 has a misplaced quote .*quoted=f"),
        ("a.tsv", b'text\tlabel\n"a" b\tc\n', "row at line 2 has a misplaced quote"),
        ("a.csv", b"text,text\na,b\n", "has two columns named 'text'; rename one"),
        (
            "a.jsonl",
            b'{"text": "a"}\n{"text"\n',
            r"line 2 is not JSON \(.*write one object per line",
        ),
        ("a.jsonl", b'{"text": "a"}\n\n3\n', "line 3 is not a JSON object such as"),
        ("a.json", b'[{"text": "a"},\n{]', "line 2 is not JSON"),
        ("a.json", b'[{"text": "a"}, 3]', "row 2 is not a JSON object"),
        ("a.jsonl", b"[" * 100_000, "line 1 is not JSON"),
        ("a.parquet", b"PAR1", "cannot be read as Parquet .*check the file or write it again"),
        (
            "a.docx",
            b"",
            "of an unknown kind; name a file that ends in .csv, .tsv, .jsonl, .json or",
        ),
        ("a.xlsx", b"", "is a spreadsheet; save its sheet as CSV UTF-8 and name that file"),
    ],
)
def test_damaged_file_is_refused_with_location_and_remedy(
    tmp_path: Path, name: str, data: bytes, sentence: str
) -> None:
    path = tmp_path / name
    path.write_bytes(data)
    with pytest.raises(DataError, match=sentence) as caught:
        read_table(path)
    assert str(caught.value).startswith(f"{path}: ")
    assert "\n" not in str(caught.value)


def test_missing_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"gone.csv: there is no such file; check data.path"):
        read_table(tmp_path / "gone.csv")


WORDS = ["so glad", "so mad", "how nice", "how sad"]
FEW = ["x", "y", "x", "y"]


@pytest.mark.parametrize(
    ("columns", "asked", "found"),
    [
        ({"note": WORDS, "text": WORDS, "label": FEW}, (None, None), ("text", "label")),
        ({"Text": WORDS, "LABEL": FEW}, (None, None), ("Text", "LABEL")),
        ({"text": WORDS, "note": WORDS, "label": FEW, "b": FEW}, ("note", "b"), ("note", "b")),
        ({"id": [*"abcd"], "note": WORDS, "mood": FEW}, (None, None), ("note", "mood")),
        ({"id": ["1", "2", "3", "4"], "note": WORDS, "mood": [0, 1, 0, 1]}, (None, None),
         ("note", "mood")),
        ({"note": ["\u9ad8\u5174", "\u96be\u8fc7", "\u597d", "\u574f"], "mood": FEW}, (None, None),
         ("note", "mood")),
        ({"note": WORDS, "mood": [["x"], ["y"], ["x"], ["x"]]}, (None, None), ("note", "mood")),
    ],
)  # fmt: skip
def test_columns_are_those_asked_for_or_named_as_usual_or_alone_in_their_look(
    columns: dict[str, list[Any]], asked: tuple[Any, Any], found: tuple[str, str]
) -> None:
    assert find_columns(Table("a.csv", columns), *asked) == found


@pytest.mark.parametrize(
    ("columns", "asked", "sentence"),
    [
        ({"a": WORDS, "b": WORDS, "label": FEW}, (None, None),
         r"several look like texts \(a, b\); set data.text_column to one of a, b, label"),
        ({"text": WORDS, "a": FEW, "b": FEW}, (None, None),
         r"several look like labels \(a, b\); set data.label_column to one of text, a, b"),
        ({"a": FEW, "b": FEW}, (None, None), "none looks like texts; set data.text_column"),
        ({"text": WORDS, "a": [*"abcd"]}, (None, None), "none looks like labels; set data.label"),
        ({"text": WORDS, "a": FEW}, (None, "mood"), "data.label_column names 'mood', but the co"),
        ({"tekst": WORDS, "a": FEW}, ("text", None), "names 'text', but the columns are tekst, a"),
        ({"so so": WORDS, "x": FEW}, (None, None), "first line holds 'x', a label, where column"),
        ({}, (None, None), "set data.text_column to one of none"),
    ],
)  # fmt: skip
def test_unclear_columns_are_refused_with_their_list(
    columns: dict[str, list[Any]], asked: tuple[Any, Any], sentence: str
) -> None:
    with pytest.raises(DataError, match=sentence) as caught:
        find_columns(Table("a.csv", columns, lines=[2, 3, 4, 5]), *asked)
    assert str(caught.value).startswith("a.csv: ")


NAMES = ["joy", "anger"]


@pytest.mark.parametrize(
    ("value", "names", "separator", "labels"),
    [
        (" joy ", None, None, ("joy",)),
        (1, None, None, ("1",)),
        (1.0, None, None, ("1",)),
        (True, None, None, ("True",)),
        (1, NAMES, None, ("anger",)),
        ("0", NAMES, None, ("joy",)),
        ("anger", NAMES, None, ("anger",)),
        (-1, NAMES, None, ()),
        (["joy", "anger", "joy"], None, None, ("joy", "anger")),
        ([0, 1], NAMES, None, ("joy", "anger")),
        ('["joy"]', None, None, ("joy",)),
        ("['joy', 'anger']", None, None, ("joy", "anger")),
        ("[0]", NAMES, None, ("joy",)),
        ("joy,anger", None, None, ("joy,anger",)),
        ("joy, anger,", None, ",", ("joy", "anger")),
        ("[joy", None, None, ("[joy",)),
        ("[Bug]", None, None, ("[Bug]",)),
        ("[Bug report]", None, None, ("[Bug report]",)),
        ("[Bug],[UI]", None, ",", ("[Bug]", "[UI]")),
        ("[3]", None, None, ("3",)),
        (4.5, None, None, ("4.5",)),
        (Decimal("4.50"), None, None, ("4.5",)),
        ("4.50", None, None, ("4.50",)),
        ("007", None, None, ("007",)),
        ("1e5", None, None, ("1e5",)),
        ("1.0", NAMES, None, ("anger",)),
        ("-1.0", NAMES, None, ()),
        ("True", NAMES, None, ("anger",)),
        ("", None, None, ()),
        (None, None, None, ()),
        (float("nan"), NAMES, None, ()),
        ([], None, None, ()),
    ],
)
def test_labels_are_names_numbers_or_lists(
    value: Any, names: list[str] | None, separator: str | None, labels: tuple[str, ...]
) -> None:
    assert parse_labels(value, names, separator) == labels


@pytest.mark.parametrize(
    ("value", "names", "phrase"),
    [
        ("['joy', 'fea]", None, "is not a readable list"),
        ("[" * 5000 + "]" * 5000, None, "is not a readable list"),
        ("[0 3]", None, r"'\[0 3\]' is a NumPy array as text, not a list such as"),
        ("['joy' 'fear']", None, "is a NumPy array as text"),
        (0.5, NAMES, "'0.5' is neither one of the 2 label names nor an index"),
        (float("inf"), None, "inf is neither"),
        ({"a": 1}, None, "is neither a name nor a number"),
        (2, NAMES, "'2' is neither one of the 2 label names nor an index from 0 to 1"),
        ("love", NAMES, "'love' is neither one of the 2 label names"),
    ],
)
def test_unreadable_label_is_refused(value: Any, names: Any, phrase: str) -> None:
    with pytest.raises(ValueError, match=phrase):
        parse_labels(value, names)


def test_pipe_is_distinguished_from_a_missing_file(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "a.csv")
    with pytest.raises(DataError, match=r"a.csv: is a pipe or device, not a file"):
        read_table(tmp_path / "a.csv")


def test_columns_of_lists_are_not_offered_for_the_text(tmp_path: Path) -> None:
    rows = [{"tag": "greet", "patterns": ["hi there", "hello you"]}] * 3
    (tmp_path / "a.json").write_text(json.dumps(rows))
    with pytest.raises(
        DataError, match=r"\(patterns: lists, so write one text per row\).* of tag$"
    ):
        load_corpus(DataConfig(source="files", path=str(tmp_path / "a.json")))


def test_missing_labels_file_names_its_key(tmp_path: Path) -> None:
    (tmp_path / "train.csv").write_text("text,label\na b,0\nc d,1\n")
    with pytest.raises(DataError, match=r"names.txt: there is no such file; check data.labels_fi"):
        load_corpus(DataConfig(source="files", path=str(tmp_path), labels_file="names.txt"))


def test_label_column_named_for_the_text_is_reported(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("text,label\na b,joy\nc d,anger\n")
    data = DataConfig(source="files", path=str(tmp_path / "a.csv"), text_column=["text", "label"])
    with pytest.raises(DataError, match=r"'label' is named in data.text_column; remove it there"):
        load_corpus(data)


def test_texts_below_their_labels_are_reported(tmp_path: Path) -> None:
    texts = {name: [f"{name} number {i}" for i in range(5)] for name in ("joy", "anger")}
    (tmp_path / "a.json").write_text(json.dumps(texts))
    with pytest.raises(DataError, match=r"all columns look like texts \(joy, anger\), and none is"):
        load_corpus(DataConfig(source="files", path=str(tmp_path / "a.json")))
