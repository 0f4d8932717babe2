"""Independent random streams from one seed."""

import hashlib


def derive_seed(seed: int, *purpose: object) -> int:
    """Return a 63-bit seed for one purpose; different purposes give independent streams."""
    text = "\0".join(map(str, (seed, *purpose)))
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8]) >> 1
