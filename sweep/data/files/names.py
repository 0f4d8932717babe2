"""What the name of a data file says: its split, its kind, and its position among shards."""

import re
from dataclasses import dataclass

# The usual endings, which error messages list.
ENDINGS = (".csv", ".tsv", ".jsonl", ".json", ".parquet")
# Every supported ending, and the kind of file behind it.
KINDS = {
    **{ending: ending for ending in ENDINGS},
    ".tab": ".tsv",
    ".ndjson": ".jsonl",
    ".pq": ".parquet",
    ".arrow": ".arrow",
    ".feather": ".arrow",
}
COMPRESSIONS = (".gz", ".bz2", ".xz", ".zst", ".zstd", ".lz4", ".zip")
SPLITS = ("train", "validation", "test")
SPLIT_NAMES = {
    "train": ("train", "training"),
    "validation": ("validation", "dev", "valid", "val", "development"),
    "test": ("test", "testing"),
}
# Either validation or test, whichever is missing.
EVALUATION_NAMES = ("eval", "evaluation")
TEXT_ROLES = ("text", "texts", "sentence", "sentences")
LABEL_ROLES = ("label", "labels")
# Descriptions that other tools put beside the data.
DESCRIPTIONS = ("dataset_infos.json", "dataset_info.json", "dataset_dict.json", "state.json")
# Endings of files that may hold data, but in a form that is not supported.
FOREIGN = (
    *COMPRESSIONS, ".txt", ".text", ".xlsx", ".xlsm", ".xls", ".ods", ".tar", ".tgz", ".7z", ".rar",
    ".pkl", ".pickle", ".npy", ".npz", ".h5", ".hdf5", ".orc", ".avro", ".xml", ".html", ".htm",
    ".db", ".sqlite", ".docx", ".dat", ".data",
)  # fmt: skip

_OF = re.compile(r"(.+?)-(\d+)-of-(\d+)(?:-[0-9a-f]{6,})?$", re.IGNORECASE)
# Files of one table as Spark, Dask and the Hub's conversion to Parquet write them.
_PART = re.compile(r"(part|data|shard|chunk)?[-_.]?\d+([-_.].*)?$", re.IGNORECASE)
_SPLIT_WORDS = {word: split for split, words in SPLIT_NAMES.items() for word in words}
_SPLIT_WORDS |= dict.fromkeys(EVALUATION_NAMES, "evaluation")


@dataclass(frozen=True)
class FileName:
    """The parts of a data file's name."""

    # The name without its endings.
    base: str
    # The known endings in lower case, such as ``.csv.gz``; empty where there is none.
    ending: str
    # A split, ``evaluation``, or None.
    split: str | None = None
    # The words of the name besides the split and the shard's number.
    rest: tuple[str, ...] = ()
    # The number of the shard, and how many there are, where the name says so.
    index: int | None = None
    total: int | None = None


def parse_name(name: str) -> FileName:
    """Return what ``name`` says: of ``train-00000-of-00002.parquet`` a split, 0 of 2."""
    base, ending = split_ending(name)
    found = _OF.match(base)
    stem, index, total = (found[1], int(found[2]), int(found[3])) if found else (base, None, None)
    words = [word for word in re.split(r"[-_. ]+", stem.lower()) if word]
    splits = [word for word in words if word in _SPLIT_WORDS]
    rest = [word for word in words if word not in _SPLIT_WORDS]
    if index is None and rest and len(words) > 1 and rest[-1].isdecimal() and len(rest[-1]) < 9:
        index = int(rest.pop())
        rest = rest[:-1] if rest and rest[-1] in ("part", "shard", "chunk") else rest
    split = _SPLIT_WORDS[splits[0]] if len(splits) == 1 else None
    return FileName(base, ending, split, tuple(rest), index, total)


def split_ending(name: str) -> tuple[str, str]:
    """Return ``name`` without its endings, and those of a known kind in lower case."""
    base, packed = _strip_ending(name, COMPRESSIONS)
    base, kind = _strip_ending(base, tuple(KINDS))
    if not kind:
        return (base, packed) if packed == ".zip" else (name, "")
    # Spark names the compression inside: part-00000.snappy.parquet.
    return _strip_ending(base, (".snappy", *COMPRESSIONS))[0], kind + packed


def _strip_ending(name: str, endings: tuple[str, ...]) -> tuple[str, str]:
    lower = name.lower()
    ending = next((e for e in endings if lower.endswith(e) and len(lower) > len(e)), "")
    return name.removesuffix(name[len(name) - len(ending) :]) if ending else name, ending


def find_kind(name: str) -> str:
    """Return the kind of a file by its name, compressed or not; empty for an unknown ending."""
    ending = split_ending(name)[1]
    for packed in COMPRESSIONS:
        ending = ending.removesuffix(packed)
    return KINDS.get(ending, "")


def is_data(name: str) -> bool:
    """Return whether a file of that name is read as data."""
    return bool(split_ending(name)[1]) and name not in DESCRIPTIONS


def is_part(name: str) -> bool:
    """Return whether a file of that name is one part of a table, as Spark numbers them."""
    return bool(is_data(name) and _PART.match(split_ending(name)[0]))


def find_split(name: str) -> str | None:
    """Return the split that a word such as ``dev`` stands for, or ``evaluation``, or None."""
    return _SPLIT_WORDS.get(name.lower())


def find_split_of(name: str) -> str | None:
    """Return the split in the name of a table or of a plain text file."""
    return parse_name(name).split or find_role(name)[1][0]


def find_role(name: str) -> tuple[str, tuple[str | None, tuple[str, ...]]]:
    """Return what a plain text file holds line by line (``text``, ``label`` or nothing), and the
    split and the other words of its name."""
    base, ending = _strip_ending(_strip_ending(name, COMPRESSIONS)[0], (".txt",))
    words = [word for word in re.split(r"[-_. ]+", base.lower()) if word]
    roles = [word for word in words if word in (*TEXT_ROLES, *LABEL_ROLES)]
    if len(roles) != 1 or find_kind(name):
        return "", (None, ())
    splits = [word for word in words if word in _SPLIT_WORDS]
    rest = tuple(word for word in words if word not in roles and word not in splits)
    split = _SPLIT_WORDS[splits[0]] if len(splits) == 1 else None
    if not ending and (split is None or rest):
        return "", (None, ())
    return ("text" if roles[0] in TEXT_ROLES else "label"), (split, rest)
