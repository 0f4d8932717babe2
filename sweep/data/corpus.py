"""A corpus: the rows of each split, built from tables."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property

from sweep.config import DataConfig
from sweep.data.columns import (
    LABEL_NAMES,
    TEXT_NAMES,
    Columns,
    check_first_lines,
    choose_columns,
    find_split_column,
)
from sweep.data.files.names import SPLITS
from sweep.data.files.table import Table, refuse_unreadable
from sweep.data.rows import (
    Row,
    SplitSource,
    are_names,
    check_columns,
    check_keys,
    drop_placeholders,
    find_names,
    read_rows,
    read_unlabelled,
    spell_alike,
)
from sweep.data.spellings import find_label
from sweep.data.splits import cut_splits
from sweep.data.unlabeled import is_unlabelled
from sweep.errors import DataError, format_names, format_split_remedy


@dataclass(frozen=True)
class Corpus:
    """The rows of each split (train, validation, test), in file order."""

    splits: dict[str, list[Row]]
    sources: Mapping[str, SplitSource] = field(default_factory=dict)
    """Each split that the source has, also one without any label, which is then cut too."""
    cut: tuple[str, ...] = ()
    """The splits that the source lacks (or has no label in), cut from its training rows."""
    unused: tuple[str, ...] = ()
    """Data files beside those that were read which no split uses."""
    split_column: str | None = None
    """A column of the training data that says which split a row is for, and that nothing reads."""
    spellings: Mapping[str, str] = field(default_factory=dict)
    """Of number labels that files write in several ways (1, 1.0) each other way: its label."""
    unused_names: bool = False
    """Whether ``data.labels_file`` was given for labels that are written as names."""

    @cached_property
    def labels(self) -> frozenset[str]:
        """The labels that its rows have, usable or not."""
        return frozenset(label for rows in self.splits.values() for r in rows for label in r.labels)

    def find_label(self, name: str) -> str:
        """Return the label that the user means by ``name``, which may write a number otherwise."""
        return find_label(self.spellings.get(name, name), self.labels)


def build_corpus(
    tables: Mapping[str, Table], config: DataConfig, names: list[str] | None = None
) -> Corpus:
    """Return the rows of ``tables`` (split to table), the splits that lack cut from ``train``.

    ``names`` are those behind whole numbers, where they are not in the tables themselves.
    """
    check_keys(tables.values(), config)
    _check_places(tables)
    columns = _choose_columns(tables["train"], config)
    read = {
        split: read_unlabelled(table, columns)
        if is_unlabelled(table, tables["train"], columns)
        else _read_split(split, tables, columns, names, config.label_separator)
        for split, table in tables.items()
    }
    if not read["train"][0]:
        texts = " or ".join(map(repr, columns.texts))
        raise DataError(
            f"{tables['train'].place}: has no row with a text in {texts} and a label in "
            f"{columns.label!r}; name other columns in data.text_column and data.label_column"
        )
    read = {split: drop_placeholders(part, read["train"][0]) for split, part in read.items()}
    sources = {split: source for split, (_, source) in read.items()}
    rows = {split: kept for split, (kept, _) in read.items() if kept}
    spellings = {} if names else spell_alike(rows)
    cut = tuple(split for split in SPLITS if split not in rows)
    written = tables["train"].columns[columns.label]
    return Corpus(
        _cut_from_training(rows, cut, config),
        sources,
        cut,
        split_column=find_split_column(tables["train"], columns) if cut else None,
        spellings=spellings,
        unused_names=names is not None and are_names(written, names, config.label_separator),
    )


def _check_places(tables: Mapping[str, Table]) -> None:
    """Raise DataError if two splits are one file."""
    places: dict[str, str] = {}
    for split, table in tables.items():
        other = places.setdefault(table.place, split)
        if other != split:
            raise DataError(
                f"{table.place}: is named for {other} and for {split}; name another file for one "
                f"of them, or {format_split_remedy(split)}"
            )


def _read_split(
    split: str,
    tables: Mapping[str, Table],
    columns: Columns,
    names: list[str] | None,
    separator: str | None,
) -> tuple[list[Row], SplitSource]:
    check_columns(split, tables[split], columns)
    own = names or find_names(tables[split], tables.values(), columns, separator)
    return read_rows(tables[split], columns, own, separator)


def _choose_columns(table: Table, config: DataConfig) -> Columns:
    if table.columns and not table.n_rows:
        raise DataError(
            f"{table.place}: has the columns {format_names(table.columns)} but no rows; name a "
            "file with rows in data.path or data.splits.train"
        )
    texts = config.text_columns or (None,)
    if table.parts and config.label_column is None:
        # Before the columns that not all of them have: data in place of names are such columns.
        check_first_lines(table, texts[0])
    for wanted in texts:
        refuse_unreadable(table, "text_column", wanted, TEXT_NAMES)
    refuse_unreadable(table, "label_column", config.label_column, LABEL_NAMES)
    try:
        return choose_columns(table, config.text_columns, config.label_column)
    except DataError as error:
        if not table.unreadable:
            raise
        left = format_names(f"{name} {why}" for name, why in table.unreadable.items())
        raise DataError(f"{error} (not read: {left})") from None


def _cut_from_training(
    rows: dict[str, list[Row]], cut: tuple[str, ...], config: DataConfig
) -> dict[str, list[Row]]:
    wanted = {"validation": config.validation_fraction, "test": config.test_fraction}
    fractions = {split: wanted[split] for split in cut}
    train = rows["train"]
    splits = {split: rows.get(split, []) for split in SPLITS} | {"train": []}
    texts, labels = [row.text for row in train], [row.labels for row in train]
    places = cut_splits(texts, labels, fractions, config.split_seed)
    for row, split in zip(train, places, strict=True):
        splits[split].append(row)
    return splits
