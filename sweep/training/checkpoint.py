"""Checkpoints: folders of safetensors and JSON that count once their manifest is in place."""

import errno
import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file

from sweep.storage.atomic import replace_file
from sweep.storage.manifest import MANIFEST, checksum, dump_manifest, parse_manifest

STATE = "state.json"
# Groups of tensors: the trained weights after the epoch, those of the best epoch, AdamW's state.
# Earlier releases trained adapters only, and named the first so.
WEIGHTS, BEST, OPTIMIZER = "adapter", "best", "optimizer"
FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)

Tensors = dict[str, torch.Tensor]


def write_checkpoint(folder: Path, groups: dict[str, Tensors], state: dict[str, Any]) -> None:
    """Write each group as ``NAME.safetensors`` and ``state`` as JSON, the manifest last.

    Tensors may lie on a GPU and be views that are not contiguous, and must not change before this
    returns. While files are written and hashed, other threads have Python's lock to themselves.
    """
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    for name, tensors in groups.items():
        packed = {key: tensor.detach().cpu().contiguous() for key, tensor in tensors.items()}
        save_file(packed, folder / f"{name}.safetensors")
    (folder / STATE).write_text(json.dumps(state))
    sums = {file.name: checksum(file) for file in sorted(folder.iterdir())}
    with replace_file(folder / MANIFEST) as file:
        file.write(dump_manifest(sums).encode())


def read_checkpoint(folder: Path) -> tuple[dict[str, Tensors], dict[str, Any]] | None:
    """Return the groups and the state in ``folder``, or None if it is incomplete or damaged."""
    try:
        sums = parse_manifest((folder / MANIFEST).read_bytes())
        if sums is None or not all(
            checksum(folder / name, known) == known for name, known in sums.items()
        ):
            return None
        state = json.loads((folder / STATE).read_text())
    except (OSError, ValueError):
        return None
    files = [folder / name for name in sums if name.endswith(".safetensors")]
    return {file.stem: load_file(file) for file in files}, state


def best_weights(groups: Mapping[str, Tensors]) -> Tensors:
    """Return the weights of the best epoch in a checkpoint's groups. Where that is the newest
    epoch, its weights are stored once."""
    return groups.get(BEST) or groups[WEIGHTS]


def is_storage_full(error: Exception) -> bool:
    """Return whether ``error`` means that the disk is full or the quota used up."""
    if isinstance(error, OSError) and error.errno in FULL:
        return True
    # safetensors has its own error class, whose text alone holds the number.
    return any(f"os error {number}" in str(error) for number in FULL)
