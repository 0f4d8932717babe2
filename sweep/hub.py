"""What the Hugging Face Hub can be asked in seconds: whether it answers, and which files a model
has there."""

import os
import socket
from pathlib import Path
from urllib.parse import urlsplit

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


def list_hub_files(path: str, revision: str, snapshot: Path) -> frozenset[str] | None:
    """Return the names of the files that a Hub model has at ``revision``; those of its cached
    ``snapshot`` when offline; None if the Hub does not say.

    None is no leave to load pickles: loading asks for safetensors by itself.
    """
    from huggingface_hub import HfApi, constants  # only a Hub model needs it

    if constants.HF_HUB_OFFLINE:
        return frozenset(file.name for file in snapshot.iterdir())
    try:
        found = HfApi().model_info(path, revision=revision, timeout=CONNECT_SECONDS).siblings
    except Exception:  # the library raises many kinds; the model's config.json has come already
        return None
    # Files in folders are other forms of the model, which are not loaded.
    return frozenset(file.rfilename for file in found or () if "/" not in file.rfilename)
