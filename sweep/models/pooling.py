"""How a model that was published for sentence-transformers makes one vector of a text's tokens:
its modules.json names the steps (https://www.sbert.net)."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from sweep.config import FeaturesConfig
from sweep.data import explain_offline
from sweep.errors import ModelError, first_line, format_names
from sweep.models.file_check import ResolvedModel
from sweep.models.folder import is_here, read_json, read_start
from sweep.models.sources import is_local
from sweep.models.tiny_configs import TINY_PREFIX

MODULES = "modules.json"
# Its words for how tokens are pooled, of older and newer releases, and ours.
WORDS = {
    "mean": "mean",
    "mean_tokens": "mean",
    "cls": "cls",
    "cls_token": "cls",
    "lasttoken": "last",
}
OLDER_KEY = "pooling_mode_"
REMEDY = "set its pooling to mean, last or cls"


class Pooling(NamedTuple):
    """``mean``, ``last`` or ``cls``, or ``auto`` where only the model itself can tell; and whether
    vectors are divided by their lengths."""

    mode: str
    normalized: bool = False


def find_pooling(entry: FeaturesConfig, found: ResolvedModel) -> Pooling:
    """Return how ``entry``'s features are pooled: as it says, else as the model's files say. Steps
    other than pooling and normalizing, such as a dense layer, are left out.

    Raises ModelError if they are damaged, or name a pooling that is not supported.
    """
    if entry.pooling != "auto" or entry.features.startswith(TINY_PREFIX):
        return Pooling(entry.pooling)
    file = _find_file(entry, found, MODULES)
    if file is None:
        return Pooling("auto")
    paths = _read_modules(file)
    normalized = "Normalize" in paths
    if "Pooling" not in paths:
        return Pooling("auto", normalized)
    name = f"{paths['Pooling']}/config.json"
    settings = _find_file(entry, found, name)
    if settings is None:
        raise ModelError(f"{file} names {name}, which is missing; add it, or {REMEDY}")
    return Pooling(_read_mode(settings), normalized)


def _read_modules(file: Path) -> Mapping[str, str]:
    """Return the folder of each step by the last part of its type, such as ``Pooling``."""
    read_start(file)
    try:
        steps = json.loads(file.read_text(encoding="utf-8"))
        return {str(step["type"]).rpartition(".")[2]: str(step["path"]) for step in steps}
    except (ValueError, LookupError, TypeError, RecursionError):
        raise ModelError(
            f"{file} is not a list of modules with type and path; download it again, or {REMEDY}"
        ) from None


def _read_mode(file: Path) -> str:
    modes = _list_modes(read_json(file))
    if len(modes) != 1 or modes[0] not in WORDS:
        raise ModelError(
            f"{file} pools tokens by {format_names(modes)}, which is not supported; {REMEDY}"
        )
    return WORDS[modes[0]]


def _list_modes(tree: Mapping[str, Any]) -> list[str]:
    named = tree.get("pooling_mode")
    if named is not None:
        return [str(mode) for mode in (named if isinstance(named, list) else [named])]
    return [
        key.removeprefix(OLDER_KEY)
        for key, value in tree.items()
        if key.startswith(OLDER_KEY) and value is True
    ]


def _find_file(entry: FeaturesConfig, found: ResolvedModel, name: str) -> Path | None:
    """Return a file of the model, downloaded if need be, or None if the model has none."""
    if found.folder and is_here(found.folder / name):
        return found.folder / name
    # The Hub's list has no files of subfolders.
    lacks = found.files is not None and "/" not in name and name not in found.files
    return None if lacks or is_local(entry.features) else _download(entry, found, name)


def _download(entry: FeaturesConfig, found: ResolvedModel, name: str) -> Path | None:
    from huggingface_hub import constants, hf_hub_download
    from huggingface_hub.errors import EntryNotFoundError, LocalEntryNotFoundError

    path = entry.features
    try:
        return Path(hf_hub_download(path, name, revision=found.revision, etag_timeout=10))
    except Exception as error:  # the library raises all kinds: network, gated, missing
        # The second is of a file that may exist, but cannot be reached.
        if isinstance(error, EntryNotFoundError) and not isinstance(error, LocalEntryNotFoundError):
            return None
        reason, remedy = first_line(error), "check the network"
    if constants.HF_HUB_OFFLINE:
        reason, remedy = explain_offline()
    raise ModelError(f"{name} of {path!r} cannot be downloaded ({reason}); {remedy}, or {REMEDY}")
