"""Whether the Hugging Face Hub answers, found in seconds rather than after its client's retries."""

import os
import socket
from urllib.parse import urlsplit

CONNECT_SECONDS = 5.0
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
        os.environ["HF_HUB_OFFLINE"] = "1"
        reason = error.strerror or "no answer"
        return (
            f"{host} cannot be reached ({reason}): going on as with HF_HUB_OFFLINE=1, with what "
            "is in the cache"
        )
    return None
