"""What separates the fields of a text file: detected, or named in Excel's first line."""

import csv
import io
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from itertools import islice

# What programs usually write; anything else has to be named in data.delimiter.
CANDIDATES = (",", ";", "\t", "|")
# Enough records to tell a delimiter from a comma that most texts happen to hold.
SAMPLE_RECORDS = 1000
SAMPLE_CHARACTERS = 1_000_000
# Excel's first line, which says how to read the file and is not data.
EXCEL_LINE = re.compile(r'"?sep=([^\r\n"])"?[ \t]*(?:\r\n|\n|\r)', re.IGNORECASE)


def take_excel_line(text: str) -> tuple[str, str | None]:
    """Return ``text`` without Excel's ``sep=;`` line, and the delimiter that it names."""
    match = EXCEL_LINE.match(text)
    return (text[match.end() :], match[1]) if match else (text, None)


def find_delimiter(text: str, usual: str, quoted: bool, width: int | None = None) -> str:
    """Return the delimiter under which the records of ``text`` agree best.

    It has to separate the first record, which has a field for every column. Of several, the one
    wins that gives most records the same number of fields (``width``; None: as many as the first
    record), then the one with the column whose values repeat most, then the one with more fields.
    Without any, it is ``usual``.
    """
    start = text[:SAMPLE_CHARACTERS]
    samples = {delimiter: _read_sample(start, delimiter, quoted) for delimiter in CANDIDATES}
    possible = [delimiter for delimiter, sample in samples.items() if sample and len(sample[0]) > 1]
    if len(possible) < 2:
        return possible[0] if possible else usual

    def score(delimiter: str) -> tuple[float, float, int, bool]:
        sample = samples[delimiter]
        wanted = width or count_named(sample[0])
        rows = [fields for fields in sample if fits(fields, wanted)]
        agreement = len(rows) / len(sample)
        return agreement, -_least_variety(rows[1:]), len(sample[0]), delimiter == usual

    return max(possible, key=score)


def fits(fields: Sequence[str], width: int) -> bool:
    """Return whether a record has ``width`` fields, not counting empty ones at its end."""
    return len(fields) >= width and not any(map(str.strip, fields[width:]))


def count_named(names: Sequence[str]) -> int:
    """Return how many columns there are, not counting those without a name at the end."""
    return max((i for i, name in enumerate(names, start=1) if name.strip()), default=0)


@contextmanager
def long_fields() -> Iterator[None]:
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
        # With the wrong delimiter, quotes are misplaced.
        with suppress(csv.Error):
            sample.extend(filter(None, islice(reader, SAMPLE_RECORDS)))
            return sample
        return [*sample, []]


def _least_variety(rows: Sequence[Sequence[str]]) -> float:
    """Return the smallest share of distinct values in any column that is not constant."""
    columns = zip(*rows, strict=False)
    shares = [len(set(column)) / len(column) for column in columns if len(set(column)) > 1]
    return min(shares, default=1.0)
