"""Write beside, then rename: readers find the old version or the new one, never a partial one."""

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO


@contextmanager
def replace_file(path: Path) -> Iterator[BinaryIO]:
    """Open a hidden file beside ``path``; after the block, flush it to disk and rename it to
    ``path``. If the block raises, ``path`` stays as it is."""
    beside = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        with beside.open("wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        beside.replace(path)
    finally:
        beside.unlink(missing_ok=True)


@contextmanager
def create_folder(path: Path) -> Iterator[Path]:
    """Yield a new folder beside ``path`` and rename it to ``path`` after the block; if another
    process got there first, keep its folder."""
    path.parent.mkdir(parents=True, exist_ok=True)
    beside = Path(tempfile.mkdtemp(prefix=f".{path.name}-", dir=path.parent))
    try:
        yield beside
        try:
            beside.rename(path)
        except OSError:
            if not path.exists():
                raise
    finally:
        shutil.rmtree(beside, ignore_errors=True)
