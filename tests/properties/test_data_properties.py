"""Whatever is in a data file: it is read, or one sentence says why not, and its subsets are exactly
the requested ones."""

import csv
import io
import json
import random
import tempfile
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from cases import REACHED, cases, check_sentence, untouched
from hypothesis import strategies as st
from strategies import numbers, plain_texts, texts
from subset_checks import check_subsets

from sweep.config import DataConfig
from sweep.data import SPLITS, Corpus, Subsets, load_corpus
from sweep.data.labels import parse_labels
from sweep.errors import DataError

ENDINGS = (".csv", ".tsv", ".json", ".jsonl", ".parquet")


def load(folder: Path, **settings: Any) -> Corpus | None:
    """Return the corpus of ``folder`` after checking that it loads the same twice; None if it is
    refused."""
    config = DataConfig(source="files", **{"path": str(folder), **settings})
    with untouched(folder):
        try:
            corpus = load_corpus(config)
        except DataError as error:
            check_sentence(error)
            return None
        assert load_corpus(config) == corpus
        REACHED["corpora"] += 1
    for rows in corpus.splits.values():
        for row in rows:
            assert row.text.strip()
            assert row.labels
            assert all(label.strip() for label in row.labels)
            (row.text + "".join(row.labels)).encode()
    return corpus


def load_file(data: bytes, ending: str, **settings: Any) -> None:
    with tempfile.TemporaryDirectory() as name:
        (Path(name) / f"train{ending}").write_bytes(data)
        corpus = load(Path(name), **settings)
        if corpus:
            check_subsets(corpus, 2, 4, 0)


endings = st.sampled_from(ENDINGS)
switches = st.fixed_dictionaries(
    {},
    optional={
        "quoted": st.booleans(),
        "label_separator": st.sampled_from([",", ";", "|", " ", "[", "\x00"]),
        "delimiter": st.sampled_from([",", ";", "\t", "^", " "]),
        "columns": st.sampled_from(
            [["text", "label"], ["label", "text", "id"], ["x"], ["", "text"]]
        ),
        "text_column": st.sampled_from(["text", "label", "", "x", "\u202e", ["text", "id"]]),
        "label_column": st.sampled_from(["text", "label", "", "x"]),
        "split_seed": st.integers(0, 9),
        "validation_fraction": st.sampled_from([0.01, 0.2, 0.5]),
    },
)


@cases(300, data=st.binary(max_size=80), ending=endings, switches=switches)
def test_any_bytes(data: bytes, ending: str, switches: dict[str, Any]) -> None:
    load_file(data, ending, **switches)


fragments = st.sampled_from(
    ["text,label\n", "text\tlabel\n", '"', '""', ",", "\t", "\n", "\r", "\r\n", "a,b\n", "a\tb\n",
     "\ufeff", "\x00", '{"text": "a", "label": "b"}\n', '{"text": ', "[", "]", "{", "}", "null",
     "NaN", '"\\ud800"', "1e999", "9" * 5000, "[" * 2000, '{"text": ["a"], "label": {"b": 1}}\n',
     "\\", '{"label": [1, null, "c", true, 2.0, 2.5]}\n', "true", "text,text\n", "text\n",
     ",\n", "-1"]
) | plain_texts  # fmt: skip


SOUND = [(f"text {i} of {name}", name) for name in ("joy", "fear", "calm") for i in range(6)]
BEGINNINGS = {
    ".csv": "text,label\n" + "".join(map("{0[0]},{0[1]}\n".format, SOUND)),
    ".tsv": "text\tlabel\n" + "".join(map("{0[0]}\t{0[1]}\n".format, SOUND)),
    ".jsonl": "".join(json.dumps({"text": text, "label": name}) + "\n" for text, name in SOUND),
}


@cases(
    250,
    parts=st.lists(fragments, max_size=9) | st.lists(plain_texts, max_size=2),
    ending=endings,
    sound=st.booleans(),
    switches=switches,
)
def test_any_text(parts: list[str], ending: str, sound: bool, switches: dict[str, Any]) -> None:
    beginning = BEGINNINGS.get(ending, "") if sound else ""
    load_file((beginning + "".join(parts)).encode(), ending, **switches)


cells = st.one_of(
    plain_texts, st.none(), numbers, st.booleans(), st.lists(plain_texts | st.integers(-2, 3)),
    st.sampled_from(["joy", "fear", "joy,fear", "a text of words", "one more text, with words"]),
)  # fmt: skip
names = st.sampled_from(["text", "label", "Text", "labels", "id", "", "emotion", "x"]) | plain_texts
encodings = st.sampled_from(["utf-8"] * 5 + ["utf-8-sig", "utf-16", "latin-1", "utf-32", "cp037"])


def write_rows(header: list[str], rows: list[list[Any]], ending: str, encoding: str) -> bytes:
    if ending == ".parquet":
        return write_parquet(header, rows)
    if ending in (".csv", ".tsv"):
        out = io.StringIO(newline="")
        csv.writer(out, delimiter="," if ending == ".csv" else "\t").writerows([header, *rows])
        return out.getvalue().encode(encoding, "replace")
    records = [dict(zip(header, row, strict=False)) for row in rows]
    text = json.dumps(records) if ending == ".json" else "\n".join(map(json.dumps, records))
    return text.encode(encoding, "replace")


def write_parquet(header: list[str], rows: list[list[Any]]) -> bytes:
    columns = []
    for index in range(len(header)):
        values = [row[index] if index < len(row) else None for row in rows]
        try:
            columns.append(pa.array(values))
        except (pa.ArrowException, OverflowError, TypeError, ValueError):
            columns.append(pa.array([None if value is None else str(value) for value in values]))
    out = io.BytesIO()
    pq.write_table(pa.Table.from_arrays(columns, names=header), out)
    return out.getvalue()


usual_rows = st.lists(
    st.tuples(plain_texts | st.integers(0, 99).map("text number {}".format),
              st.sampled_from(["joy", "fear", "joy,fear", "calm", " joy", None, 1])).map(list),
    min_size=8, max_size=30,
)  # fmt: skip
tables = st.one_of(
    st.tuples(st.lists(names, max_size=4), st.lists(st.lists(cells, max_size=4), max_size=8)),
    st.tuples(st.just(["text", "label"]), usual_rows),
    st.tuples(st.just(["label", "text", "id"]), usual_rows.map(
        lambda rows: [[label, text, i] for i, (text, label) in enumerate(rows)])),
)  # fmt: skip


@cases(300, table=tables, square=st.booleans(), ending=endings, encoding=encodings,
       switches=switches)  # fmt: skip
def test_any_rows(
    table: tuple[list[str], list[list[Any]]],
    square: bool,
    ending: str,
    encoding: str,
    switches: dict[str, Any],
) -> None:
    header, rows = table
    if square:
        rows = [[*row, *[None] * len(header)][: len(header)] for row in rows]
    load_file(write_rows(header, rows, ending, encoding), ending, **switches)


labels = st.sampled_from(["joy", "fear", "calm"]) | plain_texts
sound_rows = st.lists(st.tuples(st.integers(0, 30), labels), min_size=12, max_size=50)


@cases(
    100,
    rows=sound_rows,
    ending=endings,
    cut=st.integers(0, 3000),
    junk=st.binary(max_size=4),
    length=st.integers(0, 8),
)
def test_damaged_file(
    rows: list[tuple[int, str]], ending: str, cut: int, junk: bytes, length: int
) -> None:
    table = [[f"text number {number}", label] for number, label in rows]
    whole = write_rows(["text", "label"], table, ending, "utf-8")
    cut %= len(whole) + 1
    load_file(whole[:cut] + junk + whole[cut + length :], ending)


@cases(
    100,
    files=st.dictionaries(
        st.sampled_from(["train.csv", "dev.csv", "val.csv", "test.csv", "test.tsv", "train.jsonl",
                         "Train.CSV", "labels.txt", "emotions.txt", "train.tsv", "dev.tsv"]),
        st.lists(fragments, max_size=6).map("".join) | st.sampled_from([*BEGINNINGS.values()]),
        max_size=5,
    ),
    switches=st.fixed_dictionaries({}, optional={
        "labels_file": st.sampled_from(["labels.txt", "emotions.txt", "../x", "", ".", "none"]),
        "splits": st.dictionaries(st.sampled_from(SPLITS), st.sampled_from(
            ["train.csv", "dev.csv", "test.tsv", "", ".", "..", "none.csv", "/", "~"])),
    }),
)  # fmt: skip
def test_any_folder(files: dict[str, str], switches: dict[str, Any]) -> None:
    with tempfile.TemporaryDirectory() as name:
        for file, text in files.items():
            (Path(name) / file).write_bytes(text.encode())
        load(Path(name), **switches)


official_line = st.builds(
    "{}\t{}\t{}".format, plain_texts, st.sampled_from(["0", "1", "0,1", "2", "-1", "", "x", "0,0"]),
    st.just("id"),
) | plain_texts  # fmt: skip
sound_line = st.builds("text {}\t{}\tid".format, st.integers(0, 99), st.sampled_from("0011"))


@cases(
    100,
    emotions=st.lists(plain_texts, max_size=4) | st.just(["joy", "fear"]),
    lines=st.lists(
        st.lists(official_line, max_size=5) | st.lists(sound_line, min_size=5),
        min_size=3,
        max_size=3,
    ),
)
def test_any_official_folder(emotions: list[str], lines: list[list[str]]) -> None:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "emotions.txt").write_bytes("\n".join(emotions).encode())
        for split, rows in zip(("train", "dev", "test"), lines, strict=True):
            (folder / f"{split}.tsv").write_bytes("\n".join(rows).encode())
        corpus = load(folder)
        if corpus:
            check_subsets(corpus, 2, 2, 0)


@cases(
    500,
    value=cells | st.floats() | st.binary(max_size=3) | texts,
    names=st.none() | st.lists(texts, max_size=3),
    separator=st.none() | texts.filter(bool),
)
def test_any_label(value: Any, names: list[str] | None, separator: str | None) -> None:
    try:
        found = parse_labels(value, names, separator)
    except ValueError as error:
        assert len(str(error)) < 300
        return
    assert len(set(found)) == len(found)
    for label in found:
        assert isinstance(label, str)
        assert label
        label.encode()


@cases(
    100,
    sizes=st.lists(st.integers(3, 14), min_size=2, max_size=5),
    names=st.lists(plain_texts.map(str.strip).filter(bool), min_size=5, max_size=5, unique=True),
    seed=st.integers(0, 99),
    ending=st.sampled_from([".json", ".jsonl", ".parquet"]),
)
def test_sound_data_give_subsets_whatever_the_labels_are_called(
    sizes: list[int], names: list[str], seed: int, ending: str
) -> None:
    named = [name for name in names if not name.startswith("[")]
    sizes = sizes[: len(named)]
    table = [
        [f"text {i} of {name}", name]
        for size, name in zip(sizes, named, strict=False)
        for i in range(size)
    ]
    random.Random(seed).shuffle(table)
    with tempfile.TemporaryDirectory() as folder:
        data = write_rows(["text", "label"], table, ending, "utf-8")
        (Path(folder) / f"train{ending}").write_bytes(data)
        if len(sizes) < 2:
            return
        corpus = load(Path(folder))
        assert corpus is not None
        k = len(sizes)
        subsets = Subsets(corpus, exclude_labels=())
        assert set(subsets.labels_for(k)) == {name.strip() for name in named[:k]}
        check_subsets(corpus, k, k, seed)
