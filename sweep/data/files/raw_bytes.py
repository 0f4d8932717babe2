"""The bytes of a data file: unpacked, and refused by what they are where they are no data."""

import bz2
import gzip
import io
import lzma
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path, PurePath

import pyarrow as pa

from sweep.data.files.names import COMPRESSIONS, ENDINGS, find_kind
from sweep.data.files.nodes import OFFICE_MEMBERS, ZIP_MAGIC, Node, find_only_file
from sweep.errors import DataError, first_line, format_value, truncate

SHEET = "save its sheet as CSV UTF-8 and name that file, one that ends in .csv"
SHEETS = (".xlsx", ".xlsm", ".xls", ".ods", ".numbers")
ARCHIVE = "unpack it and set data.path to the folder"
CODECS: dict[bytes, tuple[str, Callable[[bytes], bytes]]] = {
    b"\x1f\x8b": ("gzip", gzip.decompress),
    b"\xfd7zXZ\0": ("xz", lzma.decompress),
    b"\x28\xb5\x2f\xfd": ("zstd", lambda data: _inflate(data, "zstd")),
    b"\x04\x22\x4d\x18": ("lz4", lambda data: _inflate(data, "lz4")),
    **{b"BZh%d1AY&SY" % level: ("bzip2", bz2.decompress) for level in range(1, 10)},
}
BINARY_KINDS = {b"PAR1": ".parquet", b"ARROW1": ".arrow"}
FOREIGN_BYTES = {
    b"version https://git-lfs.github.com/spec/": (
        "is a Git LFS pointer, not the data; run 'git lfs pull' in its folder"
    ),
    b"\xd0\xcf\x11\xe0": f"is an old Office file (such as .xls); {SHEET}",
    b"%PDF-": "is a PDF; put its rows into a CSV file",
    b"SQLite format 3\0": "is an SQLite database; export the table as CSV",
    b"\x89HDF": "is an HDF5 file; write the table as Parquet",
    b"7z\xbc\xaf\x27\x1c": f"is a 7z archive; {ARCHIVE}",
    b"Rar!\x1a\x07": f"is a RAR archive; {ARCHIVE}",
    b"\x93NUMPY": "is a NumPy array; write texts and labels as CSV or Parquet",
    b"FEA1\0": "is Feather of version 1; write it again, as Parquet",
    b"Obj\x01": "is an Avro file; write the table as Parquet",
}
FOREIGN_NAMES = {
    **dict.fromkeys(SHEETS, f"is a spreadsheet; {SHEET}"),
    **dict.fromkeys((".tar", ".tgz", ".7z", ".rar"), f"is an archive; {ARCHIVE}"),
    ".txt": (
        "is plain text, which has no columns; rename it to end in .csv (commas) or .tsv (tabs) if "
        "it has some, else put texts into train_text.txt and their labels into train_labels.txt, "
        "line by line"
    ),
    **dict.fromkeys(
        (".pkl", ".pickle"), "is a pickle, which can run code when read; write it as Parquet"
    ),
    **dict.fromkeys(
        COMPRESSIONS,
        "is compressed, and its name does not say what is inside; add that, as in train.csv.gz",
    ),
}
UNPACKING = (
    OSError, EOFError, ValueError, RuntimeError, NotImplementedError, zlib.error, lzma.LZMAError,
    zipfile.BadZipFile, pa.ArrowException,
)  # fmt: skip


class EmptyFileError(DataError):
    """A file holds nothing at all."""


# A table inside an archive inside an archive is deeper than anyone packs one on purpose.
MOST_LAYERS = 3


def read_data(node: Node) -> tuple[str, bytes]:
    """Return the kind of a data file (a value of ``KINDS``) and its bytes, unpacked.

    Compression and binary formats are told by the bytes, whatever the name says. Raises
    DataError with the true kind of what is no table, and with what to do about it.
    """
    place = str(node)
    name, data = _unwrap(node)
    kind = next((kind for magic, kind in BINARY_KINDS.items() if data.startswith(magic)), None)
    kind = kind or find_kind(name)
    if not kind:
        raise DataError(f"{place}: {_name_foreign(name)}")
    if kind in BINARY_KINDS.values() and _is_text(data):
        raise DataError(
            f"{place}: holds text, not {'Parquet' if kind == '.parquet' else 'Arrow'} data; give "
            "it the ending that fits, such as .csv or .jsonl"
        )
    return kind, data


def read_text(node: Node, encoding: str | None = None) -> str:
    """Return the text of a file, whatever its ending: unpacked, and decoded by ``decode_text``."""
    return decode_text(str(node), _unwrap(node)[1], encoding)


def _unwrap(node: Node) -> tuple[str, bytes]:
    """Return the name and the bytes of what ``node`` holds below compression and archives."""
    name, data = node.name, read_bytes(node)
    for _ in range(MOST_LAYERS):
        _refuse_foreign_bytes(str(node), data)
        codec = next((codec for magic, codec in CODECS.items() if data.startswith(magic)), None)
        if data.startswith(ZIP_MAGIC):
            name, data = _open_zip(str(node), name, data)
        elif codec:
            data = _unpack(str(node), data, *codec)
        else:
            break
    return name, data


def read_bytes(node: Node) -> bytes:
    """Return the bytes of ``node``; raise DataError if they cannot be had."""
    try:
        return node.read_bytes()
    except UNPACKING as error:
        if not isinstance(node, Path):
            raise DataError(f"{node}: {_explain_zip(error)}") from None
        reason = getattr(error, "strerror", None) or first_line(error)
        raise DataError(
            f"{node}: cannot be read ({reason}); check data.path and data.splits"
        ) from None


def decode_text(place: str, data: bytes, encoding: str | None = None) -> str:
    """Return text without its byte order mark, line ends as they are.

    A byte order mark says UTF-8, UTF-16 or UTF-32. Without one it is UTF-8, else ``encoding``
    (which also counts where all bytes are ASCII, as those of ISO-2022-JP are).
    """
    for mark, name in _MARKS.items():
        if data.startswith(mark):
            return _decode_marked(place, data, name)
    if encoding and data.isascii():
        return _decode_as(place, data, encoding)
    if not encoding and _is_unmarked_utf16(data):
        little = data[1] == 0
        raise DataError(
            f"{place}: is UTF-16 without a byte order mark; set "
            f"data.encoding=utf-16-{'le' if little else 'be'}, or convert it to UTF-8"
        )
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError as error:
        if encoding:
            return _decode_as(place, data, encoding)
        raise DataError(f"{place}: {_explain_bytes(data, error)}") from None


# The longer marks first: that of UTF-32 begins like that of UTF-16.
_MARKS = {
    b"\xff\xfe\0\0": "utf-32",
    b"\0\0\xfe\xff": "utf-32",
    b"\xef\xbb\xbf": "utf-8-sig",
    b"\xff\xfe": "utf-16",
    b"\xfe\xff": "utf-16",
}


def is_read_differently(place: str, encoding: str) -> bool:
    """Return whether the data file ``place`` may give other text without ``encoding``."""
    try:
        kind, data = read_data(Path(place))
        if kind in BINARY_KINDS.values():
            return False
        return decode_text(place, data) != decode_text(place, data, encoding)
    except DataError:
        # In an archive; or not UTF-8, which was read with the encoding's help.
        return True


def _decode_marked(place: str, data: bytes, name: str) -> str:
    try:
        return data.decode(name)
    except UnicodeDecodeError as error:
        if name == "utf-8-sig":
            raise DataError(f"{place}: {_explain_bytes(data, error, 3)}") from None
        raise DataError(
            f"{place}: begins like {name.upper()} text but is none (byte {error.start}: "
            f"{error.reason}); copy it again, or convert it to UTF-8"
        ) from None


def _decode_as(place: str, data: bytes, encoding: str) -> str:
    try:
        return data.decode(encoding).removeprefix("\ufeff")
    except UnicodeError as error:
        start = f" (byte {error.start})" if isinstance(error, UnicodeDecodeError) else ""
        raise DataError(
            f"{place}: is neither UTF-8 nor {encoding} text{start}; set data.encoding to what it is"
        ) from None


def _is_unmarked_utf16(data: bytes) -> bool:
    head = data[:4]
    pairs = (head[0::2], head[1::2])
    return len(head) == 4 and any(a == b"\0\0" and 0 not in b for a, b in (pairs, pairs[::-1]))


def _explain_bytes(data: bytes, error: UnicodeDecodeError, skipped: int = 0) -> str:
    start = error.start + skipped
    line = data.count(b"\n", 0, start) + 1
    control = sum(byte < 9 or 13 < byte < 27 for byte in data[:4096])
    if control * 20 > len(data[:4096]):
        return "holds binary data, not text; name a file of texts, or give it the ending that fits"
    # What Excel on Windows writes, and the most usual by far of all that is not UTF-8.
    guess = data.split(b"\n")[line - 1].decode("cp1252", "replace").strip()
    return (
        f"is not UTF-8 text (byte {start}, line {line}); convert it to UTF-8, or set data.encoding "
        f"to what it is (cp1252 makes that line {format_value(truncate(guess, 60))})"
    )


def _refuse_foreign_bytes(place: str, data: bytes) -> None:
    reason = next((why for magic, why in FOREIGN_BYTES.items() if data.startswith(magic)), None)
    if data[257:262] == b"ustar":
        reason = f"is a tar archive; {ARCHIVE}"
    start = data[:1024].removeprefix(b"\xef\xbb\xbf").lstrip().lower()
    if start.startswith((b"<!doctype html", b"<html")):
        reason = (
            "is an HTML page, as a download that needs a login or a 'raw' link gives; download "
            "the file itself"
        )
    elif start.startswith(b"<?xml"):
        reason = "is XML; write its rows as CSV or JSON lines"
    if reason:
        raise DataError(f"{place}: {reason}")


def _open_zip(place: str, name: str, data: bytes) -> tuple[str, bytes]:
    try:
        archive = zipfile.ZipFile(io.BytesIO(data))
        if any(member in archive.namelist() for member in OFFICE_MEMBERS):
            raise DataError(f"{place}: is an Office file (such as .xlsx or .ods); {SHEET}")
        archive.filename = place
        member = find_only_file(zipfile.Path(archive), place)
        inner = member.name if find_kind(member.name) else name.removesuffix(PurePath(name).suffix)
        return inner, member.read_bytes()
    except UNPACKING as error:
        raise DataError(f"{place}: {_explain_zip(error)}") from None


def _explain_zip(error: BaseException) -> str:
    if isinstance(error, RuntimeError) and "password" in str(error):
        return f"is a ZIP archive with a password; {ARCHIVE}"
    return f"is a damaged ZIP archive ({first_line(error)}); copy or download it again"


def _unpack(place: str, data: bytes, codec: str, unpack: Callable[[bytes], bytes]) -> bytes:
    try:
        return unpack(data)
    except UNPACKING as error:
        raise DataError(
            f"{place}: is damaged or cut {codec} data ({first_line(error)}); copy or download it "
            "again"
        ) from None


def _inflate(data: bytes, codec: str) -> bytes:
    return bytes(pa.CompressedInputStream(pa.BufferReader(data), codec).read())


def _name_foreign(name: str) -> str:
    ending = PurePath(name).suffix.lower()
    known = ", ".join(ENDINGS[:-1]) + f" or {ENDINGS[-1]}"
    return FOREIGN_NAMES.get(ending, f"is of no known kind; name a file that ends in {known}")


def _is_text(data: bytes) -> bool:
    head = data[:4096]
    if not head or head.startswith(tuple(BINARY_KINDS)):
        return False
    return head.isascii() and not any(byte < 9 for byte in head)
