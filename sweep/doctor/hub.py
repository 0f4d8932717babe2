"""The Hugging Face Hub: whether it is reached, and whether it knows the token."""

import os
import ssl
from collections.abc import Iterator
from http import HTTPStatus
from http.client import HTTPException
from urllib.error import HTTPError, URLError
from urllib.request import Request, urlopen

from sweep.errors import Finding, first_line

DEFAULT_ENDPOINT = "https://huggingface.co"
SECONDS = 5.0
OFFLINE_VARIABLES = ("HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE", "HF_DATASETS_OFFLINE")
# The Hub says whose token it is, and refuses a request without one.
WHO_AM_I = "/api/whoami-v2"
LOCAL = "local folders, tiny models and what is in the cache work all the same"


def check_hub() -> Iterator[Finding]:
    """Yield whether the Hub can be used; no token is ever part of a sentence."""
    offline = [name for name in OFFLINE_VARIABLES if os.environ.get(name, "0") not in ("", "0")]
    if offline:
        sentence = f"{' and '.join(offline)} set: nothing is downloaded; unset to download"
        yield Finding("note", "hub", sentence)
        return
    token = _find_token()
    endpoint = (os.environ.get("HF_ENDPOINT") or DEFAULT_ENDPOINT).rstrip("/")
    host = endpoint.rpartition("@")[2].removeprefix("https://").removeprefix("http://")
    try:
        status = _ask(endpoint, token)
    except (OSError, HTTPException, ValueError) as error:
        yield Finding("warning", "hub", f"{host} {_explain(error)}; {LOCAL}")
        return
    yield _judge(host, status, bool(token))


def _find_token() -> str | None:
    from huggingface_hub import get_token  # slow to import

    return get_token()


def _ask(endpoint: str, token: str | None) -> int:
    """Return the HTTP status of a request with ``token``; raise an error of ``urlopen``."""
    headers = {"Authorization": f"Bearer {token}"} if token else {}
    request = Request(f"{endpoint}{WHO_AM_I}", headers={"User-Agent": "textsweep"} | headers)
    try:
        with urlopen(request, timeout=SECONDS) as answer:
            return int(answer.status)
    except HTTPError as error:
        return error.code


def _judge(host: str, status: int, has_token: bool) -> Finding:
    refused = status in (HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN)
    if status == HTTPStatus.OK and has_token:
        return Finding("note", "hub", f"{host} answers and knows the token")
    if refused and has_token:
        page = f"{DEFAULT_ENDPOINT}/settings/tokens"
        sentence = f"{host} refuses the token; make a new one at {page}, and set HF_TOKEN to it"
        return Finding("error", "hub", sentence)
    if refused or status == HTTPStatus.OK:
        sentence = f"{host} answers; no token is set, which gated models need: set HF_TOKEN"
        return Finding("note", "hub", sentence)
    return Finding("warning", "hub", f"{host} answers with HTTP {status}; try again later; {LOCAL}")


def _explain(error: Exception) -> str:
    reason = error.reason if isinstance(error, URLError) else error
    if isinstance(reason, ssl.SSLError):
        return (
            f"is reached, but not trusted ({reason.reason or 'TLS'}); behind a proxy with a "
            "certificate of its own, set SSL_CERT_FILE and REQUESTS_CA_BUNDLE to it"
        )
    if isinstance(reason, OSError):
        why = reason.strerror or first_line(reason)
    else:
        why = first_line(error)
    return f"cannot be reached ({why}); check the network, HTTPS_PROXY and HF_ENDPOINT"
