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
    normalize_spellings,
    read_rows,
    read_unlabeled,
)
from sweep.data.spellings import find_label
from sweep.data.splits import hold_out_splits
from sweep.data.unlabeled import is_unlabeled
from sweep.errors import DataError, format_names, format_split_remedy


@dataclass(frozen=True)
class Corpus:
    """The rows of each split (train, validation, test), in file order."""

    splits: dict[str, list[Row]]
    # Every split of the source, also one without any label, which is then held out too.
    sources: Mapping[str, SplitSource] = field(default_factory=dict)
    # The splits that the source lacks (or has no label in), held out from its training rows.
    held_out: tuple[str, ...] = ()
    # Data files beside those that were read which no split uses.
    unused: tuple[str, ...] = ()
    # A column of the training data that says which split a row is for, and that nothing reads.
    split_column: str | None = None
    # Other spelling -> label, for number labels that files write in several ways (1, 1.0).
    spellings: Mapping[str, str] = field(default_factory=dict)
    # Whether ``data.labels_file`` was given for labels that are written as names.
    unused_names: bool = False

    @cached_property
    def labels(self) -> frozenset[str]:
        """The labels that its rows have, usable or not."""
        return frozenset(label for rows in self.splits.values() for r in rows for label in r.labels)

    def find_label(self, name: str) -> str:
        """Return the label that the user means by ``name``, who may spell a number differently."""
        return find_label(self.spellings.get(name, name), self.labels)


def build_corpus(
    tables: Mapping[str, Table], config: DataConfig, names: list[str] | None = None
) -> Corpus:
    """Return the rows of ``tables`` (split -> table); missing splits are held out from ``train``.

    ``names`` are the label names behind integers, where the tables do not hold them.
    """
    check_keys(tables.values(), config)
    _check_files_differ(tables)
    columns = _choose_columns(tables["train"], config)
    read = {
        split: read_unlabeled(table, columns)
        if is_unlabeled(table, tables["train"], columns)
        else _read_split(split, tables, columns, names, config.label_separator)
        for split, table in tables.items()
    }
    if not read["train"][0]:
        texts = " or ".join(map(repr, columns.texts))
        raise DataError(
            f"{tables['train'].location}: has no row with a text in {texts} and a label in "
            f"{columns.label!r}; name other columns in data.text_column and data.label_column"
        )
    read = {split: drop_placeholders(part, read["train"][0]) for split, part in read.items()}
    sources = {split: source for split, (_, source) in read.items()}
    rows = {split: kept for split, (kept, _) in read.items() if kept}
    spellings = {} if names else normalize_spellings(rows)
    held_out = tuple(split for split in SPLITS if split not in rows)
    written = tables["train"].columns[columns.label]
    return Corpus(
        _hold_out(rows, held_out, config),
        sources,
        held_out,
        split_column=find_split_column(tables["train"], columns) if held_out else None,
        spellings=spellings,
        unused_names=names is not None and are_names(written, names, config.label_separator),
    )


def _check_files_differ(tables: Mapping[str, Table]) -> None:
    split_of: dict[str, str] = {}
    for split, table in tables.items():
        other = split_of.setdefault(table.location, split)
        if other != split:
            raise DataError(
                f"{table.location}: is named for {other} and for {split}; name another file for "
                f"one of them, or {format_split_remedy(split)}"
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
            f"{table.location}: has the columns {format_names(table.columns)} but no rows; name a "
            "file with rows in data.path or data.splits.train"
        )
    texts = config.text_columns or (None,)
    if table.parts and config.label_column is None:
        # Before comparing columns: data in place of names look like columns that others lack.
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


def _hold_out(
    rows: dict[str, list[Row]], held_out: tuple[str, ...], config: DataConfig
) -> dict[str, list[Row]]:
    fractions = {"validation": config.validation_fraction, "test": config.test_fraction}
    fractions = {split: fractions[split] for split in held_out}
    train = rows["train"]
    splits = {split: rows.get(split, []) for split in SPLITS} | {"train": []}
    texts, labels = [row.text for row in train], [row.labels for row in train]
    assigned = hold_out_splits(texts, labels, fractions, config.split_seed)
    for row, split in zip(train, assigned, strict=True):
        splits[split].append(row)
    return splits
