"""Load a corpus: the Hugging Face Hub, files on disk, or the built-in synthetic one."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from sweep.columns import choose_columns
from sweep.config import DataConfig
from sweep.errors import DataError
from sweep.phrases import first_line, show_names, show_value
from sweep.readers import ENDINGS, Table, build_table, read_table, read_text, split_lines
from sweep.rows import (
    Row,
    SplitSource,
    check_columns,
    check_keys,
    find_names,
    read_rows,
    spell_alike,
)
from sweep.splits import cut_splits
from sweep.synthetic import build_synthetic_corpus

__all__ = ["SPLITS", "Corpus", "Row", "SplitSource", "build_corpus", "load_corpus"]

SPLITS = ("train", "validation", "test")
SPLIT_NAMES = {
    "train": ("train", "training"),
    "validation": ("validation", "dev", "valid", "val"),
    "test": ("test",),
}


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
    spellings: Mapping[str, str] = field(default_factory=dict)
    """Of number labels that files write in several ways (1, 1.0) each other way: its label."""


def load_corpus(config: DataConfig) -> Corpus:
    """Return the corpus that ``config`` names; raise DataError saying what to do when it fails."""
    if config.source == "synthetic":
        splits = build_synthetic_corpus()
        return Corpus({name: [Row(*row) for row in rows] for name, rows in splits.items()})
    if config.source == "hub":
        return build_corpus(load_from_hub(config), config)
    try:
        return load_from_files(config)
    except OSError as error:
        raise DataError(
            f"data.path: {error.filename or config.path} cannot be read ({error.strerror}); "
            "check data.path, data.splits and data.labels_file"
        ) from None


def load_from_files(config: DataConfig) -> Corpus:
    """Return the corpus in a folder (the official layout or one file per split) or one file."""
    folder = Path(config.path or "").expanduser()
    asked = config.splits or config.text_column or config.label_column
    if _is_official(folder) and not (asked or config.columns or config.delimiter):
        return read_official_folder(folder)
    files = find_files(config)
    tables = {
        split: read_table(path, config.quoted, config.delimiter, config.columns)
        for split, path in files.items()
    }
    return build_corpus(tables, config)


def build_corpus(tables: Mapping[str, Table], config: DataConfig) -> Corpus:
    """Return the rows of ``tables`` (split to table), the splits that lack cut from ``train``."""
    check_keys(tables.values(), config)
    columns = choose_columns(tables["train"], config.text_columns, config.label_column)
    names = _read_names(config)
    read = {}
    for split, table in tables.items():
        check_columns(table, columns)
        own = names or find_names(table, tables.values(), columns, config.label_separator)
        read[split] = read_rows(table, columns, own, config.label_separator)
    if not read["train"][1].rows:
        raise DataError(
            f"{tables['train'].place}: has column names and no row below them; add rows"
        )
    if not read["train"][0]:
        texts = " or ".join(map(repr, columns.texts))
        raise DataError(
            f"{tables['train'].place}: has no row with a text in {texts} and a label in "
            f"{columns.label!r}; name other columns in data.text_column and data.label_column"
        )
    sources = {split: source for split, (_, source) in read.items()}
    rows = {split: kept for split, (kept, _) in read.items() if kept}
    spellings = {} if names else spell_alike(rows)
    cut = tuple(split for split in SPLITS if split not in rows)
    return Corpus(_cut_from_training(rows, cut, config), sources, cut, spellings=spellings)


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
    path = _base(config) / Path(config.labels_file).expanduser()
    return _read_name_lines(path, "data.labels_file")


def _read_name_lines(path: Path, key: str) -> list[str]:
    names = [line.strip() for line in split_lines(read_text(path)) if line.strip()]
    if len(set(names)) < max(2, len(names)):
        raise DataError(
            f"{path}: {key} needs two or more different names, one a line; mend the file"
        )
    return names


def _base(config: DataConfig) -> Path:
    """Return the folder that the other files of the configuration stand in."""
    path = Path((config.source == "files" and config.path) or "").expanduser()
    return path.parent if path.suffix.lower() in ENDINGS and not path.is_dir() else path


def find_files(config: DataConfig) -> dict[str, Path]:
    """Return the file of each split: as named in ``config.splits``, else by the usual names.

    Raises DataError when the path does not exist, when no file is for training, and when two
    files could be the same split.
    """
    path, base = Path(config.path or "").expanduser(), _base(config)
    chosen = (config.splits or {}).items()
    named = {str(split): base / Path(file).expanduser() for split, file in chosen}
    if not config.path:
        return named
    if not path.is_dir():
        return {"train": path, **named}
    found = {split: _find_file(path, split) for split in SPLITS if split not in named}
    files = {**{split: file for split, file in found.items() if file}, **named}
    if "train" not in files:
        listed = show_names([f.name for f in _list_files(path)] or ["none of a known kind"])
        raise DataError(
            f"data.path: {path} has no file for training such as train.csv (its files: {listed}); "
            "name one in data.splits.train, or set data.path to a single file"
        )
    return files


def _find_file(folder: Path, split: str) -> Path | None:
    matches = [file for file in _list_files(folder) if file.stem.lower() in SPLIT_NAMES[split]]
    if len(matches) > 1:
        raise DataError(
            f"data.path: {folder} has several files for {split} "
            f"({show_names(file.name for file in matches)}); name one in data.splits.{split}"
        )
    return matches[0] if matches else None


def _list_files(folder: Path) -> list[Path]:
    return sorted(file for file in folder.iterdir() if file.suffix.lower() in ENDINGS)


def _is_official(folder: Path) -> bool:
    return (folder / "emotions.txt").is_file() and (folder / "train.tsv").is_file()


def read_official_folder(folder: Path) -> Corpus:
    """Return the corpus of a folder laid out like the official GoEmotions files.

    ``train.tsv``, ``dev.tsv`` and ``test.tsv`` hold ``text <TAB> label indices <TAB> id`` without
    header or quoting; ``emotions.txt`` holds one label name a line (Demszky et al. 2020,
    https://github.com/google-research/google-research/tree/master/goemotions).
    """
    names = _read_name_lines(folder / "emotions.txt", "the official layout")
    files = {"train": "train.tsv", "validation": "dev.tsv", "test": "test.tsv"}
    read = {split: _read_official_file(folder / file, names) for split, file in files.items()}
    kept = {split: [row for row in rows if row.text.strip()] for split, rows in read.items()}
    sources = {
        split: SplitSource(
            (str(folder / files[split]),),
            ("text",),
            "labels",
            len(rows),
            without_text=len(rows) - len(kept[split]),
        )
        for split, rows in read.items()
    }
    return Corpus(kept, sources)


def _read_official_file(path: Path, names: list[str]) -> list[Row]:
    rows = []
    for number, line in enumerate(split_lines(read_text(path)), start=1):
        if not line:
            continue
        fields = line.split("\t")
        try:
            labels = tuple(dict.fromkeys(names[_index(part)] for part in fields[1].split(",")))
        except (IndexError, ValueError):
            raise DataError(
                f"{path}: line {number} is not 'text <TAB> label indices <TAB> id' with indices "
                f"from 0 to {len(names) - 1}; mend or delete it"
            ) from None
        rows.append(Row(fields[0], labels))
    return rows


def _index(text: str) -> int:
    value = int(text)
    if value < 0:
        raise ValueError(text)
    return value


def load_from_hub(config: DataConfig) -> dict[str, Table]:
    """Load the splits of the dataset ``config.path`` at ``config.revision`` from the Hub."""
    from datasets import load_dataset  # slow to import, and only the Hub needs it

    try:
        dataset = load_dataset(config.path, config.config, revision=config.revision)
    except Exception as error:  # the library raises a dozen kinds for one cause
        raise DataError(
            f"data.path: the dataset {show_value(config.path)} cannot be loaded from the Hugging "
            f"Face Hub ({first_line(error)}); check the name and the network, or use "
            "data.source=files"
        ) from error
    names = {split: _find_hub_split(dataset, split, config) for split in SPLITS}
    return {
        split: build_table(
            f"{config.path} (split {name})",
            dataset[name].with_format("arrow")[:],
            dataset[name].features.arrow_schema,
        )
        for split, name in names.items()
        if name
    }


def _find_hub_split(dataset: Any, split: str, config: DataConfig) -> str | None:
    """Return the name of ``split`` in ``dataset``; None if it has to be cut from training."""
    wanted = (config.splits or {}).get(split)  # type: ignore[call-overload]
    usual = SPLIT_NAMES[split]
    name = next((name for name in ((wanted,) if wanted else usual) if name in dataset), None)
    if name is None and (wanted or split == "train"):
        raise DataError(
            f"data.splits: {config.path!r} has the splits {', '.join(dataset)} and none named "
            f"{wanted or ' or '.join(usual)}; name one of these in data.splits.{split}"
        )
    return name
