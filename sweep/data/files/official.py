"""The official GoEmotions files: text, label indices and id between tabs, without quotes or a line
of names, and one label name a line in ``emotions.txt`` (Demszky et al. 2020,
https://github.com/google-research/google-research/tree/master/goemotions)."""

import re
from collections.abc import Mapping, Sequence
from pathlib import Path

from sweep.config import DataConfig
from sweep.data.files.names import find_kind, split_ending
from sweep.data.files.nodes import Node, parent_of
from sweep.data.files.raw_bytes import read_text
from sweep.data.files.readers import split_lines
from sweep.data.files.split import SplitFiles
from sweep.data.files.table import Table
from sweep.errors import DataError, format_split_remedy

FILES = {"train": "train.tsv", "validation": "dev.tsv", "test": "test.tsv"}
NAMES_FILE = "emotions.txt"
# How a row begins: a file with a line of names may be called train.tsv, too.
ROW = re.compile(r"[^\t]*\t[0-9]+(,[0-9]+)*(\t|$)")


def name_official_files(config: DataConfig) -> DataConfig:
    """Return ``config`` with the official files named in ``splits``, where ``path`` is their folder
    and nothing else is asked for; else ``config`` itself."""
    chosen = config.splits or {}
    if _says_otherwise(config) or any(chosen.values()) or not _is_official_folder(config.path):
        return config
    return config.model_copy(update={"splits": {**FILES, **chosen}})


def _is_official_folder(path: str | None) -> bool:
    folder = Path(path or "").expanduser()
    try:
        return (folder / NAMES_FILE).is_file() and (folder / FILES["train"]).is_file()
    except PermissionError:
        return False  # looking into the folder tells


def check_files(splits: Mapping[str, SplitFiles]) -> None:
    """Raise DataError if the file of a split is not there."""
    for split, files in splits.items():
        if not files.nodes[0].exists():
            raise DataError(
                f"{files.nodes[0]}: cannot be read (No such file or directory); put it there, or "
                f"{format_split_remedy(split)}"
            )


def find_official_names(splits: Mapping[str, SplitFiles], config: DataConfig) -> Node | None:
    """Return the file of label names, if ``splits`` are official files; else None."""
    nodes = [node for files in splits.values() for node in files.nodes]
    train = splits["train"].nodes[0]
    names: Node = parent_of(train) / NAMES_FILE
    alone = len(nodes) == len(splits) and all(find_kind(node.name) == ".tsv" for node in nodes)
    official = alone and split_ending(train.name)[0] == "train" and names.is_file()
    if not official or _says_otherwise(config) or not train.is_file():
        return None
    first = split_lines(read_text(train, config.encoding))[0]
    return names if ROW.match(first) else None


def _says_otherwise(config: DataConfig) -> bool:
    return bool(
        config.text_column or config.label_column or config.columns is not None or config.delimiter
    )


def read_official(node: Node, names: Sequence[str], encoding: str | None = None) -> Table:
    """Return the table of one official file; raise DataError with the line that is damaged."""
    columns: dict[str, list[object]] = {"text": [], "labels": []}
    lines = []
    for number, line in enumerate(split_lines(read_text(node, encoding)), start=1):
        if not line:
            continue
        text, _, rest = line.partition("\t")
        try:
            labels = [names[_read_index(part)] for part in rest.split("\t")[0].split(",")]
        except (IndexError, ValueError):
            raise DataError(
                f"{node}: line {number} is not 'text <TAB> label indices <TAB> id' with indices "
                f"from 0 to {len(names) - 1}; fix or delete it"
            ) from None
        columns["text"].append(text)
        columns["labels"].append(labels)
        lines.append(number)
    return Table(str(node), columns, lines, delimiter="\t")


def _read_index(text: str) -> int:
    value = int(text)
    if value < 0:
        raise ValueError(text)
    return value
