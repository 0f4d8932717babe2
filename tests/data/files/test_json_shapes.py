"""JSON in the shapes that tools write it."""

import json
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from sweep.config import DataConfig
from sweep.data import load_corpus
from sweep.data.files.readers import read_table, read_tables
from sweep.errors import DataError

ROWS = [{"text": f"some words {i}", "label": "ab"[i % 2]} for i in range(6)]
PAIRS = [[row["text"], row["label"]] for row in ROWS]
FRAME = pd.DataFrame(ROWS)
COLUMNS = {"text": [row["text"] for row in ROWS], "label": [row["label"] for row in ROWS]}


def write(folder: Path, value: Any, name: str = "train.json") -> Path:
    path = folder / name
    path.write_text(value if isinstance(value, str) else json.dumps(value))
    return path


def pick(path: Path) -> dict[str, list[Any]]:
    columns = read_table(path).columns
    return {name: columns[name] for name in ("text", "label")}


@pytest.mark.parametrize(
    "value",
    [
        "\n".join(json.dumps(row, indent=2) for row in ROWS),
        json.dumps(ROWS, indent=2),
        {"data": ROWS},
        {"version": "1.0", "data": ROWS, "info": {"by": "me"}},
        {"data": PAIRS},
        {"data": {"rows": ROWS}},
        PAIRS,
        [["text", "label"], *PAIRS],
        [[label, text] for text, label in PAIRS],
        "\n".join(map(json.dumps, PAIRS)),
        COLUMNS,
        FRAME.to_json(),
        FRAME.to_json(indent=4),
        FRAME.to_json(orient="index"),
        FRAME.to_json(orient="split"),
        FRAME.to_json(orient="table"),
        FRAME.to_json(orient="values"),
        FRAME.to_json(orient="records", lines=True),
    ],
)
@pytest.mark.parametrize("name", ["train.json", "train.jsonl"])
def test_usual_shapes_give_the_same_rows(tmp_path: Path, value: Any, name: str) -> None:
    assert pick(write(tmp_path, value, name)) == COLUMNS


def test_lists_of_labels_may_be_in_columns(tmp_path: Path) -> None:
    value = {"text": ["a b", "c d"], "labels": [["x", "y"], ["z", "x"]]}
    assert read_table(write(tmp_path, value)).columns == value


@pytest.mark.parametrize("name", ["train.json", "dataset.json"])
@pytest.mark.parametrize("test", ["test", "testing"])
def test_splits_may_be_keys_of_one_file(tmp_path: Path, name: str, test: str) -> None:
    write(tmp_path, {"train": ROWS, test: PAIRS[:2], "dev": COLUMNS}, name)
    corpus = load_corpus(DataConfig(source="files", path=str(tmp_path)))
    assert {split: len(rows) for split, rows in corpus.splits.items()} == {
        "train": 6, "validation": 6, "test": 2,
    }  # fmt: skip
    assert corpus.sources["test"].files == (str(tmp_path / name),)
    assert corpus.held_out == ()


def test_split_in_two_files_is_refused_with_a_remedy_that_works(tmp_path: Path) -> None:
    write(tmp_path, {"train": ROWS, "test": ROWS[:2]})
    write(tmp_path, ROWS[:4], "test.json")
    config = DataConfig(source="files", path=str(tmp_path))
    with pytest.raises(DataError, match=r"is for test, and so is .*test.json; set data.splits.te"):
        load_corpus(config)
    for name, rows in (("train.json", 2), ("test.json", 4)):
        chosen = config.model_copy(update={"splits": {"test": name}})
        assert load_corpus(chosen).sources["test"].rows == rows


def test_objects_inside_rows_become_columns(tmp_path: Path) -> None:
    path = write(tmp_path, [{"post": {"text": "a b", "by": {"id": 1}}, "label": "x"}])
    assert read_table(path).columns == {"post.text": ["a b"], "post.by.id": [1], "label": ["x"]}


def test_text_inside_an_object_is_refused_with_the_columns_there_are(tmp_path: Path) -> None:
    write(tmp_path, [{"text": {"a": row["text"], "b": row["text"]}, "label": "x"} for row in ROWS])
    with pytest.raises(DataError, match=r"look like texts \(text.a, text.b\); set data.text_col"):
        load_corpus(DataConfig(source="files", path=str(tmp_path)))


def test_lines_of_rows_are_those_of_the_file(tmp_path: Path) -> None:
    pretty = write(tmp_path, "\n" + "\n".join(json.dumps(row, indent=1) for row in ROWS[:2]))
    assert read_table(pretty).lines == [2, 6]
    assert read_table(write(tmp_path, "\n[1, 2]\n\n[3, 4]")).lines == [2, 4]


@pytest.mark.parametrize(
    ("value", "sentence"),
    [
        ('{"text": "a"\n{"text": "b"}\n', "line 1 is not JSON"),
        ('{"text": "a"}\n{"text": "b"\n{"text": "c"}', "line 2 is not JSON"),
        ('{\n"text": "a"\n}\n{\n"text": \n}', "line 6 is not JSON"),
        ("{'text': 'a'}", r"line 1 is not JSON \(Expecting property name"),
        ("text,label\na,b\n", r"line 1 is not JSON \(Expecting value\)"),
        (["a b", "c d"], "row 1 is not a JSON object such as"),
        ([*PAIRS, ["a"]], r"row 7 is not a list of 2 values such as \[\"text\", \"label\"\]"),
        ([], "holds no rows"),
        ({"train": []}, "holds no rows"),
        ({"text": ["a", "b"], "label": ["x"]}, r"differ in length \(text has 2, label has 1\)"),
        ({"name": "x", "features": {"a": 1}}, "one object with the keys name, features, none of"),
        ({"a": ROWS, "b": ROWS}, r"rows below several keys \(a, b\)"),
        ({"train": ROWS, "dev": ROWS, "valid": ROWS}, "several keys for validation"),
    ],
)
def test_other_shapes_are_refused_with_the_reason(
    tmp_path: Path, value: Any, sentence: str
) -> None:
    with pytest.raises(DataError, match=sentence) as caught:
        read_tables(write(tmp_path, value))
    assert str(caught.value).startswith(str(tmp_path / "train.json"))


KEYS = st.sampled_from(["text", "label", "data", "train", "test", "columns"]) | st.text(max_size=3)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(KEYS, inner, max_size=4),
    max_leaves=20,
)


@settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(values=st.lists(JSON, min_size=1, max_size=3), indent=st.none() | st.just(1))
def test_any_json_gives_a_corpus_or_one_sentence(
    tmp_path: Path, values: list[Any], indent: int | None
) -> None:
    write(tmp_path, "\n".join(json.dumps(value, indent=indent) for value in values))
    try:
        load_corpus(DataConfig(source="files", path=str(tmp_path)))
    except DataError as error:
        assert "\n" not in str(error)


def test_key_beside_those_of_splits_is_named(tmp_path: Path) -> None:
    pairs = [["a b", "joy"], ["c d", "anger"]]
    path = write(tmp_path, {"train": pairs, "val": pairs, "oos": pairs})
    with pytest.raises(DataError, match=r"several keys \(train, val, oos\); remove oos"):
        read_tables(path)


@pytest.mark.parametrize("empty", [[], None, {}])
def test_split_without_rows_is_none(tmp_path: Path, empty: Any) -> None:
    pairs = [["a b", "joy"], ["c d", "anger"]]
    assert [*read_tables(write(tmp_path, {"train": pairs, "test": empty}))] == ["train"]


def test_other_text_under_the_ending_of_json_is_reported(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    path.write_text("text,label\na b,joy\n")
    with pytest.raises(DataError, match=r"line 1 is not JSON .* the right ending, such as .csv"):
        read_tables(path)


def test_object_of_texts_and_their_labels_is_reported(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"is one object with the keys a 0, a 1, .* more, none"):
        read_tables(write(tmp_path, {f"a {i}": "joy" for i in range(60)}))
