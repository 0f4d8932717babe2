"""The files that the configuration names, and where they stand."""

import zipfile
from fnmatch import fnmatchcase
from glob import glob, has_magic
from pathlib import Path

from sweep.config import DataConfig
from sweep.data.files.names import is_data
from sweep.data.files.nodes import Node, inner_name, open_archive, walk_files
from sweep.data.files.split import SplitFiles, expand, is_split_folder
from sweep.errors import DataError

# How far below data.path a folder with a training file is looked for, if it has none itself.
DEEPEST = 2


def open_root(path: str) -> Node | None:
    """Return the folder, file or archive at ``path`` (of an archive with one data file that
    file); None if ``path`` is a pattern such as ``data/*.csv``."""
    plain = Path(path).expanduser()
    if has_magic(path) and not plain.exists():
        return None
    archive = open_archive(plain)
    if archive is None:
        return plain
    files = [file for file in walk_files(archive) if is_data(file.name)]
    return files[0] if len(files) == 1 else archive


def list_matches(base: Path, pattern: str, key: str) -> list[Node]:
    """Return the data files and split folders that fit ``pattern`` in the folder ``base``; raise
    DataError if none does."""
    paths = _glob(base, pattern)
    found: list[Node] = [path for path in paths if path.is_dir() or is_data(path.name)]
    found = [node for node in found if not node.is_dir() or is_split_folder(node)]
    if not found:
        raise DataError(f"{key}: no data file fits the pattern {base / pattern}; check it")
    return found


def _glob(base: Path, pattern: str) -> list[Path]:
    found = glob(pattern, root_dir=base, recursive=True)  # noqa: PTH207
    if not found:
        # Errors name files as they stand in their folder, which may lie below data.path.
        found = glob(f"**/{pattern}", root_dir=base, recursive=True)  # noqa: PTH207
        found = found if len({Path(name).parent for name in found}) == 1 else []
    return [base / name for name in sorted(found)]


def find_named(config: DataConfig, split: str, name: str) -> SplitFiles:
    """Return the files that ``data.splits`` names for ``split``: a file, a folder or a pattern."""
    node = resolve(config, name)
    if node.exists() or not has_magic(name):
        return expand(node, split)
    base, *beside = _list_bases(config)
    if isinstance(base, zipfile.Path):
        inside = [n for n in walk_files(base) if fnmatchcase(inner_name(n), name)]
        if inside:
            return SplitFiles(tuple(inside))
    folder = next(place for place in (base, *beside) if isinstance(place, Path))
    pattern = str(Path(name).expanduser())
    return SplitFiles(tuple(list_matches(folder, pattern, f"data.splits.{split}")))


def resolve(config: DataConfig, name: str) -> Node:
    """Return the file called ``name`` in ``config``: in ``config.path`` or beside that file, else
    the only one of that name in the folders below."""
    path = Path(name).expanduser()
    if path.is_absolute():
        return path
    # Of an archive the members are named as they stand there, "~" and all.
    places = [
        base / path if isinstance(base, Path) else base / name for base in _list_bases(config)
    ]
    there = next((place for place in places if place.exists()), None)
    if there is not None or not config.path:
        return there or places[-1]
    folder = _list_bases(config)[0]
    below = [file for file in walk_files(folder, DEEPEST + 1) if file.name == name]
    return below[0] if len(below) == 1 else places[-1]


def _list_bases(config: DataConfig) -> list[Node]:
    """Return where the other files of the configuration stand: the folder of the data; or their
    archive, and the folder that the archive is in."""
    if config.source != "files" or not config.path:
        return [Path()]
    path = Path(config.path).expanduser()
    if path.is_dir():
        return [path]
    archive = open_archive(path)
    if archive is not None:
        return [archive, path.parent]
    while has_magic(path.name) and not path.is_dir():
        path = path.parent
    return [path if path.is_dir() or not path.suffix else path.parent]
