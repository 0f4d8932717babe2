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

# The line that a record starts at, and its fields.
Record = tuple[int, list[str]]
# A quote after an odd number of backslashes, as Spark and MySQL escape it.
ESCAPED_QUOTE = re.compile(r'(?<!\\)((?:\\\\)*)\\"')


@dataclass(frozen=True)
class Layout:
    """How delimited files are written, as far as the configuration says."""

    # Whether texts that hold the delimiter or line breaks are in quotes, as in RFC 4180.
    quoted: bool = True
    # One character; None: detected.
    delimiter: str | None = None
    # The columns' names where the first line is data; None: the first line holds them.
    columns: tuple[str, ...] | None = None


@dataclass(frozen=True)
class Delimited:
    # Those with a unique name; a column without a name is called ``Unnamed: 0``, as in pandas, and
    # left out if it is empty.
    columns: dict[str, list[str]]
    # Names that several columns share, with the values of the first one; these are left out.
    repeated: dict[str, list[str]]
    # The line that each row starts at, from 1.
    lines: list[int]
    delimiter: str


class ColumnCountError(DataError):
    """``data.columns`` does not have as many names as a file has columns."""

    def __init__(self, fact: str) -> None:
        super().__init__(f"{fact}; name every column in order")
        self.fact = fact


def parse_delimited(location: str, text: str, usual: str, layout: Layout) -> Delimited:
    """Return the columns of ``text``, which error messages call ``location``.

    ``usual`` is the delimiter that the file's ending implies; it counts where the content does not
    decide. Raises DataError that names the line of a damaged row.
    """
    body, declared = take_excel_line(text)
    width = len(layout.columns) if layout.columns else None
    delimiter = layout.delimiter or declared or find_delimiter(body, usual, layout.quoted, width)
    records = _read_records(location, body, 1 if declared is None else 2, delimiter, layout)
    names = [name.strip() for name in layout.columns or records.pop(0)[1]]
    values = _transpose([fields for _, fields in records], len(names))
    called = [name or f"Unnamed: {index}" for index, name in enumerate(names)]
    kept = [i for i, name in enumerate(names) if name or any(map(str.strip, values[i]))]
    counts = Counter(called[i] for i in kept)
    columns = {called[i]: values[i] for i in kept if counts[called[i]] == 1}
    repeated = {called[i]: values[i] for i in reversed(kept) if counts[called[i]] > 1}
    if repeated and not columns:
        raise DataError(
            f"{location}: has two columns named {format_value(min(repeated))}; rename one"
        )
    return Delimited(columns, repeated, [line for line, _ in records], delimiter)


def _transpose(rows: list[list[str]], width: int) -> list[list[str]]:
    """Return ``width`` columns; rows are padded with empty fields or truncated to that width."""
    padding = [""] * width
    even = (row if len(row) == width else [*row, *padding][:width] for row in rows)
    return [list(column) for column in zip(*even, strict=True)] or [[] for _ in padding]


def _read_records(
    location: str, text: str, first_line: int, delimiter: str, layout: Layout
) -> list[Record]:
    """Return the records as the first dialect reads them in which every record is valid."""
    failure = None
    for body, spaced in _list_dialects(text, layout.quoted):
        try:
            return _read_dialect(location, body, first_line, delimiter, layout, spaced)
        except (DataError, csv.Error) as error:
            failure = failure or error
    if isinstance(failure, DataError):
        raise failure
    raise DataError(f"{location}: {failure}; {_suggest_quoting(location, text, delimiter, layout)}")


def _read_dialect(
    location: str, text: str, first_line: int, delimiter: str, layout: Layout, spaced: bool = False
) -> list[Record]:
    if layout.quoted:
        records = list(_split_quoted(text, first_line, delimiter, spaced))
    else:
        records = _split_lines(text, first_line, delimiter)
    _check_records(location, records, delimiter, layout)
    return records


def _suggest_quoting(location: str, text: str, delimiter: str, layout: Layout) -> str:
    # The file may not use quotes at all.
    try:
        _read_dialect(location, text, 1, delimiter, replace(layout, quoted=False))
    except DataError:
        return 'put quotes around that text, and write each quote inside it twice ("")'
    return "fix it, or set data.quoted=false if the file does not put quotes around texts"


def _list_dialects(text: str, quoted: bool) -> Iterator[tuple[str, bool]]:
    """Yield the text and whether to skip spaces after delimiters: for RFC 4180, for spaces between
    delimiter and quote, and for backslashes before the quotes inside texts."""
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
            raise csv.Error(f"the row at line {start} has a misplaced quote ({error})") from None


def _split_lines(text: str, first_line: int, delimiter: str) -> list[Record]:
    # A carriage return ends a line only where there is no line feed: texts may hold one.
    ends = text.replace("\r\n", "\n") if "\n" in text else text.replace("\r", "\n")
    lines = enumerate(ends.split("\n"), start=first_line)
    return [(number, line.split(delimiter)) for number, line in lines if line]


def _check_records(
    location: str, records: Sequence[Record], delimiter: str, layout: Layout
) -> None:
    if not records:
        raise DataError(f"{location}: is empty; it needs a line of column names and rows below it")
    line, first = records[0]
    if layout.delimiter and len(first) < 2:
        raise DataError(
            f"{location}: data.delimiter {format_value(delimiter)} does not separate line {line}; "
            "leave it out to have it detected, or name the character that does"
        )
    if layout.columns and not fits(first, len(layout.columns)):
        raise ColumnCountError(
            f"{location}: data.columns has {len(layout.columns)} names, but line {line} has "
            f"{_count(first)}, separated by {format_value(delimiter)}"
        )
    names = list(layout.columns or first)
    needed = count_named(names)
    widths = {len(fields) for _, fields in records[1:]}
    if len(widths) == 1 and len(records) > 2 and not widths & {needed, len(names)}:
        raise DataError(
            f"{location}: the header has {len(names)} names, but every row has {widths.pop()} "
            "fields; give each column a name there, or put quotes around texts that hold the "
            f"separator {format_value(delimiter)}"
        )
    for number, fields in records:
        if len(fields) < needed or any(map(str.strip, fields[len(names) :])):
            raise DataError(
                f"{location}: line {number} {_explain_width(fields, names, delimiter, layout)}"
            )


def _explain_width(
    fields: Sequence[str], names: Sequence[str], delimiter: str, layout: Layout
) -> str:
    named, shown = "data.columns" if layout.columns else "the header", format_value(delimiter)
    remedy = (
        f"put quotes around texts that hold the separator {shown} or a line break, or fix the row"
        if layout.quoted
        else f"remove the separator {shown} from the text, or set data.quoted=true and put quotes "
        "around texts that hold it"
    )
    return f"has {_count(fields)} where {named} has {len(names)}; {remedy}"


def _count(fields: Sequence[str]) -> str:
    return f"{len(fields)} field{'s' * (len(fields) != 1)}"
