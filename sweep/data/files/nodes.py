"""Files and folders on disk or inside a ZIP archive, as one kind of thing."""

import zipfile
from collections.abc import Iterator
from pathlib import Path

from sweep.data.files.names import find_role, is_data, split_ending
from sweep.errors import DataError, first_line, format_choices

Node = Path | zipfile.Path
ZIP_MAGIC = (b"PK\x03\x04", b"PK\x05\x06")
# Members that only an office file has: these are ZIP archives too.
OFFICE_MEMBERS = ("[Content_Types].xml", "mimetype", "Index/Document.iwa")
DEEPEST = 4


def open_archive(path: Path) -> zipfile.Path | None:
    """Return the root of the ZIP archive ``path``; None if it is none, or an office file.

    Raises DataError if it is damaged.
    """
    if not path.is_file():
        return None
    with path.open("rb") as file:
        if file.read(4) not in ZIP_MAGIC:
            return None
    try:
        archive = zipfile.ZipFile(path)
    except (zipfile.BadZipFile, ValueError, NotImplementedError) as error:
        raise DataError(
            f"{path}: is a damaged ZIP archive ({first_line(error)}); copy or download it again"
        ) from None
    if any(name in archive.namelist() for name in OFFICE_MEMBERS):
        archive.close()
        return None
    return zipfile.Path(archive)


def list_visible(folder: Node) -> list[Node]:
    """Return what ``folder`` holds, by name, without what systems hide or put there themselves."""
    found: list[Node] = [entry for entry in folder.iterdir() if not _is_hidden(entry)]
    return sorted(found, key=lambda entry: entry.name)


def _is_hidden(entry: Node) -> bool:
    # "._train.csv" and "__MACOSX" come from macOS, "_SUCCESS" and "_temporary" from Spark.
    if entry.name.startswith((".", "__")):
        return True
    return entry.name.startswith("_") and (entry.is_dir() or not is_data(entry.name))


def parent_of(node: Node) -> Node:
    """Return the folder that ``node`` stands in."""
    parent: Node = node.parent  # type: ignore[assignment]
    return parent


def list_data(folder: Node) -> list[Node]:
    """Return the data files that stand in ``folder`` itself."""
    return [entry for entry in list_visible(folder) if is_data(entry.name) and entry.is_file()]


def walk_files(folder: Node, deepest: int = DEEPEST) -> Iterator[Node]:
    """Yield the visible files in and below ``folder``."""
    try:
        entries = list_visible(folder)
    except PermissionError:
        return  # what may not be read is no place of the user's data
    for entry in entries:
        if not entry.is_dir():
            yield entry
        elif deepest > 1:
            yield from walk_files(entry, deepest - 1)


def find_only_file(root: zipfile.Path, place: str) -> Node:
    """Return the one data file of an archive; raise DataError naming its files if there are more.

    The only file of an archive that is itself called ``x.csv.zip`` needs no ending.
    """
    files = list(walk_files(root))
    data = [file for file in files if is_data(file.name)]
    if not data and len(files) == 1 and split_ending(Path(place).name)[1] != ".zip":
        return files[0]
    if len(data) == 1:
        return data[0]
    names = format_choices(inner_name(file) for file in data or files)
    if not data:
        raise DataError(
            f"{place}: is a ZIP archive without a data file (it holds: {names}); "
            "put one that ends in .csv, .tsv, .jsonl or .parquet into it"
        )
    raise DataError(
        f"{place}: is a ZIP archive of several data files ({names}); unpack it and name one"
    )


def inner_name(node: Node) -> str:
    """Return the name of a file with its folders inside the archive."""
    return str(getattr(node, "at", node.name))


def is_saved(folder: Node) -> bool:
    """Whether ``Dataset.save_to_disk`` wrote ``folder``; one that may not be read counts as not."""
    try:
        return (folder / "state.json").is_file() and (folder / "dataset_info.json").is_file()
    except PermissionError:
        return False  # such as lost+found, which no one asked for


def holds_data(folder: Node) -> bool:
    """Whether data files stand in ``folder`` itself, or texts and labels side by side."""
    if is_saved(folder) or list_data(folder):
        return True
    return "text" in {find_role(entry.name)[0] for entry in list_visible(folder)}
