"""The Hugging Face Hub: whether it answers, and a dataset of it as tables."""

import os
import socket
from typing import Any
from urllib.parse import urlsplit

from sweep.config import DataConfig
from sweep.data.files.arrow import build_table
from sweep.data.files.names import SPLIT_NAMES, SPLITS
from sweep.data.files.table import Table
from sweep.errors import DataError, first_line, format_value

CONNECT_SECONDS = 5.0
SET_BY_US = "SWEEP_FOUND_HUB_SILENT"
"""Tells a HF_HUB_OFFLINE that this module has set from a user's."""
PROXIES = ("HTTPS_PROXY", "https_proxy", "ALL_PROXY", "all_proxy")


def go_offline_if_silent() -> str | None:
    """Set HF_HUB_OFFLINE for this process and its workers if the Hub does not answer, so that the
    cache is used at once; return the sentence that says so, or None.

    A proxy is trusted to reach it: only the client knows how to ask one.
    """
    if os.environ.get("HF_HUB_OFFLINE") or any(os.environ.get(name) for name in PROXIES):
        return None
    address = urlsplit(os.environ.get("HF_ENDPOINT") or "https://huggingface.co")
    host, port = address.hostname or "", address.port or (80 if address.scheme == "http" else 443)
    try:
        socket.create_connection((host, port), timeout=CONNECT_SECONDS).close()
    except OSError as error:
        os.environ["HF_HUB_OFFLINE"] = os.environ[SET_BY_US] = "1"
        reason = error.strerror or "no answer"
        return (
            f"{host} cannot be reached ({reason}): going on as with HF_HUB_OFFLINE=1, with what "
            "is in the cache"
        )
    return None


def explain_offline() -> tuple[str, str]:
    """Return why only the cache is looked at, and what to do to have a model downloaded."""
    if os.environ.get(SET_BY_US):
        address = os.environ.get("HF_ENDPOINT") or "https://huggingface.co"
        host = urlsplit(address).hostname or address
        return f"{host} cannot be reached", "connect this machine once to download"
    return "HF_HUB_OFFLINE is set", "unset it once to download"


def load_from_hub(config: DataConfig) -> dict[str, Table]:
    """Load the splits of the dataset ``config.path`` at ``config.revision`` from the Hub."""
    # Slow to import, and only the Hub needs them.
    import huggingface_hub.constants
    from datasets import load_dataset

    try:
        dataset = load_dataset(config.path, config.config, revision=config.revision)
    except Exception as error:  # the library raises a dozen kinds for one cause
        reason, remedy = first_line(error), "check the name and the network"
        if huggingface_hub.constants.HF_HUB_OFFLINE:
            why, fetch = explain_offline()
            reason, remedy = f"{reason}; {why}", f"check the name, or {fetch}"
        raise DataError(
            f"data.path: the dataset {format_value(config.path)} cannot be loaded from the Hugging "
            f"Face Hub ({reason}); {remedy}, or use data.source=files"
        ) from error
    names = {split: _find_hub_split(dataset, split, config) for split in SPLITS}
    return {
        split: build_table(
            f"{config.path} (split {name})",
            dataset[name].with_format("arrow")[:],
            dataset[name].features.arrow_schema,
        )
        for split, name in names.items()
        if name
    }


def _find_hub_split(dataset: Any, split: str, config: DataConfig) -> str | None:
    """Return the name of ``split`` in ``dataset``; None if it has to be cut from training."""
    chosen = {str(key): name for key, name in (config.splits or {}).items()}
    wanted, usual = chosen.get(split), SPLIT_NAMES[split]
    if split in chosen and wanted is None:
        return None
    name = next((name for name in ((wanted,) if wanted else usual) if name in dataset), None)
    if name is None and (wanted or split == "train"):
        raise DataError(
            f"data.splits: {config.path!r} has the splits {', '.join(dataset)} and none named "
            f"{wanted or ' or '.join(usual)}; name one of these in data.splits.{split}"
        )
    return name
