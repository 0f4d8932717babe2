"""The texts of a file, in the order of its rows."""

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from sweep.data import TextColumns, read_texts
from sweep.errors import DataError


class Texts(NamedTuple):
    """A text per row, empty where there is none; the columns they are from; a hash of them all."""

    texts: list[str]
    columns: tuple[str, ...]
    fingerprint: str


def load_texts(path: Path, columns: Sequence[str] | None, usual: Sequence[str] | None) -> Texts:
    """Return the texts of the ``columns`` of a data file; if None, of those that the model was
    trained on (``usual``) if it has them, else of the one found as in training.

    Raises DataError that names the file and what to do.
    """
    try:
        found: TextColumns = read_texts(path, columns, usual)
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror}); check the path") from None
    except DataError as error:
        # The reader speaks of the configuration's keys.
        sentence = str(error).replace("data.text_column", "--text-column")
        raise DataError(sentence.replace("data.path and data.splits", "the path")) from None
    digest = hashlib.sha256(repr(found.names).encode())
    for text in found.texts:
        digest.update(f"{len(text)}\n{text}".encode("utf-8", "backslashreplace"))
    return Texts(found.texts, found.names, digest.hexdigest()[:16])
