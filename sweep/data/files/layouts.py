"""Which files hold which split: in a folder, an archive, a pattern, or as the user names them."""

import zipfile
from collections.abc import Collection, Iterable
from dataclasses import dataclass, field, replace
from pathlib import Path

from sweep.config import DataConfig
from sweep.data.files.groups import Group, choose_group, find_foreign, sort_entries
from sweep.data.files.named import DEEPEST, find_named, list_matches, open_root
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

# How files for training were told: by name; as parts of one table; by a name whose ending is not
# read, which is refused with the reason.
NAMED, PARTS, FOREIGN = range(3)
# Bytes that a JSON file without rows may have; a larger one is not read to find out.
LARGEST_SETTING = 1_000_000


@dataclass(frozen=True)
class FileLayout:
    """The files of each split, and where they were looked for."""

    splits: dict[str, SplitFiles] = field(default_factory=dict)
    folders: tuple[Node, ...] = ()
    """The folders that were looked through."""
    beside: tuple[Node, ...] = ()
    """Files that were looked at outside of those folders."""
    rank: int = NAMED
    """How sure it is that the files are for training."""

    def list_unused(self, others: Iterable[Node] = ()) -> tuple[str, ...]:
        """Return the data files that neither a split uses nor ``others`` names."""
        own = [files.folder for files in self.splits.values() if files.folder]
        nodes = [node for files in self.splits.values() for node in files.nodes]
        parents = {str(parent_of(node)).rstrip("/") for node in nodes}
        found = [node for folder in (*self.folders, *own) for node in _list_candidates(folder)]
        # Of a folder that holds a used file, the others are told, not the folder.
        inner = [n for n in found if str(n).rstrip("/") in parents and n.is_dir()]
        found += [node for folder in inner for node in _list_candidates(folder)]
        passed = (*nodes, *self.folders, *own, *inner, *others)
        used = {str(node).rstrip("/") for node in passed}
        names = dict.fromkeys(str(node) for node in (*found, *self.beside))
        return tuple(name for name in names if name.rstrip("/") not in used)


def _list_candidates(folder: Node) -> list[Node]:
    """Return what could be a split, or a part of one, in ``folder``."""
    if is_saved(folder):
        return []
    entries = list_visible(folder)
    texts = [node for node in entries if find_role(node.name)[1][0] and node.is_file()]
    folders = [node for node in entries if node.is_dir() and is_split_folder(node)]
    data = [node for node in list_data(folder) if not _is_setting(node)]
    return [*data, *texts, *folders, *find_foreign(entries)]


def _is_setting(node: Node) -> bool:
    """Whether ``node`` is a JSON file without rows, such as a list of label names."""
    if find_kind(node.name) != ".json" or find_split_of(node.name):
        return False
    if isinstance(node, Path) and node.stat().st_size > LARGEST_SETTING:
        return False
    try:
        return all(table.n_rows < 2 for table in read_tables(node).values())
    except DataError:
        return True


def find_layout(config: DataConfig) -> FileLayout:
    """Return the files of each split: as named in ``config.splits`` (None: there is none), else
    by the usual names in the folder, archive or pattern that ``config.path`` is.

    Raises DataError when a path does not exist, when no file is for training, when two could be
    the same split, and when shards are missing.
    """
    chosen = {str(split): name for split, name in (config.splits or {}).items()}
    named = {
        split: find_named(config, split, name) for split, name in chosen.items() if name is not None
    }
    free = [split for split in SPLITS if split not in chosen]
    if not config.path:
        return FileLayout(named)
    # A mapping of labels serves every split.
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
        raise DataError(_explain_lack(config.path, found))
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
    return _look_in_folder(root, free, taken, DEEPEST)


def _look_beside(
    train: SplitFiles, found: FileLayout, free: Collection[str], taken: Collection[str]
) -> FileLayout:
    """Return the splits beside files for training that were named below ``data.path``."""
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
            f"data.path: {folder} has no file for training itself, but several of its folders "
            f"have one ({names}); {_choose_folder(folder)}"
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
    """Return the surest of the layouts with a file for training below a folder."""
    found = []
    for folder in _list_folders(entries):
        try:
            layout = _look_in_folder(folder, free, taken, depth - 1)
        except PermissionError:
            continue  # what may not be read is no place of the user's data
        if "train" in layout.splits:
            found.append(layout)
    return [layout for layout in found if layout.rank == min(other.rank for other in found)]


def _list_folders(entries: Iterable[Node]) -> list[Node]:
    """Return the folders that are no split themselves; ZIP archives where there is none."""
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
    """Return folders named for training that hold no data file."""
    folders = [entry for entry in entries if entry.is_dir() and _is_split_name(entry)]
    return [folder for folder in folders if parse_name(folder.name).split == "train"]


def _holds_splits(node: Node) -> bool:
    """Whether ``node`` is a JSON file with its rows below the names of splits."""
    if find_kind(node.name) not in (".json", ".jsonl"):
        return False
    try:
        return "train" in read_tables(node)
    except DataError:
        return False  # what is wrong with it matters to those who name it


def _choose_folder(folder: Node) -> str:
    if isinstance(folder, zipfile.Path):
        return "name the files in data.splits, or unpack it and set data.path to one of them"
    return "set data.path to one of them, or name what is inside in data.splits"


def _sort(
    entries: Iterable[Node], place: str, free: Collection[str], taken: Collection[str]
) -> dict[str, SplitFiles]:
    """Return the files of each free split by their names; nothing if training is free and lacks."""
    entries = list(entries)
    groups = sort_entries(entry for entry in entries if str(entry) not in taken)
    rest: tuple[str, ...] = ()
    if "train" in free:
        # A JSON file may hold the split that it is named for beside the one for training.
        groups["train"] = sort_entries(entries).get("train", [])
        train = choose_group(groups, "train", place, None)
        if train is None:
            return {}
        rest = train.rest
    chosen: dict[str, Group | None] = {
        split: choose_group(groups, split, place, rest) for split in free
    }
    lacking = [split for split in ("validation", "test") if chosen.get(split, groups) is None]
    if lacking:
        chosen[lacking[0]] = choose_group(groups, "evaluation", place, rest)
    return {split: expand_group(group, split) for split, group in chosen.items() if group}


def _list_below(folder: Node) -> list[str]:
    """Return the data files below ``folder``, named as ``data.splits`` takes them."""
    files = [node for node in walk_files(folder, DEEPEST + 1) if is_data(node.name)]
    return [str(node).removeprefix(str(folder)).lstrip("/") for node in files]


def _explain_lack(path: str, layout: FileLayout) -> str:
    files = [node.name for folder in layout.folders for node in list_data(folder)]
    files = files or [node.name for node in layout.beside]
    files = files or [name for folder in layout.folders for name in _list_below(folder)]
    listed = format_choices(files or ["none of a known kind"])
    return (
        f"data.path: {path} has no file for training such as train.csv (its files: {listed}); "
        "name one in data.splits.train, or set data.path to a single file"
    )
