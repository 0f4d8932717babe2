"""Which files hold which split: in a folder, an archive, a pattern, or as the user names them."""

import zipfile
from collections.abc import Collection, Iterable
from dataclasses import dataclass, field, replace
from pathlib import Path

from sweep.config import DataConfig
from sweep.data.files.groups import Group, choose_group, find_foreign, sort_entries
from sweep.data.files.named import MAX_DEPTH, find_named, list_matches, open_root
from sweep.data.files.names import SPLITS, find_kind, find_role, find_split_of, is_data, parse_name
from sweep.data.files.nodes import (
    Node,
    is_saved,
    list_data,
    list_visible,
    open_archive,
    parent_of,
    walk_files,
)
from sweep.data.files.readers import read_tables
from sweep.data.files.saved import check_saved_splits
from sweep.data.files.split import (
    SplitFiles,
    check_kinds,
    expand,
    expand_group,
    is_split_folder,
    is_table_folder,
)
from sweep.errors import DataError, format_choices

# How training files were recognized, the surest way first: by name, as parts of one table, or by a
# name whose ending is not supported (which is then refused with the reason).
NAMED, PARTS, FOREIGN = range(3)
# A JSON file larger than this (in bytes) counts as data without a look inside.
MAX_SETTING_BYTES = 1_000_000


@dataclass(frozen=True)
class FileLayout:
    """The files of each split, and where they were found."""

    splits: dict[str, SplitFiles] = field(default_factory=dict)
    # The folders that were searched, and files outside of them that were considered.
    folders: tuple[Node, ...] = ()
    beside: tuple[Node, ...] = ()
    # How the training files were recognized.
    rank: int = NAMED

    def list_unused(self, others: Iterable[Node] = ()) -> tuple[str, ...]:
        """Return the data files that neither a split uses nor ``others`` names."""
        own = [files.folder for files in self.splits.values() if files.folder]
        nodes = [node for files in self.splits.values() for node in files.nodes]
        parents = {str(parent_of(node)).rstrip("/") for node in nodes}
        found = [node for folder in (*self.folders, *own) for node in _list_candidates(folder)]
        # Of a folder that holds a used file, list the other files, not the folder.
        inner = [n for n in found if str(n).rstrip("/") in parents and n.is_dir()]
        found += [node for folder in inner for node in _list_candidates(folder)]
        used_nodes = (*nodes, *self.folders, *own, *inner, *others)
        used = {str(node).rstrip("/") for node in used_nodes}
        names = dict.fromkeys(str(node) for node in (*found, *self.beside))
        return tuple(name for name in names if name.rstrip("/") not in used)


def _list_candidates(folder: Node) -> list[Node]:
    if is_saved(folder):
        return []
    entries = list_visible(folder)
    texts = [node for node in entries if find_role(node.name)[1][0] and node.is_file()]
    folders = [node for node in entries if node.is_dir() and is_split_folder(node)]
    data = [node for node in list_data(folder) if not _is_setting(node)]
    return [*data, *texts, *folders, *find_foreign(entries)]


def _is_setting(node: Node) -> bool:
    """Return whether ``node`` is a JSON file without rows, such as a list of label names."""
    if find_kind(node.name) != ".json" or find_split_of(node.name):
        return False
    if isinstance(node, Path) and node.stat().st_size > MAX_SETTING_BYTES:
        return False
    try:
        return all(table.n_rows < 2 for table in read_tables(node).values())
    except DataError:
        return True


def find_layout(config: DataConfig) -> FileLayout:
    """Return the files of each split: those named in ``config.splits`` (None: there is none), else
    those with the usual names in the folder, archive or pattern ``config.path``.

    Raises DataError if a path does not exist, no file is for training, several files could be the
    same split, or shards are missing.
    """
    chosen = {str(split): name for split, name in (config.splits or {}).items()}
    named = {
        split: find_named(config, split, name) for split, name in chosen.items() if name is not None
    }
    free = [split for split in SPLITS if split not in chosen]
    if not config.path:
        return FileLayout(named)
    # All splits may share one mapping of labels.
    shared = {files.pair.mapping for files in named.values() if files.pair}
    taken = {
        str(node)
        for files in named.values()
        for node in (*files.nodes, files.folder)
        if node not in shared
    }
    found = _look(config.path, free, taken)
    if "train" in named and not found.splits:
        found = _look_beside(named["train"], found, free, taken)
    layout = FileLayout({**found.splits, **named}, found.folders, found.beside)
    if "train" not in layout.splits:
        raise DataError(_explain_missing(config.path, found))
    return layout


def _look(path: str, free: Collection[str], taken: Collection[str]) -> FileLayout:
    root = open_root(path)
    if root is None:
        return _look_by_pattern(path, free, taken)
    if not root.is_dir():
        parent = parent_of(root)
        beside = list_visible(parent) if parent.is_dir() else []
        files = {"train": expand(root, "train")} if "train" in free else {}
        return FileLayout(files, beside=tuple(n for n in beside if _could_be_split(n)))
    return _look_in_folder(root, free, taken, MAX_DEPTH)


def _look_beside(
    train: SplitFiles, found: FileLayout, free: Collection[str], taken: Collection[str]
) -> FileLayout:
    """Return the splits beside training files that ``data.splits`` names below ``data.path``."""
    folder = parent_of(train.folder or train.nodes[0])
    root = found.folders[0] if found.folders else None
    if root is None or not str(folder).startswith(f"{str(root).rstrip('/')}/"):
        return found
    layout = _look_in_folder(folder, free, taken, 0)
    return replace(layout, folders=(root, *layout.folders))


def _could_be_split(node: Node) -> bool:
    known = is_data(node.name) or find_role(node.name)[0]
    return bool(known and find_split_of(node.name)) and node.is_file()


def _look_by_pattern(path: str, free: Collection[str], taken: Collection[str]) -> FileLayout:
    entries = list_matches(Path(), str(Path(path).expanduser()), "data.path")
    splits = _sort(entries, path, free, taken)
    if not splits and "train" in free and not any(parse_name(n.name).split for n in entries):
        splits = {"train": SplitFiles(check_kinds(Path(path), entries, entries))}
    return FileLayout(splits, beside=tuple(entries))


def _look_in_folder(
    folder: Node, free: Collection[str], taken: Collection[str], depth: int
) -> FileLayout:
    entries = list_visible(folder)
    if is_saved(folder) and "train" in free:
        return FileLayout({"train": SplitFiles((folder,))}, (folder,))
    check_saved_splits(folder)
    splits = _sort(entries, str(folder), free, taken)
    if splits or "train" not in free:
        return FileLayout(splits, (folder,))
    below = _look_below(entries, free, taken, depth) if depth else []
    if len(below) > 1:
        names = format_choices(layout.folders[-1].name for layout in below)
        raise DataError(
            f"data.path: {folder} has no training file itself, but several of its folders have "
            f"one ({names}); {_choose_folder(folder)}"
        )
    if below:
        return replace(below[0], folders=(folder, *below[0].folders))
    if is_table_folder(folder):
        return FileLayout({"train": expand(folder, "train")}, (folder,), rank=PARTS)
    files = list_data(folder)
    if len(files) == 1 and _holds_splits(files[0]):
        return FileLayout({"train": SplitFiles((files[0],))}, (folder,))
    foreign = [*find_foreign(entries, "train"), *_list_empty_folders(entries)]
    if foreign:
        return FileLayout({"train": expand(foreign[0], "train")}, (folder,), rank=FOREIGN)
    return FileLayout(folders=(folder,))


def _look_below(
    entries: Iterable[Node], free: Collection[str], taken: Collection[str], depth: int
) -> list[FileLayout]:
    """Return the best-ranked of the layouts with a training file below a folder."""
    found = []
    for folder in _list_folders(entries):
        try:
            layout = _look_in_folder(folder, free, taken, depth - 1)
        except PermissionError:
            continue  # the user's data are not in a folder that the user cannot read
        if "train" in layout.splits:
            found.append(layout)
    return [layout for layout in found if layout.rank == min(other.rank for other in found)]


def _list_folders(entries: Iterable[Node]) -> list[Node]:
    """Return the folders that are not splits themselves, or, without any, the ZIP archives."""
    entries = list(entries)
    folders = [entry for entry in entries if entry.is_dir() and not _is_split_name(entry)]
    if folders:
        return folders
    archives = [open_archive(entry) for entry in entries if isinstance(entry, Path)]
    return [archive for archive in archives if archive is not None]


def _is_split_name(node: Node) -> bool:
    name = parse_name(node.name)
    return bool(name.split) and not name.rest


def _list_empty_folders(entries: Iterable[Node]) -> list[Node]:
    folders = [entry for entry in entries if entry.is_dir() and _is_split_name(entry)]
    return [folder for folder in folders if parse_name(folder.name).split == "train"]


def _holds_splits(node: Node) -> bool:
    """Return whether ``node`` is a JSON file with its rows below the names of splits."""
    if find_kind(node.name) not in (".json", ".jsonl"):
        return False
    try:
        return "train" in read_tables(node)
    except DataError:
        return False  # reported once the user names the file


def _choose_folder(folder: Node) -> str:
    if isinstance(folder, zipfile.Path):
        return "name the files in data.splits, or unpack it and set data.path to one of them"
    return "set data.path to one of them, or name the files inside in data.splits"


def _sort(
    entries: Iterable[Node], location: str, free: Collection[str], taken: Collection[str]
) -> dict[str, SplitFiles]:
    """Return the files of each free split by name; nothing if training is free but not found."""
    entries = list(entries)
    groups = sort_entries(entry for entry in entries if str(entry) not in taken)
    rest: tuple[str, ...] = ()
    if "train" in free:
        # A JSON file may hold the split that it is named for as well as the training split.
        groups["train"] = sort_entries(entries).get("train", [])
        train = choose_group(groups, "train", location, None)
        if train is None:
            return {}
        rest = train.rest
    chosen: dict[str, Group | None] = {
        split: choose_group(groups, split, location, rest) for split in free
    }
    missing = [split for split in ("validation", "test") if chosen.get(split, groups) is None]
    if missing:
        chosen[missing[0]] = choose_group(groups, "evaluation", location, rest)
    return {split: expand_group(group, split) for split, group in chosen.items() if group}


def _list_below(folder: Node) -> list[str]:
    """Return the data files below ``folder`` by the names that ``data.splits`` takes."""
    files = [node for node in walk_files(folder, MAX_DEPTH + 1) if is_data(node.name)]
    return [str(node).removeprefix(str(folder)).lstrip("/") for node in files]


def _explain_missing(path: str, layout: FileLayout) -> str:
    files = [node.name for folder in layout.folders for node in list_data(folder)]
    files = files or [node.name for node in layout.beside]
    files = files or [name for folder in layout.folders for name in _list_below(folder)]
    listed = format_choices(files or ["none of a known kind"])
    return (
        f"data.path: {path} has no training file such as train.csv (its files: {listed}); "
        "name one in data.splits.train, or set data.path to a single file"
    )
