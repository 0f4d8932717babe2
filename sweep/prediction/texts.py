"""The texts of a file, in the order of its rows."""

import hashlib
import re
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from sweep.data import TextColumns, read_texts
from sweep.errors import DataError

# The reader speaks of the configuration's keys, of which this command has one.
REMEDIES = {
    r"set data\.columns=\[.*?\](?: to a name for each column)?, or add (.*?) \(if it .*\)": (
        r"add \1, or, if it is one already, name the texts' with --text-column"
    ),
    r"set data\.encoding=\S+, or convert": "convert",
    r", or set data\.encoding to what it is": "",
    r", or set data\.quoted=false if .*": "",
    r"name what does in data\.delimiter": "use one of these",
    r"set data\.path to this file alone": "put the texts to be labeled into a file of their own",
    r"put texts into train_text\.txt .*": "put the texts below a column name into a .tsv file",
    r"set data\.path to the folder": "name a file in the folder",
    r"data\.path and data\.splits": "the path",
    r"data\.text_column": "--text-column",
}


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
        sentence = str(error)
        for said, here in REMEDIES.items():
            sentence = re.sub(said, here, sentence)
        raise DataError(sentence) from None
    digest = hashlib.sha256(repr(found.names).encode())
    for text in found.texts:
        digest.update(f"{len(text)}\n{text}".encode("utf-8", "backslashreplace"))
    return Texts(found.texts, found.names, digest.hexdigest()[:16])
