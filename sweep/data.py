"""Load a corpus: the Hugging Face Hub, files on disk, or the built-in synthetic one."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property, partial

from sweep.columnar import refuse_unreadable
from sweep.columns import (
    LABEL_NAMES,
    TEXT_NAMES,
    Columns,
    check_first_lines,
    choose_columns,
    find_split_column,
)
from sweep.config.schema import DataConfig
from sweep.delimited import ColumnCountError, Layout
from sweep.errors import DataError, cut_instead, show_names
from sweep.filenames import SPLITS
from sweep.hubdata import load_from_hub
from sweep.layouts import FileLayout, find_layout
from sweep.named import resolve
from sweep.nodes import Node
from sweep.official import check_files, find_official_names, name_official_files, read_official
from sweep.readers import Table, read_tables, read_text, split_lines
from sweep.rows import (
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
from sweep.spellings import find_label
from sweep.splitfiles import read_split
from sweep.splits import cut_splits
from sweep.synthetic import build_synthetic_corpus
from sweep.unlabelled import is_unlabelled

__all__ = ["SPLITS", "Corpus", "Row", "SplitSource", "build_corpus", "load_corpus"]


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


def load_corpus(config: DataConfig) -> Corpus:
    """Return the corpus that ``config`` names; raise DataError saying what to do when it fails."""
    if config.source == "synthetic":
        splits = build_synthetic_corpus()
        return Corpus({name: [Row(*row) for row in rows] for name, rows in splits.items()})
    if config.source == "hub":
        return build_corpus(load_from_hub(config), config, _read_names(config))
    try:
        return load_from_files(config)
    except OSError as error:
        raise DataError(
            f"data.path: {error.filename or config.path} cannot be read ({error.strerror}); "
            "check data.path, data.splits and data.labels_file"
        ) from None


def load_from_files(config: DataConfig) -> Corpus:
    """Return the corpus in files on disk, as ``layouts`` finds them."""
    layout = find_layout(name_official_files(config))
    official = find_official_names(layout.splits, config)
    if official is not None:
        corpus = _load_official(layout, official, config)
    else:
        corpus = build_corpus(_read_layout(layout, config), config, _read_names(config))
    others = [resolve(config, config.labels_file)] if config.labels_file else []
    unused = layout.list_unused(others)
    # The official layout has names in place of its indices already.
    unused_names = corpus.unused_names and official is None
    return replace(corpus, unused=unused, unused_names=unused_names)


def _load_official(layout: FileLayout, names_file: Node, config: DataConfig) -> Corpus:
    check_files(layout.splits)
    names = _read_names(config)
    names = names or _read_name_lines(names_file, "the official layout", config.encoding)
    tables = {
        split: read_official(layout.splits[split].nodes[0], names, config.encoding)
        for split in SPLITS
        if split in layout.splits
    }
    columns = {"text_column": "text", "label_column": "labels"}
    return build_corpus(tables, config.model_copy(update=columns), names)


def _read_layout(layout: FileLayout, config: DataConfig) -> dict[str, Table]:
    """Return the table of each split, those inside a JSON file for training included."""
    names = None if config.columns is None else tuple(config.columns)
    written = Layout(config.quoted, config.delimiter, names)
    read = partial(read_tables, layout=written, encoding=config.encoding)
    tables: dict[str, Table] = {}
    for split, files in layout.splits.items():
        try:
            found = read_split(split, files, read, config.encoding)
        except ColumnCountError as error:
            if split == "train":
                raise
            # The names are right for training: the file itself has other columns.
            remedy = f"give it the columns of the training data, or {cut_instead(split)}"
            raise DataError(f"{error.fact}; {remedy}") from None
        if "" not in found and split not in found:
            raise DataError(
                f"{files.nodes[0]}: holds the splits {show_names(found)} and none for {split}; "
                f"name another file in data.splits.{split}"
            )
        tables[split] = found.get("") or found[split]
        if split == "train":
            tables |= _list_inner(found, layout, config)
    return {split: tables[split] for split in SPLITS if split in tables}


def _list_inner(
    found: Mapping[str, Table], layout: FileLayout, config: DataConfig
) -> dict[str, Table]:
    chosen = config.splits or {}
    inner = {split: table for split, table in found.items() if split and split not in chosen}
    twice = next((s for s in inner if s != "train" and s in layout.splits), None)
    if twice:
        raise DataError(
            f"{inner[twice].place}: is for {twice}, and so is {layout.splits[twice].nodes[0]}; "
            f"set data.splits.{twice} to one of the two files"
        )
    return inner


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
                f"of them, or {cut_instead(split)}"
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
            f"{table.place}: has the columns {show_names(table.columns)} but no rows; name a file "
            "with rows in data.path or data.splits.train"
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
        left = show_names(f"{name} {why}" for name, why in table.unreadable.items())
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


def _read_names(config: DataConfig) -> list[str] | None:
    if config.labels_file is None:
        return None
    path = resolve(config, config.labels_file)
    if not path.exists():
        raise DataError(
            f"{path}: there is no such file; check data.labels_file, which is looked for where the "
            "data are"
        )
    return _read_name_lines(path, "data.labels_file", config.encoding)


def _read_name_lines(path: Node, key: str, encoding: str | None = None) -> list[str]:
    lines = [line.strip() for line in split_lines(read_text(path, encoding)) if line.strip()]
    pairs = [line.partition("\t") for line in lines]
    # Lines such as "0 <TAB> anger" are a mapping, as TweetEval has it.
    numbered = [number.strip() for number, _, _ in pairs] == list(map(str, range(len(lines))))
    names = [name.split("\t")[0].strip() or number for number, _, name in pairs if numbered]
    names = names or lines
    if len(set(names)) < max(2, len(names)):
        raise DataError(
            f"{path}: {key} needs two or more different names, one a line; fix the file"
        )
    return names
