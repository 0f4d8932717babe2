"""CSV, TSV and other delimited text as columns."""

import csv
import io
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from sweep.data.files.delimiters import (
    count_named,
    find_delimiter,
    fits,
    long_fields,
    take_excel_line,
)
from sweep.errors import DataError, format_value

Record = tuple[int, list[str]]
# A quote after an odd number of backslashes, as Spark and MySQL escape it.
ESCAPED_QUOTE = re.compile(r'(?<!\\)((?:\\\\)*)\\"')


@dataclass(frozen=True)
class Layout:
    """How delimited files are written, as far as the user says."""

    quoted: bool = True
    """Whether texts that hold the delimiter or line ends stand in quotes, as RFC 4180 has it."""
    delimiter: str | None = None
    """One character; None: it is found."""
    columns: tuple[str, ...] | None = None
    """The columns' names where the first line is data; None: the first line holds them."""


@dataclass(frozen=True)
class Delimited:
    """The columns of a delimited text."""

    columns: dict[str, list[str]]
    """Those with a name of their own; a column without a name is called as pandas calls it,
    ``Unnamed: 0``, and left out if it is empty."""
    repeated: dict[str, list[str]]
    """Of each name that several columns have the first one's values: they are left out."""
    lines: list[int]
    """The line that each row starts at, from 1."""
    delimiter: str


class ColumnCountError(DataError):
    """``data.columns`` has not as many names as a file has columns."""

    def __init__(self, fact: str) -> None:
        super().__init__(f"{fact}; name every column in its order")
        self.fact = fact


def parse_delimited(place: str, text: str, usual: str, layout: Layout) -> Delimited:
    """Return the columns of ``text``, which error messages call ``place``.

    ``usual`` is the delimiter that the file's ending stands for: it is taken where the content
    does not decide. Raises DataError with the line of a damaged row.
    """
    body, told = take_excel_line(text)
    width = len(layout.columns) if layout.columns else None
    delimiter = layout.delimiter or told or find_delimiter(body, usual, layout.quoted, width)
    records = _read_records(place, body, 1 if told is None else 2, delimiter, layout)
    names = [name.strip() for name in layout.columns or records.pop(0)[1]]
    values = _turn([fields for _, fields in records], len(names))
    called = [name or f"Unnamed: {index}" for index, name in enumerate(names)]
    kept = [i for i, name in enumerate(names) if name or any(map(str.strip, values[i]))]
    counts = Counter(called[i] for i in kept)
    columns = {called[i]: values[i] for i in kept if counts[called[i]] == 1}
    repeated = {called[i]: values[i] for i in reversed(kept) if counts[called[i]] > 1}
    if repeated and not columns:
        raise DataError(f"{place}: has two columns named {format_value(min(repeated))}; rename one")
    return Delimited(columns, repeated, [line for line, _ in records], delimiter)


def _turn(rows: list[list[str]], width: int) -> list[list[str]]:
    """Return ``width`` columns of ``rows``, which may lack empty fields or have more of them."""
    padding = [""] * width
    even = (row if len(row) == width else [*row, *padding][:width] for row in rows)
    return [list(column) for column in zip(*even, strict=True)] or [[] for _ in padding]


def _read_records(
    place: str, text: str, first_line: int, delimiter: str, layout: Layout
) -> list[Record]:
    """Return the records by the first way of quoting under which all of them fit."""
    failure = None
    for body, spaced in _list_ways(text, layout.quoted):
        try:
            return _read_way(place, body, first_line, delimiter, layout, spaced)
        except (DataError, csv.Error) as error:
            failure = failure or error
    if isinstance(failure, DataError):
        raise failure
    raise DataError(f"{place}: {failure}; {_mend_quotes(place, text, delimiter, layout)}")


def _read_way(
    place: str, text: str, first_line: int, delimiter: str, layout: Layout, spaced: bool = False
) -> list[Record]:
    if layout.quoted:
        records = list(_split_quoted(text, first_line, delimiter, spaced))
    else:
        records = _split_lines(text, first_line, delimiter)
    _check_records(place, records, delimiter, layout)
    return records


def _mend_quotes(place: str, text: str, delimiter: str, layout: Layout) -> str:
    """Return the remedy for a quote out of place: the file may not use quotes at all."""
    try:
        _read_way(place, text, 1, delimiter, replace(layout, quoted=False))
    except DataError:
        return 'put quotes around that text, and write each quote inside it twice ("")'
    return "fix it, or set data.quoted=false if the file does not put quotes around texts"


def _list_ways(text: str, quoted: bool) -> Iterator[tuple[str, bool]]:
    """Yield the ways to read ``text``: as RFC 4180 has it; with spaces between delimiter and quote;
    with backslashes before the quotes inside texts."""
    yield text, False
    if quoted:
        yield text, True
        if '\\"' in text:
            yield ESCAPED_QUOTE.sub(r'\1""', text), False


def _split_quoted(text: str, first_line: int, delimiter: str, spaced: bool) -> Iterator[Record]:
    reader = csv.reader(
        io.StringIO(text, newline=""), delimiter=delimiter, strict=True, skipinitialspace=spaced
    )
    start = first_line
    with long_fields():
        try:
            for fields in reader:
                if fields:
                    yield start, fields
                start = reader.line_num + first_line
        except csv.Error as error:
            raise csv.Error(f"the row at line {start} has a quote out of place ({error})") from None


def _split_lines(text: str, first_line: int, delimiter: str) -> list[Record]:
    # A carriage return ends a line only where nothing else does: texts may hold one.
    ends = text.replace("\r\n", "\n") if "\n" in text else text.replace("\r", "\n")
    lines = enumerate(ends.split("\n"), start=first_line)
    return [(number, line.split(delimiter)) for number, line in lines if line]


def _check_records(place: str, records: Sequence[Record], delimiter: str, layout: Layout) -> None:
    if not records:
        raise DataError(f"{place}: is empty; it needs a line of column names and rows below it")
    line, first = records[0]
    if layout.delimiter and len(first) < 2:
        raise DataError(
            f"{place}: data.delimiter {format_value(delimiter)} does not part line {line}; leave "
            "it out, so that it is found, or name the character that does"
        )
    if layout.columns and not fits(first, len(layout.columns)):
        raise ColumnCountError(
            f"{place}: data.columns has {len(layout.columns)} names, but line {line} has "
            f"{_count(first)}, parted by {format_value(delimiter)}"
        )
    names = list(layout.columns or first)
    needed = count_named(names)
    widths = {len(fields) for _, fields in records[1:]}
    if len(widths) == 1 and len(records) > 2 and not widths & {needed, len(names)}:
        raise DataError(
            f"{place}: the header has {len(names)} names, but every row has {widths.pop()} fields; "
            f"give each column a name there, or put quotes around texts that hold the separator "
            f"{format_value(delimiter)}"
        )
    for number, fields in records:
        if len(fields) < needed or any(map(str.strip, fields[len(names) :])):
            raise DataError(
                f"{place}: line {number} {_explain_width(fields, names, delimiter, layout)}"
            )


def _explain_width(
    fields: Sequence[str], names: Sequence[str], delimiter: str, layout: Layout
) -> str:
    named, shown = "data.columns" if layout.columns else "the header", format_value(delimiter)
    remedy = (
        f"put quotes around texts that hold the separator {shown} or a line end, or fix the row"
        if layout.quoted
        else f"take the separator {shown} out of the text, or set data.quoted=true and put quotes "
        "around texts that hold it"
    )
    return f"has {_count(fields)} where {named} has {len(names)}; {remedy}"


def _count(fields: Sequence[str]) -> str:
    return f"{len(fields)} field{'s' * (len(fields) != 1)}"
