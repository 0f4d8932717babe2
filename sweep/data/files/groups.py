"""The files of a folder sorted by split: one file, the shards of one, or texts beside labels."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import PurePath

from sweep.data.files.names import FOREIGN, FileName, find_role, is_data, parse_name
from sweep.data.files.nodes import Node, holds_data
from sweep.data.files.text_pairs import TextPair
from sweep.errors import DataError, format_choices


@dataclass(frozen=True)
class Group:
    """Files that make up one split together."""

    nodes: tuple[Node, ...]
    rest: tuple[str, ...] = ()
    """The words of the name beside the split: files of one set have them in common."""
    sure: bool = True
    """False where a name may mean another thing: ``train_2.csv`` is a shard, or a version."""
    pair: TextPair | None = None

    @property
    def name(self) -> str:
        """The file's name, or a pattern that fits all names."""
        first = self.nodes[0].name
        if len(self.nodes) == 1 or self.pair:
            return first
        names = [node.name for node in self.nodes]
        start = _find_common_start(names).rstrip("0123456789")
        end = _find_common_start([name[::-1] for name in names])[::-1].lstrip("0123456789")
        return f"{start}*{end}"


def _find_common_start(names: Sequence[str]) -> str:
    first, last = min(names), max(names)
    return first[: next((i for i, c in enumerate(first) if last[i : i + 1] != c), len(first))]


Groups = dict[str, list[Group]]


def sort_entries(entries: Iterable[Node]) -> Groups:
    """Return the groups of each split (and of ``evaluation``) that the names of files say."""
    entries = list(entries)
    sorted_files: dict[tuple[str, tuple[str, ...], str], list[Node]] = {}
    for entry in entries:
        name = parse_name(entry.name)
        if name.split and _counts(entry, name):
            form = _find_form(entry, name)
            sorted_files.setdefault((name.split, name.rest, form), []).append(entry)
    groups: Groups = {}
    for (split, rest, form), nodes in sorted_files.items():
        ordered = sorted(nodes, key=lambda node: (parse_name(node.name).index or 0, node.name))
        group = Group(tuple(ordered), rest, sure=not form.startswith("numbered"))
        groups.setdefault(split, []).append(group)
    for split, group in _pair_texts(entries):
        groups.setdefault(split, []).append(group)
    return groups


def _counts(entry: Node, name: FileName) -> bool:
    if entry.is_dir():
        plain = bool(name.ending) or (not name.rest and name.index is None)
        return plain and holds_data(entry)
    return is_data(entry.name)


def _find_form(entry: Node, name: FileName) -> str:
    if name.total is not None:
        return f"of {name.total}{name.ending}"
    return entry.name if name.index is None else f"numbered{name.ending}"


def _pair_texts(entries: Sequence[Node]) -> list[tuple[str, Group]]:
    found: dict[str, dict[tuple[str | None, tuple[str, ...]], Node]] = {"text": {}, "label": {}}
    for entry in entries:
        role, key = find_role(entry.name)
        if role and entry.is_file():
            found[role][key] = entry
    mapping = next((entry for entry in entries if entry.name == "mapping.txt"), None)
    groups = []
    for key, texts in found["text"].items():
        split, rest = key
        labels = found["label"].get(key)
        pair = TextPair(texts, labels, mapping if labels else None)
        nodes = tuple(node for node in (texts, labels, pair.mapping) if node)
        groups.append((split or "", Group(nodes, rest, labels is not None, pair)))
    return groups


def choose_group(
    groups: Groups, split: str, place: str, rest: tuple[str, ...] | None = ()
) -> Group | None:
    """Return the group for ``split``; raise DataError if there are several.

    ``rest`` are the words that its name must have beside the split; None: whichever there are,
    names without any before others.
    """
    found = groups.get(split, [])
    wanted = [group for group in found if group.rest == (rest or ())]
    if rest is None and not wanted:
        wanted = found
    alike = [group for group in wanted if group.sure] or wanted
    if len(alike) > 1:
        raise DataError(
            f"data.path: {place} has several files for {split} "
            f"({format_choices(group.name for group in alike)}); name one in data.splits.{split}"
        )
    return alike[0] if alike else None


def check_shards(group: Group) -> None:
    """Raise DataError if shards are missing, by what the names of the others say."""
    names = [parse_name(node.name) for node in group.nodes]
    total = names[0].total
    if total is None:
        return
    found = [name.index for name in names if name.index is not None]
    # Some tools count from 1.
    first = 1 if total in found and 0 not in found else 0
    missing = [index for index in range(first, first + total) if index not in found]
    place, sample = group.nodes[0], names[0]
    if missing:
        listed = format_choices((_name_shard(sample, index) for index in missing), 5)
        raise DataError(
            f"{place}: is one of {total} shards, of which {listed} cannot be found; download the "
            f"rest, or name those to be used in data.splits, such as {group.name}"
        )
    if len(found) > total:
        raise DataError(
            f"{place}: is one of {total} shards, but there are {len(found)} such files; move away "
            "those that do not belong"
        )


def _name_shard(sample: FileName, index: int) -> str:
    stem, _, rest = sample.base.rpartition("-of-")
    stem, _, digits = stem.rpartition("-")
    return f"{stem}-{index:0{len(digits)}}-of-{rest}{sample.ending}"


def find_foreign(entries: Iterable[Node], split: str | None = None) -> list[Node]:
    """Return the files with a split's name whose ending says that they are not read."""
    return [
        entry
        for entry in entries
        if PurePath(entry.name).suffix.lower() in FOREIGN
        and not is_data(entry.name)
        and (found := parse_name(entry.name.split(".")[0]).split)
        and split in (None, found)
        and entry.is_file()
    ]
