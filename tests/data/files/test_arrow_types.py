"""Parquet columns of every type: read as texts and labels, or refused by name and type."""

import datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import datasets
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from sweep.config import DataConfig
from sweep.data import Corpus, load_corpus
from sweep.errors import DataError

TEXTS = [f"some words {i}" for i in range(6)]
NAMES = ["joy", "anger"] * 3
BYTES = [name.encode() for name in NAMES]


def load(folder: Path, label: Any, text: Any = TEXTS, **settings: Any) -> Corpus:
    pq.write_table(pa.table({"text": text, "label": label}), folder / "train.parquet")
    return load_corpus(DataConfig(source="files", path=str(folder), **settings))


def labels_of(corpus: Corpus) -> set[str]:
    return {label for rows in corpus.splits.values() for row in rows for label in row.labels}


@pytest.mark.parametrize(
    ("label", "found"),
    [
        (pa.array(BYTES), {"joy", "anger"}),
        (pa.array(BYTES, pa.large_binary()), {"joy", "anger"}),
        (pa.array(BYTES).dictionary_encode(), {"joy", "anger"}),
        (pa.array([[name] for name in BYTES]), {"joy", "anger"}),
        (pa.array(NAMES, pa.large_string()), {"joy", "anger"}),
        (pa.array(NAMES, pa.string_view()), {"joy", "anger"}),
        (pa.array(NAMES).dictionary_encode(), {"joy", "anger"}),
        (pa.array([b"x1", b"x2"] * 3, pa.binary(2)), {"x1", "x2"}),
        (pa.array([Decimal("1"), Decimal("0")] * 3, pa.decimal128(5, 0)), {"0", "1"}),
        (pa.array([Decimal("1.00"), Decimal("0")] * 3, pa.decimal256(40, 2)), {"0", "1"}),
        (pa.array([1, 0] * 3, pa.uint8()), {"0", "1"}),
        (pa.array([1.0, 0.0] * 3, pa.float32()), {"0", "1"}),
    ],
)
def test_types_that_databases_write_hold_labels(
    tmp_path: Path, label: pa.Array, found: set[str]
) -> None:
    assert labels_of(load(tmp_path, label)) == found


def test_bytes_hold_texts(tmp_path: Path) -> None:
    corpus = load(tmp_path, NAMES, pa.array([text.encode() for text in TEXTS]))
    assert {row.text for rows in corpus.splits.values() for row in rows} == set(TEXTS)


DAY = datetime.date(2020, 1, 1)


@pytest.mark.parametrize(
    ("label", "sentence"),
    [
        (pa.array([DAY] * 6), r"the column 'label' is of type date32\[day\] and gives no labels"),
        (pa.array([datetime.datetime(2020, 1, 1)] * 6), r"is of type timestamp\[us\]"),
        (pa.array([b"\xff", b"\xfe"] * 3), "holds bytes that are not UTF-8 text"),
        (pa.array([[{"name": "x"}]] * 6), "is of type list<"),
        (pa.array([[0.5]] * 6), "is of type list<.*double> and gives no labels; fix it, or name"),
        (pa.array([[("a", 1)]] * 6, pa.map_(pa.string(), pa.int8())), "is of type map<"),
    ],
)
def test_column_that_holds_no_labels_is_refused_by_name_and_type(
    tmp_path: Path, label: pa.Array, sentence: str
) -> None:
    with pytest.raises(DataError, match=sentence):
        load(tmp_path, label)
    with pytest.raises(DataError, match=sentence):
        load(tmp_path, label, label_column="label")


def test_column_that_holds_no_texts_is_refused_by_name_and_type(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"the column 'text' is of type list<.* gives no texts"):
        load(tmp_path, NAMES, pa.array([[0.5]] * 6))


def test_columns_left_unread_are_reported_where_none_fits(tmp_path: Path) -> None:
    pq.write_table(pa.table({"text": TEXTS, "day": [DAY] * 6}), tmp_path / "train.parquet")
    with pytest.raises(DataError, match=r"not read: day is of type date32"):
        load_corpus(DataConfig(source="files", path=str(tmp_path)))


def test_struct_becomes_columns(tmp_path: Path) -> None:
    posts = pa.array([{"text": text, "id": i} for i, text in enumerate(TEXTS)])
    table = pa.table({"post": posts, "label": NAMES})
    pq.write_table(table, tmp_path / "train.parquet")
    corpus = load_corpus(DataConfig(source="files", path=str(tmp_path)))
    assert corpus.sources["train"].text_columns == ("post.text",)


def test_column_that_is_there_twice_matters_only_if_it_is_needed(tmp_path: Path) -> None:
    columns = [pa.array(part) for part in (TEXTS, NAMES, NAMES, NAMES)]
    table = pa.Table.from_arrays(columns, ["text", "label", "x", "x"])
    pq.write_table(table, tmp_path / "train.parquet")
    config = DataConfig(source="files", path=str(tmp_path))
    assert labels_of(load_corpus(config)) == {"joy", "anger"}
    with pytest.raises(DataError, match="the column 'x' occurs twice"):
        load_corpus(config.model_copy(update={"label_column": "x"}))


def test_shards_with_other_label_names_are_refused(tmp_path: Path) -> None:
    for index, names in enumerate((["a", "b"], ["b", "a"])):
        features = {"text": datasets.Value("string"), "label": datasets.ClassLabel(names=names)}
        rows = {"text": ["x y", "z w"], "label": [0, 1]}
        part = datasets.Dataset.from_dict(rows, datasets.Features(features))
        part.to_parquet(tmp_path / f"train-0000{index}-of-00002.parquet")
    with pytest.raises(DataError, match=r"has different label names in .*train-00001-of-00002"):
        load_corpus(DataConfig(source="files", path=str(tmp_path)))
