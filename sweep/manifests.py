"""Manifests: the checksums by which a folder is known to be whole, wherever it is kept."""

import hashlib
import json
import re
from pathlib import Path
from typing import Any

MANIFEST = "manifest.json"
FILE_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")


def checksum(file: Path) -> str:
    """Return the checksum of a file, as a manifest holds it."""
    with file.open("rb") as source:
        return show_digest(hashlib.file_digest(source, hashlib.blake2b))


def show_digest(digest: Any) -> str:
    """Return a BLAKE2b digest (what ``hashlib.blake2b()`` makes) as a manifest holds it."""
    return str(digest.hexdigest())[:32]


def dump_manifest(sums: dict[str, str]) -> str:
    """Return the text of a manifest: file name -> checksum."""
    return json.dumps(sums)


def parse_manifest(text: str | bytes | None) -> dict[str, str] | None:
    """Return file name -> checksum, or None if ``text`` is no manifest.

    The names come from outside: one that could lead out of the folder is not believed.
    """
    try:
        sums: Any = json.loads(text) if text is not None else None
    except ValueError:
        return None
    known = isinstance(sums, dict) and all(map(FILE_NAME.fullmatch, sums))
    return sums if known else None
