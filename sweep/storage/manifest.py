"""The manifest of a folder: a checksum of each file, by which a damaged folder does not count."""

import hashlib
import json
import re
from pathlib import Path
from typing import Any

import xxhash

MANIFEST = "manifest.json"
FILE_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")
# XXH3 with 128 bits (https://xxhash.com) finds damage, not forgery; 600 MB take it 0.05 s, where
# BLAKE2b took 0.5 s.
XXH3 = "xxh3-128:"
# Earlier releases wrote 128 bits of BLAKE2b, without naming the algorithm.
CHECKSUM = re.compile(rf"({XXH3})?[0-9a-f]{{32}}")
# Bytes hashed at once. Reading and hashing leave Python's lock to other threads, and may wait 5 ms
# (sys.getswitchinterval) to get it back, once per part: small parts would take 20 times as long
# beside a thread that trains.
PART_BYTES = 16 * 2**20


class Digest:
    """Adds up a file's checksum from its parts; as text, it is what a manifest says."""

    def __init__(self, like: str = XXH3) -> None:
        """Use the algorithm that made the checksum ``like``."""
        self._prefix = XXH3 if like.startswith(XXH3) else ""
        self._sum: Any = xxhash.xxh3_128() if self._prefix else hashlib.blake2b()

    def update(self, part: bytes) -> None:
        self._sum.update(part)

    def __str__(self) -> str:
        return f"{self._prefix}{self._sum.hexdigest()[:32]}"


def checksum(file: Path, like: str = XXH3) -> str:
    """Return the checksum of a file, by the algorithm that made the checksum ``like``."""
    digest = Digest(like)
    with file.open("rb", buffering=0) as source:
        while part := source.read(PART_BYTES):
            digest.update(part)
    return str(digest)


def dump_manifest(sums: dict[str, str]) -> str:
    """Return the text of a manifest: file name -> checksum."""
    return json.dumps(sums)


def parse_manifest(text: str | bytes | None) -> dict[str, str] | None:
    """Return file name -> checksum, or None if ``text`` is not a manifest.

    The names come from outside: one that could lead out of the folder invalidates the manifest, and
    so does a checksum by an algorithm that is not known here.
    """
    try:
        sums: Any = json.loads(text) if text is not None else None
    except ValueError:
        return None
    known = isinstance(sums, dict) and all(map(FILE_NAME.fullmatch, sums))
    return sums if known and all(map(_is_checksum, sums.values())) else None


def _is_checksum(value: Any) -> bool:
    return isinstance(value, str) and CHECKSUM.fullmatch(value) is not None
