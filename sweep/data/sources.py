"""Where a corpus comes from: files on disk, the Hugging Face Hub, or the built-in generator."""

from collections.abc import Mapping
from dataclasses import replace
from functools import partial

from sweep.config import DataConfig
from sweep.data.corpus import (
    Corpus,
    build_corpus,
)
from sweep.data.files.delimited import ColumnCountError, Layout
from sweep.data.files.layouts import FileLayout, find_layout
from sweep.data.files.named import resolve
from sweep.data.files.names import SPLITS
from sweep.data.files.nodes import Node
from sweep.data.files.official import (
    check_files,
    find_official_names,
    name_official_files,
    read_official,
)
from sweep.data.files.raw_bytes import read_text
from sweep.data.files.readers import read_tables, split_lines
from sweep.data.files.split import read_split
from sweep.data.files.table import Table
from sweep.data.hub import load_from_hub
from sweep.data.rows import (
    Row,
)
from sweep.data.synthetic import build_synthetic_corpus
from sweep.errors import DataError, format_names, format_split_remedy


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
            remedy = f"give it the columns of the training data, or {format_split_remedy(split)}"
            raise DataError(f"{error.fact}; {remedy}") from None
        if "" not in found and split not in found:
            raise DataError(
                f"{files.nodes[0]}: holds the splits {format_names(found)} and none for {split}; "
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
