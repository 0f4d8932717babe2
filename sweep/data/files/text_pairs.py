"""Texts and labels side by side in two plain files, line by line, as TweetEval has them."""

from dataclasses import dataclass

from sweep.data.files.nodes import Node
from sweep.data.files.raw_bytes import read_text
from sweep.data.files.table import Table
from sweep.errors import DataError, format_value


@dataclass(frozen=True)
class TextPair:
    """The files of one split."""

    texts: Node
    labels: Node | None = None
    """None: the split has no labels."""
    mapping: Node | None = None
    """Which name each label stands for: lines such as ``0 <TAB> anger``."""


def read_pair(pair: TextPair, encoding: str | None = None) -> Table:
    """Return the table of texts and labels, paired by line.

    Raises DataError if the files differ in length, or if a label is not in the mapping.
    """
    place = str(pair.texts)
    texts = read_lines(pair.texts, encoding)
    lines = list(range(1, len(texts) + 1))
    if pair.labels is None:
        return Table(place, {"text": texts}, lines)
    labels = read_lines(pair.labels, encoding)
    if len(texts) != len(labels):
        raise DataError(
            f"{place}: has {len(texts)} lines, but {pair.labels} has {len(labels)}; give each "
            "text one label, line by line"
        )
    files = tuple(str(node) for node in (pair.texts, pair.labels, pair.mapping) if node)
    if pair.mapping is not None:
        labels = _rename(pair, labels, read_mapping(pair.mapping, encoding))
    return Table(place, {"text": texts, "label": labels}, lines, files=files)


def _rename(pair: TextPair, labels: list[str], names: dict[str, str]) -> list[str]:
    for number, label in enumerate(labels, start=1):
        if label.strip() and label.strip() not in names:
            raise DataError(
                f"{pair.labels}: line {number} holds {format_value(label)}, which {pair.mapping} "
                "does not name; add it there, or move that file away"
            )
    return [names.get(label.strip(), "") for label in labels]


def read_mapping(path: Node, encoding: str | None = None) -> dict[str, str]:
    """Return the label that each number stands for; raise DataError if a line names none."""
    names: dict[str, str] = {}
    for number, line in enumerate(read_lines(path, encoding), start=1):
        fields = line.split("\t") if "\t" in line else line.split(maxsplit=1)
        if not fields:
            continue
        key, name = fields[0].strip(), fields[1].strip() if len(fields) > 1 else ""
        if not key.isdecimal() or not name or key in names:
            raise DataError(
                f"{path}: line {number} is not a new number and its label, such as '0 <TAB> "
                "anger'; fix it, or move the file away"
            )
        names[key] = name
    return names


def read_lines(path: Node, encoding: str | None = None) -> list[str]:
    """Return the lines of a plain text file; only a line feed ends one."""
    lines = read_text(path, encoding).replace("\r\n", "\n").split("\n")
    return lines if lines[-1] else lines[:-1]
