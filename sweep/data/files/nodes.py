"""Files and folders, on disk or inside a ZIP archive alike."""

import zipfile
from collections.abc import Iterator
from pathlib import Path

from sweep.data.files.names import find_role, is_data, split_ending
from sweep.errors import DataError, first_line, format_choices

Node = Path | zipfile.Path
ZIP_MAGIC = (b"PK\x03\x04", b"PK\x05\x06")
# Members that tell an office file, which is a ZIP archive too.
OFFICE_MEMBERS = ("[Content_Types].xml", "mimetype", "Index/Document.iwa")
MAX_DEPTH = 4


def open_archive(path: Path) -> zipfile.Path | None:
    """Return the root of the ZIP archive ``path``, or None if it is not one or an office file.

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
    """Return the sorted contents of ``folder``, without what operating systems and tools hide."""
    found: list[Node] = [entry for entry in folder.iterdir() if not _is_hidden(entry)]
    return sorted(found, key=lambda entry: entry.name)


def _is_hidden(entry: Node) -> bool:
    # "._train.csv" and "__MACOSX" come from macOS, "_SUCCESS" and "_temporary" from Spark.
    if entry.name.startswith((".", "__")):
        return True
    return entry.name.startswith("_") and (entry.is_dir() or not is_data(entry.name))


def parent_of(node: Node) -> Node:
    parent: Node = node.parent  # type: ignore[assignment]
    return parent


def list_data(folder: Node) -> list[Node]:
    """Return the data files directly in ``folder``."""
    return [entry for entry in list_visible(folder) if is_data(entry.name) and entry.is_file()]


def walk_files(folder: Node, max_depth: int = MAX_DEPTH) -> Iterator[Node]:
    """Yield the visible files in and below ``folder``."""
    try:
        entries = list_visible(folder)
    except PermissionError:
        return  # the user's data are not in a folder that the user cannot read
    for entry in entries:
        if not entry.is_dir():
            yield entry
        elif max_depth > 1:
            yield from walk_files(entry, max_depth - 1)


def find_only_file(root: zipfile.Path, location: str) -> Node:
    """Return the only data file of an archive; raise DataError that lists its files if it has more.

    The only file of an archive called ``x.csv.zip`` needs no ending of its own.
    """
    files = list(walk_files(root))
    data = [file for file in files if is_data(file.name)]
    if not data and len(files) == 1 and split_ending(Path(location).name)[1] != ".zip":
        return files[0]
    if len(data) == 1:
        return data[0]
    names = format_choices(inner_name(file) for file in data or files)
    if not data:
        raise DataError(
            f"{location}: is a ZIP archive without a data file (it holds: {names}); "
            "add one that ends in .csv, .tsv, .jsonl or .parquet"
        )
    raise DataError(
        f"{location}: is a ZIP archive of several data files ({names}); unpack it and name one"
    )


def inner_name(node: Node) -> str:
    """Return the path of a file inside its archive."""
    return str(getattr(node, "at", node.name))


def is_saved(folder: Node) -> bool:
    """Return whether ``Dataset.save_to_disk`` wrote ``folder``; an unreadable one counts as not."""
    try:
        return (folder / "state.json").is_file() and (folder / "dataset_info.json").is_file()
    except PermissionError:
        return False  # such as lost+found


def holds_data(folder: Node) -> bool:
    """Return whether ``folder`` directly holds data files, or texts and labels side by side."""
    if is_saved(folder) or list_data(folder):
        return True
    return "text" in {find_role(entry.name)[0] for entry in list_visible(folder)}
