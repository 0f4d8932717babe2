"""A trial's checkpoints by epoch: what their folders are called, and which are kept."""

import shutil
from pathlib import Path

from sweep.manifests import MANIFEST

KEPT_CHECKPOINTS = 2
"""The newest and, should it be damaged, the one before."""


def list_checkpoints(folder: Path) -> list[Path]:
    """Return a trial's checkpoint folders, newest epoch first."""
    return sorted(folder.glob("epoch-*"), reverse=True)


def name_checkpoint(folder: Path, epoch: int) -> Path:
    """Return where a trial keeps the checkpoint of ``epoch``."""
    return folder / f"epoch-{epoch:04d}"


def keep_newest(folder: Path, count: int) -> None:
    """Delete all but the ``count`` newest checkpoints of a trial."""
    for old in list_checkpoints(folder)[count:]:
        # The manifest goes first: a folder that is half deleted must not count.
        (old / MANIFEST).unlink(missing_ok=True)
        shutil.rmtree(old, ignore_errors=True)
