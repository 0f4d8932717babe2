"""Load a corpus: the Hugging Face Hub, files on disk, or the built-in synthetic one."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sweep.config import DataConfig
from sweep.errors import DataError
from sweep.synthetic import build_synthetic_corpus

SPLITS = ("train", "validation", "test")
SPLIT_NAMES = {
    "train": ("train", "training"),
    "validation": ("validation", "dev", "valid", "val"),
    "test": ("test",),
}


@dataclass(frozen=True, slots=True)
class Row:
    """One text and the names of its labels."""

    text: str
    labels: tuple[str, ...]


@dataclass(frozen=True)
class Corpus:
    """The rows of each split (train, validation, test), in file order."""

    splits: dict[str, list[Row]]


def load_corpus(config: DataConfig) -> Corpus:
    """Return the corpus that ``config`` names; raise DataError saying what to do when it fails."""
    if config.source == "synthetic":
        splits = build_synthetic_corpus()
        return Corpus({name: [Row(*row) for row in rows] for name, rows in splits.items()})
    if config.source == "files":
        return Corpus(read_official_folder(Path(config.path or "").expanduser()))
    return Corpus(load_from_hub(config))


def read_official_folder(folder: Path) -> dict[str, list[Row]]:
    """Read a folder laid out like the official GoEmotions files.

    ``train.tsv``, ``dev.tsv`` and ``test.tsv`` hold ``text <TAB> label indices <TAB> id`` without
    header or quoting; ``emotions.txt`` holds one label name a line (Demszky et al. 2020,
    https://github.com/google-research/google-research/tree/master/goemotions).
    """
    names = _read_lines(folder / "emotions.txt")
    files = {"train": "train.tsv", "validation": "dev.tsv", "test": "test.tsv"}
    return {split: _read_official_file(folder / file, names) for split, file in files.items()}


def _read_lines(path: Path) -> list[str]:
    try:
        # Only \n ends a row: the texts hold other characters that splitlines() would cut at.
        lines = path.read_text(encoding="utf-8").replace("\r\n", "\n").split("\n")
    except OSError as error:
        raise DataError(
            f"{path}: cannot be read ({error.strerror}); data.path must be a folder with "
            "train.tsv, dev.tsv, test.tsv and emotions.txt"
        ) from None
    except UnicodeDecodeError as error:
        raise DataError(f"{path}: is not UTF-8 text (byte {error.start}); convert it") from None
    return [line for line in lines if line]


def _read_official_file(path: Path, names: list[str]) -> list[Row]:
    rows = []
    for number, line in enumerate(_read_lines(path), start=1):
        fields = line.split("\t")
        try:
            labels = tuple(names[_index(part)] for part in fields[1].split(","))
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


def load_from_hub(config: DataConfig) -> dict[str, list[Row]]:
    """Load the dataset ``config.path`` at ``config.revision`` with the ``datasets`` library."""
    from datasets import load_dataset  # slow to import, and only the Hub needs it

    try:
        dataset = load_dataset(config.path, config.config, revision=config.revision)
    except Exception as error:  # the library raises a dozen kinds for one cause
        raise DataError(
            f"data.path: the dataset {config.path!r} cannot be loaded from the Hugging Face Hub "
            f"({_first_line(error)}); check the name and the network, or use data.source=files"
        ) from error
    return {split: _read_hub_split(dataset, split, config) for split in SPLITS}


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0][:200]


def _read_hub_split(dataset: Any, split: str, config: DataConfig) -> list[Row]:
    wanted = (config.splits or {}).get(split)  # type: ignore[call-overload]
    name = next((n for n in ((wanted,) if wanted else SPLIT_NAMES[split]) if n in dataset), None)
    if name is None:
        raise DataError(
            f"data.splits: {config.path!r} has the splits {', '.join(dataset)} and none for "
            f"{split}; name it with data.splits.{split}"
        )
    table = dataset[name]
    text = _find_column(table.column_names, config.text_column, ("text", "sentence", "content"))
    label = _find_column(table.column_names, config.label_column, ("labels", "label", "emotion"))
    names = _class_names(table.features[label])
    return [
        Row(str(value), _label_names(labels, names))
        for value, labels in zip(table[text], table[label], strict=True)
    ]


def _find_column(columns: list[str], wanted: str | None, usual: tuple[str, ...]) -> str:
    found = next((name for name in ((wanted,) if wanted else usual) if name in columns), None)
    if found is None:
        key = "text_column" if "text" in usual else "label_column"
        raise DataError(
            f"data.{key}: no column {wanted or ' or '.join(usual)} among {', '.join(columns)}; "
            f"name one of these"
        )
    return found


def _class_names(feature: Any) -> list[str] | None:
    inner = getattr(feature, "feature", feature)
    return getattr(inner, "names", None)


def _label_names(value: Any, names: list[str] | None) -> tuple[str, ...]:
    values = value if isinstance(value, list | tuple) else [value]
    return tuple(names[int(v)] if names else str(v) for v in values)
