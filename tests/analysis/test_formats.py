"""Bytes on disk: compressed, in some encoding, or of another kind than the name says."""

import bz2
import gzip
import io
import lzma
import zipfile
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from sweep.config import DataConfig
from sweep.data import Corpus, load_corpus
from sweep.data.files.readers import read_table
from sweep.errors import DataError

CSV = b"text,label\ncaf\xc3\xa9 noir,joy\ntwo words,anger\n"
ZSTD = pa.compress(CSV, "zstd", asbytes=True)
COLUMNS = {"text": ["caf\u00e9 noir", "two words"], "label": ["joy", "anger"]}


def zip_file(data: bytes, *names: str) -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        for name in names:
            archive.writestr(name, data)
    return out.getvalue()


def write_parquet() -> bytes:
    out = io.BytesIO()
    pq.write_table(pa.table(COLUMNS), out)
    return out.getvalue()


def write_arrow(make: Callable[..., pa.RecordBatchFileWriter]) -> bytes:
    out, table = io.BytesIO(), pa.table(COLUMNS)
    with make(out, table.schema) as writer:
        writer.write_table(table)
    return out.getvalue()


def name_case(value: object) -> str:
    """Return a test's name without its bytes, which hold the time of day."""
    return value if isinstance(value, str) else ""


@pytest.mark.parametrize(
    ("name", "data"),
    [
        ("a.csv.gz", gzip.compress(CSV)),
        ("a.CSV.GZ", gzip.compress(CSV)),
        ("a.tsv.gz", gzip.compress(CSV.replace(b",", b"\t"))),
        ("a.csv.bz2", bz2.compress(CSV)),
        ("a.csv.xz", lzma.compress(CSV)),
        ("a.csv.zst", pa.compress(CSV, "zstd", asbytes=True)),
        ("a.csv.zip", zip_file(CSV, "a.csv")),
        ("a.zip", zip_file(CSV, "my/a.csv", "__MACOSX/my/._a.csv")),
        ("a.csv.zip", zip_file(CSV, "a")),
        ("a.parquet.gz", gzip.compress(write_parquet())),
        ("a.arrow", write_arrow(pa.ipc.new_file)),
        ("a.arrow", write_arrow(pa.ipc.new_stream)),
        ("a.feather", write_arrow(pa.ipc.new_file)),
        ("a.tab", CSV.replace(b",", b"\t")),
    ],
    ids=name_case,
)
def test_compressed_and_binary_files_are_read_like_plain_ones(
    tmp_path: Path, name: str, data: bytes
) -> None:
    (tmp_path / name).write_bytes(data)
    assert read_table(tmp_path / name).columns == COLUMNS


@pytest.mark.parametrize(
    ("name", "data"),
    [
        ("a.csv", gzip.compress(CSV)),
        ("a.csv.gz", CSV),
        ("a.csv", write_parquet()),
        ("a.csv", zip_file(CSV, "b.csv")),
        ("a.csv.bz2", gzip.compress(CSV)),
    ],
    ids=name_case,
)
def test_bytes_count_more_than_the_name(tmp_path: Path, name: str, data: bytes) -> None:
    (tmp_path / name).write_bytes(data)
    assert read_table(tmp_path / name).columns == COLUMNS


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16", "utf-32"])
def test_byte_order_mark_decides_the_encoding(tmp_path: Path, encoding: str) -> None:
    (tmp_path / "a.csv").write_bytes(CSV.decode().encode(encoding))
    assert read_table(tmp_path / "a.csv").columns == COLUMNS


@pytest.mark.parametrize("encoding", ["cp1252", "latin-1", "utf-16-le", "utf-16-be"])
def test_other_encodings_are_read_when_named(tmp_path: Path, encoding: str) -> None:
    path = tmp_path / "a.csv"
    path.write_bytes(CSV.decode().encode(encoding))
    with pytest.raises(DataError, match=r"data\.encoding"):
        read_table(path)
    assert read_table(path, encoding=encoding).columns == COLUMNS


def test_file_in_utf8_is_read_as_such_beside_others(tmp_path: Path) -> None:
    (tmp_path / "train.csv").write_bytes(CSV.decode().encode("cp1252"))
    (tmp_path / "test.csv").write_bytes(CSV)
    config = DataConfig(source="files", path=str(tmp_path), encoding="cp1252")
    texts = {row.text for row in load_corpus(config).splits["test"]}
    assert texts == set(COLUMNS["text"])


@pytest.mark.parametrize("name", ["klingon", "hex"])
def test_unknown_encoding_is_refused(name: str) -> None:
    with pytest.raises(ValidationError, match="is not a text encoding that Python knows"):
        DataConfig(encoding=name)


@pytest.mark.parametrize(
    ("name", "data", "sentence"),
    [
        ("a.csv", b"text,label\ncaf\xe9,joy\n", r"data.encoding to .* \(cp1252 .* 'caf\u00e9,joy'"),
        ("a.csv", bytes(range(256)), "holds binary data, not text"),
        ("a.csv", zip_file(b"", "[Content_Types].xml", "xl/workbook.xml"), "is an Office file"),
        ("a.csv", b"\xd0\xcf\x11\xe0" + bytes(600), "is an old Office file"),
        ("a.csv", b"<!DOCTYPE html>\n<html>", "is an HTML page.* download the file itself"),
        ("a.csv", b"\n <HTML><head>", "is an HTML page"),
        ("a.csv", b"<?xml version='1.0'?>", "is XML"),
        ("a.csv", b'{"text": "a", "label": "b"}\n', "holds JSON; give it the ending .jsonl"),
        ("a.csv", b'[{"text": "a", "label": "b"}]\n', "holds JSON; give it the ending .jsonl"),
        ("a.parquet", CSV.replace(b"\xc3\xa9", b"e"), "holds text, not Parquet data"),
        ("a.parquet", b"version https://git-lfs.github.com/spec/v1\noid", "run 'git lfs pull'"),
        ("a.csv.gz", b"version https://git-lfs.github.com/spec/v1\noid", "run 'git lfs pull'"),
        ("a.csv.gz", gzip.compress(CSV)[:-12], "is damaged or truncated gzip data"),
        ("a.csv.xz", lzma.compress(CSV)[:-12], "is damaged or truncated xz data"),
        ("a.csv.zst", ZSTD[:-5], "is damaged or truncated zstd data"),
        ("a.zip", zip_file(CSV, "a.csv")[:60], "is a damaged ZIP archive"),
        ("a.zip", zip_file(CSV, "a.csv", "b.csv"), r"of several data files \(a.csv, b.csv\)"),
        ("a.zip", zip_file(CSV, "a.md"), r"without a data file \(it holds: a.md\)"),
        ("a.gz", gzip.compress(CSV), "add that, as in train.csv.gz"),
        ("a.csv.gz", gzip.compress(b""), "is empty; it needs a line of column names"),
        ("a.jsonl", b" \n", "is empty; it needs rows such as"),
        ("a.tar.gz", gzip.compress(bytes(257) + b"ustar" + bytes(300)), "is a tar archive; unpack"),
    ],
    ids=name_case,
)  # fmt: skip
def test_what_cannot_be_read_is_refused_with_the_true_reason(
    tmp_path: Path, name: str, data: bytes, sentence: str
) -> None:
    (tmp_path / name).write_bytes(data)
    with pytest.raises(DataError, match=sentence) as caught:
        read_table(tmp_path / name)
    assert str(caught.value).startswith(f"{tmp_path / name}: ")
    assert "\n" not in str(caught.value)


def test_file_without_rows_says_so(tmp_path: Path) -> None:
    (tmp_path / "train.csv").write_text("body,mood\n")
    with pytest.raises(DataError, match="has the columns body, mood but no rows"):
        load_corpus(DataConfig(source="files", path=str(tmp_path)))


PLAIN = st.binary(max_size=200)
ANY_BYTES = PLAIN | PLAIN.map(gzip.compress) | PLAIN.map(lambda data: zip_file(data, "a.csv"))
PACKED = [".csv.gz", ".jsonl.xz", ".csv.zst", ".zip", ".arrow", ".feather", ".parquet.bz2", ".txt"]


@pytest.mark.parametrize("ending", PACKED)
@settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=ANY_BYTES)
def test_any_bytes_give_a_corpus_or_one_sentence(tmp_path: Path, ending: str, data: bytes) -> None:
    path = tmp_path / f"data{ending}"
    path.write_bytes(data)
    try:
        assert isinstance(load_corpus(DataConfig(source="files", path=str(path))), Corpus)
    except DataError as error:
        assert "\n" not in str(error)
