"""What a model folder holds, by file names and first bytes: Git LFS pointers, damaged JSON, and
what is there instead of a model."""

import json
from collections.abc import Collection
from pathlib import Path
from typing import Any

from sweep.errors import ModelError, format_names, truncate

# Without Git LFS, `git clone` leaves a file that begins with this in place of a large one
# (https://github.com/git-lfs/git-lfs/blob/main/docs/spec.md).
POINTER = b"version https://git-lfs.github.com/spec/"
PAGES = (b"<!doctype", b"<html", b"<?xml")
VOCABULARIES = ("tokenizer.json", "vocab.json", "vocab.txt", "merges.txt", "tekken.json")
VOCABULARY_SUFFIXES = (".model", ".tiktoken")
ORIGINAL_FORMATS = ("params.json", "consolidated.safetensors", "consolidated.00.pth")
ADAPTER = "adapter_config.json"
NO_TOKENIZER = (
    "has no complete tokenizer (tokenizer.json, tokenizer.model, or vocab.json with merges.txt); "
    "copy the tokenizer files of the model it was made from into it"
)
PATH_IS = "path must be a model folder or a Hub id"
MERGE_FIRST = "merge it into its base model first, or name that"


def read_start(file: Path) -> bytes:
    """Return the first 64 bytes of ``file``; raise ModelError if it cannot be read, or if
    something else was saved in its place."""
    try:
        with file.open("rb") as opened:
            start = opened.read(64)
    except OSError as error:
        raise ModelError(explain_unreadable(file, error)) from None
    if start.startswith(POINTER):
        raise ModelError(
            f"{file} is a Git LFS pointer, not the file itself; run 'git lfs pull' in its folder, "
            "or download it from the model's page"
        )
    if start.lstrip()[:9].lower().startswith(PAGES):
        raise ModelError(f"{file} is a web page, not the file itself; download it again")
    return start


def explain_unreadable(file: Path, error: OSError) -> str:
    if isinstance(error, PermissionError):
        return f"{file} cannot be read (permission denied); give this user read access to it"
    if file.is_symlink() and not file.exists():
        return f"{file} is a broken link to {file.readlink()}; copy the file there"
    return f"{file} cannot be read ({error.strerror}); replace it with an intact copy"


def is_here(file: Path) -> bool:
    """Return whether ``file`` is on this machine; a broken link counts, but cannot be read."""
    return file.exists() or file.is_symlink()


def read_json(file: Path) -> dict[str, Any]:
    """Return the object in a JSON file; raise ModelError with the reason if there is none."""
    read_start(file)
    try:
        tree = json.loads(file.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:
        reason = "it is empty" if not file.stat().st_size else truncate(str(error), 100)
    else:
        if isinstance(tree, dict):
            return tree
        reason = f"it holds {truncate(json.dumps(tree), 40)}"
    raise ModelError(f"{file} is not a JSON object ({reason}); download it again")


def has_tokenizer(names: Collection[str]) -> bool:
    """Return whether the file ``names`` hold a vocabulary."""
    if any(n.endswith(VOCABULARY_SUFFIXES) for n in names) or "tokenizer.json" in names:
        return True
    pair = {"vocab.json", "merges.txt"}
    return pair <= set(names) or any(n in names for n in VOCABULARIES if n not in pair)


def list_names(folder: Path) -> frozenset[str]:
    """Return the file names in ``folder``; raise ModelError if it cannot be read."""
    try:
        return frozenset(entry.name for entry in folder.iterdir())
    except OSError as error:
        raise ModelError(explain_unreadable(folder, error)) from None


def explain_missing_config(folder: Path) -> str:
    """Return what ``folder``, which has no config.json, is instead, and the remedy."""
    if not folder.exists():
        return f"{folder} does not exist, so it has no config.json; {PATH_IS}"
    if not folder.is_dir():
        return f"{folder} is a file; path must be a folder with config.json and all other files"
    names = list_names(folder)
    if not names:
        return f"{folder} is empty, so it has no config.json; {PATH_IS}"
    if ADAPTER in names:
        return f"{folder} is an adapter ({ADAPTER}), not a base model; {MERGE_FIRST}"
    below = sorted(folder.glob("*/config.json")) or sorted(folder.glob("*/*/config.json"))
    if below:
        folders = format_names([str(file.parent) for file in below], 3, 500)
        return f"{folder} has no config.json, but there is a model below it: set path to {folders}"
    return f"{folder} has no config.json{_describe_rest(names)}; {PATH_IS}"


def _describe_rest(names: Collection[str]) -> str:
    gguf = sorted(name for name in names if name.endswith(".gguf"))
    if gguf:
        return f" but GGUF weights ({format_names(gguf, 2)}), which cannot be fine-tuned here"
    original = [name for name in ORIGINAL_FORMATS if name in names]
    if original:
        return f" but {original[0]}: its publisher's own format, not that of transformers"
    return ""
