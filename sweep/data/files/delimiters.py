"""What parts the fields of a text file: found in its content, or said in Excel's first line."""

import csv
import io
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from itertools import islice

# What people's programs write; anything else has to be named in data.delimiter.
CANDIDATES = (",", ";", "\t", "|")
# Enough records to tell a delimiter from a comma that most texts happen to hold.
SAMPLE_RECORDS = 1000
SAMPLE_CHARACTERS = 1_000_000
# Excel's first line, which no other program shows as data.
EXCEL_LINE = re.compile(r'"?sep=([^\r\n"])"?[ \t]*(?:\r\n|\n|\r)', re.IGNORECASE)


def take_excel_line(text: str) -> tuple[str, str | None]:
    """Return ``text`` without Excel's ``sep=;`` line, and the delimiter that it names."""
    match = EXCEL_LINE.match(text)
    return (text[match.end() :], match[1]) if match else (text, None)


def find_delimiter(text: str, usual: str, quoted: bool, width: int | None = None) -> str:
    """Return the delimiter under which the records of ``text`` agree best.

    It has to part the first record, which holds a field for every column. Where several do, the
    one that gives most records the same number of fields (``width``; None: as many as the first
    record) wins, then the one with the column whose values come back most, then that with more
    fields. ``usual`` is taken where none parts the first record.
    """
    start = text[:SAMPLE_CHARACTERS]
    samples = {delimiter: _read_sample(start, delimiter, quoted) for delimiter in CANDIDATES}
    able = [delimiter for delimiter, sample in samples.items() if sample and len(sample[0]) > 1]
    if len(able) < 2:
        return able[0] if able else usual

    def merit(delimiter: str) -> tuple[float, float, int, bool]:
        sample = samples[delimiter]
        wanted = width or count_named(sample[0])
        rows = [fields for fields in sample if fits(fields, wanted)]
        agreement = len(rows) / len(sample)
        return agreement, -_least_variety(rows[1:]), len(sample[0]), delimiter == usual

    return max(able, key=merit)


def fits(fields: Sequence[str], width: int) -> bool:
    """Return whether a record has ``width`` fields, empty ones at its end aside."""
    return len(fields) >= width and not any(map(str.strip, fields[width:]))


def count_named(names: Sequence[str]) -> int:
    """Return how many columns ``names`` holds, those without a name at its end aside."""
    return max((i for i, name in enumerate(names, start=1) if name.strip()), default=0)


@contextmanager
def long_fields() -> Iterator[None]:
    """Let the csv module read fields of any length."""
    limit = csv.field_size_limit(2**31 - 1)
    try:
        yield
    finally:
        csv.field_size_limit(limit)


def _read_sample(start: str, delimiter: str, quoted: bool) -> list[list[str]]:
    if not quoted:
        lines = [line for line in re.split("\r\n|\n|\r", start) if line]
        return [line.split(delimiter) for line in lines[:SAMPLE_RECORDS]]
    reader = csv.reader(io.StringIO(start, newline=""), delimiter=delimiter, strict=True)
    sample: list[list[str]] = []
    with long_fields():
        # A delimiter that is not the file's leaves quotes in odd places.
        with suppress(csv.Error):
            sample.extend(filter(None, islice(reader, SAMPLE_RECORDS)))
            return sample
        return [*sample, []]


def _least_variety(rows: Sequence[Sequence[str]]) -> float:
    """Return the smallest share of different values in a column that is not constant."""
    columns = zip(*rows, strict=False)
    shares = [len(set(column)) / len(column) for column in columns if len(set(column)) > 1]
    return min(shares, default=1.0)
