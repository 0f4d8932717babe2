"""The files of one split, and their rows as one table."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from sweep.data.files.groups import Group, check_shards, choose_group, sort_entries
from sweep.data.files.names import ENDINGS, find_kind, find_role, is_part, parse_name
from sweep.data.files.nodes import Node, holds_data, is_saved, list_data, list_visible, parent_of
from sweep.data.files.raw_bytes import EmptyFileError
from sweep.data.files.saved import check_saved_splits
from sweep.data.files.table import Table, join_tables
from sweep.data.files.text_pairs import TextPair, read_pair
from sweep.errors import DataError, format_choices, format_names

Read = Callable[[Node], dict[str, Table]]


@dataclass(frozen=True)
class SplitFiles:
    """The files of one split, in order."""

    nodes: tuple[Node, ...]
    pair: TextPair | None = None
    """Texts and labels side by side, in place of tables."""
    folder: Node | None = None
    """The folder that was looked through for them, where it is the split's own."""


def expand(node: Node, split: str) -> SplitFiles:
    """Return the files that ``node``, named for ``split``, stands for: itself, or what a folder
    holds. Raises DataError if a folder holds nothing that is read, or several kinds of files."""
    if not node.is_dir():
        return _expand_file(node)
    if is_saved(node):
        return SplitFiles((node,))
    check_saved_splits(node)
    entries = list_visible(node)
    groups = sort_entries(entries)
    group = choose_group(groups, split, str(node)) or choose_group(groups, "", str(node))
    if group is None:
        data = list_data(node)
        own = [entry for entry in data if parse_name(entry.name).split in (None, split)]
        return SplitFiles(check_kinds(node, own, entries), folder=node)
    return expand_group(group, split, node)


def expand_group(group: Group, split: str, folder: Node | None = None) -> SplitFiles:
    """Return the files of ``group``, its folders looked through; see ``expand``."""
    if group.pair:
        return SplitFiles(group.nodes, group.pair, folder)
    if len(group.nodes) == 1 and group.nodes[0].is_dir():
        return expand(group.nodes[0], split)
    check_shards(group)
    return SplitFiles(group.nodes, folder=folder)


def _expand_file(node: Node) -> SplitFiles:
    """Return ``node``, with the file of labels that stands beside a file of texts."""
    role, key = find_role(node.name)
    if role == "label" and node.is_file():
        raise DataError(
            f"{node}: holds labels alone, by its name; name the file of texts beside it, such as "
            "train_text.txt"
        )
    if role != "text" or not node.is_file():
        return SplitFiles((node,))
    parent = parent_of(node)
    beside = [entry for entry in list_visible(parent) if find_role(entry.name) == ("label", key)]
    mapping = parent / "mapping.txt"
    if not beside:
        return SplitFiles((node,), TextPair(node))
    pair = TextPair(node, beside[0], mapping if mapping.is_file() else None)
    return SplitFiles(tuple(n for n in (node, pair.labels, pair.mapping) if n), pair)


def check_kinds(folder: Node, files: list[Node], entries: list[Node]) -> tuple[Node, ...]:
    """Return ``files`` of ``folder``; raise DataError if there is none, or several kinds."""
    if not files:
        listed = format_choices(entry.name for entry in entries)
        raise DataError(
            f"{folder}: holds no data file (it holds: {listed}); put files there that end in "
            f"{', '.join(ENDINGS[:-1])} or {ENDINGS[-1]}"
        )
    if len({find_kind(file.name) for file in files}) > 1:
        listed = format_choices(file.name for file in files)
        raise DataError(
            f"{folder}: holds files of several kinds ({listed}); "
            "name those of one kind in data.splits, such as train: 'FOLDER/*.csv'"
        )
    check_shards(Group(tuple(files)))
    return tuple(files)


def is_split_folder(node: Node) -> bool:
    """Whether the folder ``node`` is a split, or a part of one, by its name and what it holds."""
    return is_saved(node) or bool(parse_name(node.name).split and holds_data(node))


def is_table_folder(folder: Node) -> bool:
    """Whether ``folder`` holds the parts of one table, without the names of splits."""
    files = list_data(folder)
    named = bool(find_kind(folder.name)) and isinstance(folder, Path)
    return bool(files) and (named or all(map(_is_piece, files)))


def _is_piece(file: Node) -> bool:
    return is_part(file.name) or parse_name(file.name).total is not None


def read_split(
    split: str, files: SplitFiles, read: Read, encoding: str | None = None
) -> dict[str, Table]:
    """Return the table of one split under the key ``""``, or several of a JSON file by split.

    Of several files the empty ones hold no rows. Raises DataError if none has any.
    """
    if files.pair:
        if files.pair.labels is None and split == "train":
            raise DataError(
                f"{files.nodes[0]}: has no file of labels beside it, such as train_labels.txt; "
                "put one there"
            )
        return {"": read_pair(files.pair, encoding)}
    if len(files.nodes) == 1:
        return read(files.nodes[0])
    tables = [_read_shard(node, read) for node in files.nodes]
    if not any(table.columns for table in tables):
        raise DataError(f"{files.nodes[0]}: is empty, and so are the other parts; write them again")
    return {"": join_tables(tables)}


def _read_shard(node: Node, read: Read) -> Table:
    try:
        tables = read(node)
    except EmptyFileError:
        return Table(str(node), {})
    if "" not in tables:
        raise DataError(
            f"{node}: holds the splits {format_names(tables)} and is one of several files; name it "
            "alone in data.splits.train"
        )
    return tables[""]
