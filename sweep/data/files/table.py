"""A table: columns of equal length, and where they came from."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from sweep.errors import DataError, format_value


@dataclass(frozen=True)
class Table:
    """Columns of equal length, and where they came from."""

    place: str
    """The file, or the Hub dataset and split, as error messages name it."""
    columns: dict[str, list[Any]]
    lines: list[int] | None = None
    """The line each row starts at; None where a file has no lines, and rows are counted."""
    class_names: dict[str, list[str]] = field(default_factory=dict)
    """The names behind a column's whole numbers, where the file itself holds them."""
    repeated: dict[str, list[Any]] = field(default_factory=dict)
    """Of each name that several columns have the first one's values: they are left out."""
    delimiter: str | None = None
    """What parts the fields; None where the names are not a line of the file (JSON, Parquet)."""
    headless: bool = False
    """Whether the first line is data, and data.columns holds the names."""
    unreadable: dict[str, str] = field(default_factory=dict)
    """Columns that can hold neither texts nor labels, each with a phrase that says why."""
    files: tuple[str, ...] = ()
    """The files behind the table; empty where ``place`` is the only one."""
    parts: tuple["Table", ...] = ()
    """The tables of the single files (shards) that this one is made of, in order."""

    @property
    def sources(self) -> tuple[str, ...]:
        """Every file behind the table."""
        return self.files or (self.place,)

    @property
    def n_rows(self) -> int:
        """How many rows there are."""
        return max(map(len, self.columns.values()), default=0)

    def where(self, row: int) -> str:
        """Return the place of row ``row`` (from 0) in words, its counts from 1."""
        for part in self.parts:
            if row < part.n_rows:
                return part.where(row)
            row -= part.n_rows
        spot = f"row {row + 1}" if self.lines is None else f"line {self.lines[row]}"
        return f"{self.place}: {spot}"


def join_tables(tables: Sequence[Table]) -> Table:
    """Return one table with the rows of all ``tables``, in order.

    Tables without rows count only where none has any. A column that one of them lacks, or whose
    numbers have other names in another, is unreadable.
    """
    headed = [table for table in tables if table.columns] or tables[:1]
    parts = [table for table in headed if table.n_rows] or headed[:1]
    repeated = {name: values for part in parts for name, values in part.repeated.items()}
    names = [n for n in dict.fromkeys(n for p in parts for n in p.columns) if n not in repeated]
    unreadable = {name: why for part in parts for name, why in part.unreadable.items()}
    unreadable |= {name: why for name in names if (why := _find_misfit(parts, name))}
    first = parts[0]
    return Table(
        first.place if len(tables) == 1 else f"{first.place} and {len(tables) - 1} more",
        {
            name: [value for part in parts for value in part.columns[name]]
            for name in names
            if name not in unreadable
        },
        class_names=first.class_names,
        repeated=repeated,
        delimiter=first.delimiter,
        headless=first.headless,
        unreadable=unreadable,
        files=tuple(source for table in tables for source in table.sources),
        parts=tuple(parts),
    )


def _find_misfit(parts: Sequence[Table], name: str) -> str:
    lacking = next((part for part in parts if name not in part.columns), None)
    if lacking and name not in lacking.unreadable:
        return f"is missing in {lacking.place}"
    names = parts[0].class_names.get(name)
    other = next((part for part in parts if part.class_names.get(name) != names), None)
    return f"has other label names in {other.place}" if other else ""


def refuse_unreadable(table: Table, key: str, wanted: str | None, usual: Sequence[str]) -> None:
    """Raise DataError if the column meant by ``data.KEY`` is there but cannot be read.

    It is the one ``wanted``, else one with a ``usual`` name where no readable column has such.
    """
    if any(name.lower() in usual for name in table.columns) and wanted is None:
        return
    meant = [wanted] if wanted is not None else [n for n in table.unreadable if n.lower() in usual]
    name = next((name for name in meant if name in table.unreadable), None)
    if name is not None and name not in table.columns:
        what = "texts" if key == "text_column" else "labels"
        raise DataError(
            f"{table.place}: the column {format_value(name)} {table.unreadable[name]} and gives no "
            f"{what}; fix it, or name another column in data.{key}"
        )
