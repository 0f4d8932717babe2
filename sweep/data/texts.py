"""Texts of a file without labels, read as those of the training data are."""

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from sweep.data.columns import check_first_lines, choose_text_columns
from sweep.data.files.readers import read_table
from sweep.data.rows import join_texts
from sweep.errors import DataError


class TextColumns(NamedTuple):
    """A text per row, empty where there is none, and the columns that they are from."""

    texts: list[str]
    names: tuple[str, ...]


def read_texts(
    path: Path, columns: Sequence[str] | None = None, usual: Sequence[str] | None = None
) -> TextColumns:
    """Return the texts of the ``columns`` of a data file; if None, of those called ``usual`` if it
    has them all, else of the one found by name or content. Several are joined by line breaks.

    Raises DataError that names the file and, if a row is damaged, its line.
    """
    table = read_table(path)
    if columns is None and usual and set(usual) <= set(table.columns):
        columns = usual
    if columns is None:
        check_first_lines(table, None)
    names = choose_text_columns(table, columns)
    texts = []
    for number, values in enumerate(zip(*(table.columns[name] for name in names), strict=True)):
        try:
            texts.append(join_texts(values))
        except ValueError as error:
            raise DataError(f"{table.where(number)}: {error}; fix or delete the row") from None
    return TextColumns(texts, names)
