"""CSV, TSV and the like: delimiters, quotes, column names and lengths of rows."""

from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from sweep.config import DataConfig, load_config
from sweep.data import Corpus, load_corpus
from sweep.data.files.readers import read_table
from sweep.data.files.table import Table
from sweep.errors import DataError

TEXTS = [f"order {i} came late again" for i in range(12)]
LABELS = ["delivery", "billing"] * 6
HEADER = ("text", "label")


def write(path: Path, text: str) -> Path:
    path.write_text(text, encoding="utf-8", newline="")
    return path


def join(delimiter: str, texts: list[str] = TEXTS, header: tuple[str, ...] = HEADER) -> str:
    rows = [header, *zip(texts, LABELS, strict=True)]
    return "".join(delimiter.join(row) + "\n" for row in rows)


def load(path: Path, **settings: Any) -> Corpus:
    return load_corpus(DataConfig(source="files", path=str(path), **settings))


def read(path: Path, **settings: Any) -> Table:
    return read_table(path, **settings)


@pytest.mark.parametrize("ending", [".csv", ".tsv"])
@pytest.mark.parametrize("delimiter", [",", ";", "\t", "|"])
def test_delimiter_is_found(tmp_path: Path, ending: str, delimiter: str) -> None:
    table = read(write(tmp_path / f"train{ending}", join(delimiter)))
    assert table.columns == {"text": TEXTS, "label": LABELS}
    assert table.delimiter == delimiter


@pytest.mark.parametrize("delimiter", [";", "\t", "|"])
@pytest.mark.parametrize("inside", [", well", ", so, on", " , a"])
def test_commas_in_texts_mislead_nobody(tmp_path: Path, delimiter: str, inside: str) -> None:
    texts = [text.replace(" came", f"{inside} came") for text in TEXTS]
    path = write(tmp_path / "train.csv", join(delimiter, texts))
    assert read(path).columns["text"] == texts


def test_comma_in_a_column_name_misleads_nobody(tmp_path: Path) -> None:
    path = write(tmp_path / "a.tsv", join("\t", header=("text, raw", "label")))
    assert read(path).columns.keys() == {"text, raw", "label"}


def test_decimal_commas_mislead_nobody(tmp_path: Path) -> None:
    rows = "".join(f"{t};{i},5;{n}\n" for i, (t, n) in enumerate(zip(TEXTS, LABELS, strict=True)))
    table = read(write(tmp_path / "a.csv", "text;score, mean;label\n" + rows))
    assert table.columns["label"] == LABELS


@pytest.mark.parametrize("first", ["sep=;\r\n", "\ufeffsep=;\n", '"sep=;"\n', "SEP=;\n"])
def test_excel_names_the_delimiter_in_its_first_line(tmp_path: Path, first: str) -> None:
    table = read(write(tmp_path / "a.csv", first + join(";")))
    assert table.columns == {"text": TEXTS, "label": LABELS}
    assert table.lines and table.lines[0] == 3


@pytest.mark.parametrize(("given", "used"), [("^", "^"), ("space", " "), ("\\t", "\t")])
def test_delimiter_may_be_given(tmp_path: Path, given: str, used: str) -> None:
    texts = ["_".join(text.split()) for text in TEXTS]
    corpus = load(write(tmp_path / "a.csv", join(used, texts)), delimiter=given)
    assert sum(map(len, corpus.splits.values())) == 12


@pytest.mark.parametrize("given", ["", "::", "a", "7", '"', "\n", "\0"])
def test_delimiter_that_cannot_be_one_is_refused(given: str) -> None:
    with pytest.raises(ValidationError, match="is not a delimiter: use one character"):
        DataConfig(delimiter=given)


def test_given_delimiter_that_does_not_occur_is_refused(tmp_path: Path) -> None:
    path = write(tmp_path / "a.csv", join(";"))
    with pytest.raises(
        DataError, match=r"data.delimiter '\\t' does not separate line 1; leave it out"
    ):
        load(path, delimiter="tab")


def test_unknown_delimiter_is_asked_for(tmp_path: Path) -> None:
    path = write(tmp_path / "a.csv", join("^"))
    with pytest.raises(DataError, match=r"has one column, as none of .* in data.delimiter"):
        load(path)


@pytest.mark.parametrize(
    ("key", "value"), [("delimiter", ";"), ("columns", ["text", "label"]), ("quoted", False)]
)
def test_key_without_effect_is_refused(tmp_path: Path, key: str, value: Any) -> None:
    path = write(tmp_path / "a.jsonl", '{"text": "a", "label": "b"}\n')
    with pytest.raises(
        DataError, match=f"data.{key} is for CSV and TSV files, .* leave data.{key}"
    ):
        load(path, **{key: value})


@pytest.mark.parametrize(
    "text",
    [
        "text,label,,\na b,joy,,\n",
        "text,label,,\na b,joy\n",
        "text,label\na b,joy,\n",
        ",text,label\n0,a b,joy\n",
        "text,label,x,x\na b,joy,1,2\n",
        "text;label;;\na b;joy;;\n",
    ],
)
def test_columns_that_nobody_needs_do_no_harm(tmp_path: Path, text: str) -> None:
    table = read(write(tmp_path / "a.csv", text))
    assert (table.columns["text"], table.columns["label"]) == (["a b"], ["joy"])


def test_column_without_a_name_is_called_as_pandas_does(tmp_path: Path) -> None:
    rows = "".join(f"{t},{n}\n" for t, n in zip(TEXTS, LABELS, strict=True))
    corpus = load(write(tmp_path / "a.csv", "text,\n" + rows), label_column="Unnamed: 1")
    assert {row.labels for row in corpus.splits["train"]} == {("billing",), ("delivery",)}


@pytest.mark.parametrize(
    ("text", "settings"),
    [
        ("text,label,label\na b,joy,joy\n", {}),
        ("text,tag,tag\na b,joy,joy\n", {"label_column": "tag"}),
        ("text,tag,tag\na b,joy,joy\n", {}),
    ],
)
def test_needed_name_of_two_columns_is_refused(
    tmp_path: Path, text: str, settings: dict[str, Any]
) -> None:
    with pytest.raises(DataError, match=r"has two columns named '(label|tag)'; rename one"):
        load(write(tmp_path / "a.csv", text), **settings)


@pytest.mark.parametrize(
    ("text", "quoted", "sentence"),
    [
        ("text;label\na;b;c\n", True, "line 2 has 3 fields .* put quotes around .* ';'"),
        ("text,label\na,b\nc\n", True, "line 3 has 1 field where the header has 2; put quotes"),
        ("text,label\na,b,c\n", False, "line 2 has 3 fields .* remove the separator ','"),
        ('text,label\n"a, b" c,d\n', True, r"misplaced quote .* each quote inside it twice"),
    ],
)
def test_row_that_does_not_fit_is_refused_with_a_remedy_that_fits(
    tmp_path: Path, text: str, quoted: bool, sentence: str
) -> None:
    with pytest.raises(DataError, match=sentence):
        read(write(tmp_path / "a.csv", text), quoted=quoted)


def test_quotes_may_be_escaped_with_backslashes(tmp_path: Path) -> None:
    path = write(tmp_path / "a.csv", 'text,label\n"said \\"hi\\", in C:\\new",joy\n')
    assert read(path).columns["text"] == ['said "hi", in C:\\new']


def test_quotes_may_follow_spaces(tmp_path: Path) -> None:
    path = write(tmp_path / "a.csv", 'label, text\njoy, "a, b"\n')
    assert read(path).columns == {"label": ["joy"], "text": ["a, b"]}


@pytest.mark.parametrize("quoted", [True, False])
def test_lines_may_end_in_carriage_returns(tmp_path: Path, quoted: bool) -> None:
    path = write(tmp_path / "a.csv", join(",").replace("\n", "\r"))
    assert read(path, quoted=quoted).columns == {"text": TEXTS, "label": LABELS}


def test_texts_that_look_like_something_else_stay_texts(tmp_path: Path) -> None:
    texts = ["nan", "NULL", "None", "2024-01-01", "True", "1.50", "007", "1e5", "\u2639", "a\0b",
             "x" * 200_000, "N/A"]  # fmt: skip
    assert read(write(tmp_path / "a.csv", join(",", texts))).columns["text"] == texts


def test_several_text_columns_are_joined(tmp_path: Path) -> None:
    path = write(tmp_path / "a.csv", "title,body,label\nhi,you,x\n,only,y\nhi,,x\n , ,y\n")
    corpus = load(path, text_column=["title", "body"])
    rows = [row.text for rows in corpus.splits.values() for row in rows]
    assert sorted(rows) == ["hi", "hi\nyou", "only"]
    assert corpus.sources["train"].text_columns == ("title", "body")
    assert corpus.sources["train"].without_text == 1


@pytest.mark.parametrize(
    ("asked", "sentence"),
    [
        (
            ["title", "bodi"],
            "data.text_column names 'bodi', but the columns are title, body, label",
        ),
        (["title", "label"], "'label' is named in data.text_column and in data.label_column"),
    ],
)
def test_text_columns_that_cannot_be_are_refused(
    tmp_path: Path, asked: list[str], sentence: str
) -> None:
    path = write(tmp_path / "a.csv", "title,body,label\nhi,you,x\n")
    with pytest.raises(DataError, match=sentence):
        load(path, text_column=asked, label_column="label")


@pytest.mark.parametrize("asked", ["body", ["title", "body"]])
def test_text_columns_survive_the_saved_configuration(tmp_path: Path, asked: Any) -> None:
    from sweep.config import Config, dump_config

    grid = {"models": [{"name": "m", "path": "tiny:llama"}], "n_labels": [2], "n_samples": [8]}
    columns = ["title", "body", "label"]
    data = {"path": "x.csv", "text_column": asked, "delimiter": "tab", "columns": columns}
    config = Config.model_validate({"grid": grid, "data": data})
    path = write(tmp_path / "config.yaml", dump_config(config))
    assert load_config(path) == config


def test_column_that_was_found_by_content_is_reported(tmp_path: Path) -> None:
    source = load(write(tmp_path / "a.csv", join(",", header=("note", "label")))).sources["train"]
    assert (source.text_columns, source.label_column) == (("note",), "label")
    assert source.guessed == ("note",)


def test_header_that_fits_no_row_is_reported_as_that(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_text("text,label\n1,a b,joy\n2,c d,anger\n")
    with pytest.raises(DataError, match=r"the header has 2 names, but every row has 3 fields"):
        read(path)
    path.write_text(path.read_text().replace("text,", "id,text,"))
    assert read(path).columns["text"] == ["a b", "c d"]
