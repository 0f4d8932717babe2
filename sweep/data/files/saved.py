"""Folders that ``save_to_disk`` of the ``datasets`` library wrote."""

import json
from pathlib import Path

from sweep.data.files.arrow import build_table
from sweep.data.files.nodes import Node
from sweep.data.files.table import Table
from sweep.errors import DataError, first_line


def read_saved(folder: Node) -> Table:
    if not isinstance(folder, Path):
        raise DataError(
            f"{str(folder).rstrip('/')}: is a dataset saved to disk inside an archive; unpack it "
            "and set data.path to the folder"
        )
    from datasets import load_from_disk  # slow to import, and only such folders need it

    try:
        dataset = load_from_disk(str(folder))
        table = build_table(
            str(folder), dataset.with_format("arrow")[:], dataset.features.arrow_schema
        )
    except DataError:
        raise
    except Exception as error:  # the library raises a dozen kinds for one cause
        raise DataError(
            f"{folder}: cannot be loaded as a dataset saved to disk ({first_line(error)}); save "
            "it again, or write it as Parquet"
        ) from error
    files = tuple(str(folder / name) for name in _list_shards(folder))
    return Table(
        table.location,
        table.columns,
        class_names=table.class_names,
        unreadable=table.unreadable,
        files=files,
    )


def _list_shards(folder: Path) -> list[str]:
    state = json.loads((folder / "state.json").read_text(encoding="utf-8"))
    return [part["filename"] for part in state["_data_files"]]


def check_saved_splits(folder: Node) -> None:
    """Raise DataError if ``folder`` is a saved DatasetDict that lacks one of its splits."""
    path = folder / "dataset_dict.json"
    if not path.is_file():
        return
    try:
        names = [str(name) for name in json.loads(path.read_text(encoding="utf-8"))["splits"]]
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise DataError(
            f"{path}: cannot be read as the list of splits ({first_line(error)}); save the "
            "dataset again"
        ) from None
    gone = next((name for name in names if not (folder / name).is_dir()), None)
    if gone is not None:
        raise DataError(f"{path}: names the split {gone}, which does not exist; save it again")
