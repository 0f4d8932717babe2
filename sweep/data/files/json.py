"""JSON files as tables, in the shapes that tools write: rows (objects or lists, one a line or in
one array), columns, and either of them below a key or below the names of splits."""

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from sweep.data.files.names import find_split
from sweep.data.files.table import Table
from sweep.errors import DataError, format_names

EXAMPLE = '{"text": "...", "label": "..."}'
HEADER_NAMES = frozenset(("text", "sentence", "content", "label", "labels"))
# Objects with more different keys than this are no rows of columns.
MOST_COLUMNS = 1000
# A lone object with more keys than this is no row, but something else, such as a label by text.
WIDEST_ROW = 50
DEEPEST = 8
_BLANK = re.compile(r"[ \t\r\n]*")


def read_json(place: str, text: str) -> dict[str, Table]:
    """Return the tables in ``text`` (not empty): by split, or the only one under the key ``""``.

    Raises DataError with the line or row that is damaged, or with what the file holds instead of
    rows.
    """
    values, lines = _parse(place, text)
    if len(values) > 1:
        return {"": build_rows(place, values, lines)}
    return _read_document(place, values[0], lines)


def _parse(place: str, text: str) -> tuple[list[Any], list[int]]:
    """Return the JSON values in ``text`` and the line that each starts at."""
    numbered = [(n, line) for n, line in enumerate(text.split("\n"), 1) if line.strip()]
    try:
        return [json.loads(text)], [numbered[0][0]]
    except (ValueError, RecursionError):
        pass  # several values, or none: told below, with the right line
    if text.lstrip().startswith("{") and any(_is_object(line) for _, line in numbered[:2]):
        return [_parse_line(place, *line) for line in numbered], [n for n, _ in numbered]
    return _parse_stream(place, text)


def _is_object(line: str) -> bool:
    try:
        return isinstance(json.loads(line), dict)
    except (ValueError, RecursionError):
        return False


def _parse_line(place: str, number: int, line: str) -> Any:
    try:
        return json.loads(line)
    except (ValueError, RecursionError) as error:
        raise _not_json(place, number, error) from None


def _parse_stream(place: str, text: str) -> tuple[list[Any], list[int]]:
    """Return values that follow each other, each over one line or several, as ``jq`` prints."""
    decoder = json.JSONDecoder()
    values: list[Any] = []
    lines: list[int] = []
    line, end, start = 1, 0, _skip_blank(text, 0)
    while start < len(text):
        line += text.count("\n", end, start)
        try:
            value, end = decoder.raw_decode(text, start)
        except (ValueError, RecursionError) as error:
            other = not values and text[start] not in "{["
            hint = ", or give the file the ending that fits, such as .csv" if other else ""
            raise _not_json(place, getattr(error, "lineno", line), error, hint) from None
        values.append(value)
        lines.append(line)
        line += text.count("\n", start, end)
        start = _skip_blank(text, end)
    return values, lines


def _skip_blank(text: str, start: int) -> int:
    blank = _BLANK.match(text, start)
    return blank.end() if blank else start


def _not_json(place: str, line: int, error: Exception, hint: str = "") -> DataError:
    reason = getattr(error, "msg", None) or "too deep, or a number too long"
    return DataError(
        f"{place}: line {line} is not JSON ({reason}); write one object a line, or one array{hint}"
    )


def _read_document(place: str, value: Any, lines: list[int]) -> dict[str, Table]:
    splits = _find_splits(place, value)
    if splits:
        tables = {
            split: _read_shape(f"{place} (split {split})", part, None)
            for split, part in splits.items()
        }
        return {split: replace(table, files=(place,)) for split, table in tables.items()}
    return {"": _read_shape(place, value, lines)}


def _find_splits(place: str, value: Any) -> dict[str, Any]:
    """Return what stands below the names of splits, if those are all the keys that hold rows."""
    if not isinstance(value, dict):
        return {}
    parts = {key: part for key, part in value.items() if isinstance(part, list | dict)}
    if len(value) == 1 and len(parts) == 1 and not find_split(next(iter(value))):
        (inner,) = parts.values()
        return _find_splits(place, inner)
    found: dict[str, Any] = {}
    for key, part in parts.items():
        split = find_split(key)
        if split in found:
            raise DataError(f"{place}: has several keys for {split}; leave one of them")
        if split is None:
            return {}
        if part or split == "train":
            found[split] = part
    evaluation = found.pop("evaluation", None)
    if evaluation is not None:
        found.setdefault("test" if "validation" in found else "validation", evaluation)
    return found if "train" in found else {}


def _read_shape(place: str, value: Any, lines: list[int] | None) -> Table:
    if isinstance(value, list):
        return build_rows(place, value, None)
    if not isinstance(value, dict):
        return build_rows(place, [value], lines)
    if isinstance(value.get("columns"), list) and isinstance(value.get("data"), list):
        return _build_lists(place, [value["columns"], *value["data"]], None)  # orient="split"
    below = [key for key, part in value.items() if _holds_rows(part)]
    if len(below) > 1:
        others = [key for key in below if find_split(key) is None]
        known = len(others) < len(below)
        remedy = f"take {format_names(others)} out" if known else "keep one"
        raise DataError(
            f"{place}: holds rows below several keys ({format_names(below)}); {remedy}, or call "
            "them train, validation and test"
        )
    if below and len(value) > 1 and _are_columns(value):
        below = []
    if below:
        return build_rows(place, value[below[0]], None)
    return _read_columns(place, value, lines)


def _holds_rows(value: Any) -> bool:
    """Whether ``value`` is a list of objects, or of lists of one length such as pairs."""
    if not isinstance(value, list) or not value:
        return False
    if all(isinstance(row, dict) for row in value):
        return True
    return all(isinstance(row, list) and len(row) == len(value[0]) > 1 for row in value)


def _are_columns(value: Mapping[str, Any]) -> bool:
    """Whether all values are lists of one length, and one of them holds no rows itself."""
    lists = [part for part in value.values() if isinstance(part, list)]
    same = len(lists) == len(value) and len({len(part) for part in lists}) == 1
    return same and not all(map(_holds_rows, lists))


def _read_columns(place: str, value: dict[str, Any], lines: list[int] | None) -> Table:
    parts = list(value.values())
    if parts and all(isinstance(part, list) for part in parts):
        sizes = {name: len(part) for name, part in value.items()}
        if len(set(sizes.values())) > 1:
            listed = format_names(f"{name} has {size}" for name, size in sizes.items())
            raise DataError(f"{place}: its columns differ in length ({listed}); write it again")
        return Table(place, dict(value))
    if parts and all(isinstance(part, dict) for part in parts):
        if len(parts) == 1 and isinstance(next(iter(parts[0].values()), None), list | dict):
            return _read_shape(place, parts[0], lines)
        keys = list(dict.fromkeys(key for part in parts for key in part))
        if len(keys) < len(parts):
            return build_rows(place, parts, None)  # orient="index"
        return Table(place, {name: [part.get(k) for k in keys] for name, part in value.items()})
    nested = any(isinstance(part, list | dict) for part in parts)
    if (nested or len(parts) > WIDEST_ROW) and not _looks_like_row(value):
        raise DataError(
            f"{place}: is one object with the keys {format_names(value, 5)}, none of which holds "
            f"rows; write a list of objects such as {EXAMPLE}, or one a line"
        )
    return build_rows(place, [value], lines)


def _looks_like_row(value: Mapping[str, Any]) -> bool:
    return any(name.lower() in HEADER_NAMES for name in value)


def build_rows(place: str, values: Sequence[Any], lines: list[int] | None) -> Table:
    """Return the table of rows that are all objects, or all lists such as ``[text, label]``."""
    if not values:
        raise DataError(f"{place}: holds no rows; it needs some such as {EXAMPLE}")
    if isinstance(values[0], list):
        return _build_lists(place, values, lines)
    for index, value in enumerate(values):
        if not isinstance(value, dict):
            raise DataError(
                f"{place}: {_spot(index, lines)} is not a JSON object such as {EXAMPLE}; fix or "
                "delete it"
            )
    flat = [_flatten(value) for value in values]
    names = dict.fromkeys(name for row in flat for name in row)
    if len(names) > MOST_COLUMNS:
        flat, names = list(values), dict.fromkeys(name for row in values for name in row)
    return Table(place, {name: [row.get(name) for row in flat] for name in names}, lines)


def _flatten(row: Mapping[str, Any], depth: int = 1) -> dict[str, Any]:
    """Return ``row`` with the objects inside it as columns of their own, such as ``post.text``."""
    if depth > DEEPEST or not any(isinstance(value, dict) for value in row.values()):
        return dict(row)
    flat: dict[str, Any] = {}
    for name, value in row.items():
        if isinstance(value, dict):
            inner = _flatten(value, depth + 1)
            flat |= {f"{name}.{key}": part for key, part in inner.items()}
        else:
            flat[name] = value
    return flat


def _build_lists(place: str, values: Sequence[Any], lines: list[int] | None) -> Table:
    width = len(values[0])
    for index, value in enumerate(values):
        if not isinstance(value, list) or len(value) != width or width < 2:
            raise DataError(
                f"{place}: {_spot(index, lines)} is not a list of {max(width, 2)} values such as "
                '["text", "label"]; fix or delete it'
            )
    first, rest = values[0], values[1:]
    if all(isinstance(name, str) for name in first) and {n.lower() for n in first} & HEADER_NAMES:
        return Table(place, _transpose(first, rest), lines[1:] if lines else None)
    names = [f"column {number + 1}" for number in range(width)]
    return Table(place, _transpose(_name_pair(values) if width == 2 else names, values), lines)


def _name_pair(values: Sequence[Any]) -> list[str]:
    """Return the names of two columns: the one with fewer different values holds the labels."""
    first, second = (len({str(row[side]) for row in values}) for side in (0, 1))
    return ["label", "text"] if first < second else ["text", "label"]


def _transpose(names: Sequence[str], rows: Sequence[Any]) -> dict[str, list[Any]]:
    return {name: [row[index] for row in rows] for index, name in enumerate(names)}


def _spot(index: int, lines: list[int] | None) -> str:
    return f"line {lines[index]}" if lines else f"row {index + 1}"
