"""Parquet and Arrow files as tables."""

import json
from collections.abc import Callable, Iterator
from decimal import Decimal
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from sweep.data.files.table import Table
from sweep.errors import DataError, truncate

ARROW_ERRORS = (pa.ArrowException, OSError, ValueError, MemoryError, OverflowError)


def read_parquet(place: str, data: bytes) -> Table:
    """Return the table in a Parquet file; raise DataError if it is damaged."""
    return _read(place, "Parquet", lambda source: pq.ParquetFile(source).read(), data)


def read_arrow(place: str, data: bytes) -> Table:
    """Return the table in an Arrow or Feather file, or in a stream as ``datasets`` caches it."""
    open_it = pa.ipc.open_file if data.startswith(b"ARROW1") else pa.ipc.open_stream
    return _read(place, "Arrow", lambda source: open_it(source).read_all(), data)


def _read(place: str, kind: str, read: Callable[[Any], pa.Table], data: bytes) -> Table:
    try:
        return build_table(place, read(pa.BufferReader(data)))
    except ARROW_ERRORS as error:
        reason = getattr(error, "strerror", None) or (str(error).splitlines() or ["damaged"])[0]
        raise DataError(
            f"{place}: cannot be read as {kind} ({reason[:200]}); check the file or write it again"
        ) from None


def build_table(place: str, table: pa.Table, schema: pa.Schema | None = None) -> Table:
    """Return the columns of an Arrow table that can hold a text or labels.

    Bytes are read as UTF-8 and decimals as numbers; what a struct holds becomes columns such as
    ``post.text``. ``schema`` carries the class names that the ``datasets`` library writes
    (default: its own).
    """
    columns: dict[str, list[Any]] = {}
    unreadable: dict[str, str] = {}
    twice = {name for name in table.column_names if table.column_names.count(name) > 1}
    for name, column in _flatten(table):
        values = None if name in twice else _read_values(column)
        if values is not None:
            columns[name] = values
        elif name not in columns:
            unreadable[name] = "is there twice" if name in twice else _explain(column.type)
    class_names = _read_class_names(schema or table.schema)
    return Table(place, columns, class_names=class_names, unreadable=unreadable)


def _flatten(table: pa.Table) -> Iterator[tuple[str, pa.ChunkedArray]]:
    for index, field in enumerate(table.schema):
        yield from _flatten_column(field.name, table.column(index))


def _flatten_column(name: str, column: pa.ChunkedArray) -> Iterator[tuple[str, pa.ChunkedArray]]:
    if isinstance(column.type, pa.BaseExtensionType):
        chunks = [chunk.storage for chunk in column.chunks]
        column = pa.chunked_array(chunks, column.type.storage_type)
    if not pa.types.is_struct(column.type):
        yield name, column
        return
    for field, part in zip(column.type, column.flatten(), strict=True):
        yield from _flatten_column(f"{name}.{field.name}", part)


def _read_values(column: pa.ChunkedArray) -> list[Any] | None:
    """Return the values of a column; None if its type can hold neither texts nor labels."""
    if not _is_plain(column.type):
        return None
    leaf = _find_leaf(column.type)
    convert = _to_number if pa.types.is_decimal(leaf) else _to_text if _is_binary(leaf) else None
    values: list[Any] = []
    try:
        for chunk in column.chunks:
            part = chunk.to_pylist()
            values += [_convert(value, convert) for value in part] if convert else part
    except UnicodeDecodeError:
        return None
    return values


def _convert(value: Any, convert: Callable[[Any], Any]) -> Any:
    if isinstance(value, list):
        return [_convert(part, convert) for part in value]
    return None if value is None else convert(value)


def _to_number(value: Decimal) -> int | float:
    return int(value) if value == value.to_integral_value() else float(value)


def _to_text(value: bytes) -> str:
    return value.decode("utf-8")


def _explain(kind: pa.DataType) -> str:
    if _is_binary(_find_leaf(kind)):
        return "holds bytes that are not UTF-8 text"
    return f"is of type {truncate(str(kind), 80)}"


def _find_leaf(kind: pa.DataType) -> pa.DataType:
    if pa.types.is_dictionary(kind) or _is_list(kind):
        return _find_leaf(kind.value_type)
    return kind


def _is_plain(kind: pa.DataType) -> bool:
    """Whether a column's type can hold a text or labels; images and vectors stay unread."""
    types = pa.types
    leaf = _find_leaf(kind)
    if _is_list(kind):
        return not _is_nested(kind.value_type) and (_is_text(leaf) or types.is_integer(leaf))
    number = types.is_integer(leaf) or types.is_floating(leaf) or types.is_boolean(leaf)
    simple = number or types.is_decimal(leaf) or types.is_null(leaf)
    return bool(_is_text(leaf) or simple) and not _is_nested(leaf)


def _is_list(kind: pa.DataType) -> bool:
    types = pa.types
    views = types.is_list_view(kind) or types.is_large_list_view(kind)
    lists = types.is_list(kind) or types.is_large_list(kind) or types.is_fixed_size_list(kind)
    return bool(lists or views)


def _is_nested(kind: pa.DataType) -> bool:
    return bool(_is_list(kind) or pa.types.is_nested(kind))


def _is_text(kind: pa.DataType) -> bool:
    types = pa.types
    strings = types.is_string(kind) or types.is_large_string(kind) or types.is_string_view(kind)
    return bool(strings or _is_binary(kind))


def _is_binary(kind: pa.DataType) -> bool:
    types = pa.types
    sized = types.is_fixed_size_binary(kind) and not types.is_decimal(kind)
    views = types.is_binary_view(kind)
    return bool(types.is_binary(kind) or types.is_large_binary(kind) or sized or views)


def _read_class_names(schema: pa.Schema) -> dict[str, list[str]]:
    """Return the names of each ClassLabel column, from the metadata of the ``datasets`` library."""
    try:
        features = json.loads((schema.metadata or {})[b"huggingface"])["info"]["features"]
        found = {name: _find_names(feature) for name, feature in features.items()}
    except (KeyError, TypeError, ValueError, AttributeError, RecursionError):
        return {}
    return {name: names for name, names in found.items() if names}


def _find_names(feature: Any) -> list[str]:
    inner = feature[0] if isinstance(feature, list) and feature else feature
    inner = inner.get("feature", inner)
    names = inner.get("names") if isinstance(inner, dict) else None
    return [str(name) for name in names] if isinstance(names, list) else []
