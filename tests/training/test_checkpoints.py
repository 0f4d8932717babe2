"""Checkpoints: whole or not there."""

from pathlib import Path

import pytest
import torch

from sweep.storage.checkpoints import keep_newest, list_checkpoints, name_checkpoint
from sweep.storage.folders import MANIFEST
from sweep.training.checkpoint import read_checkpoint, write_checkpoint

GROUPS = {"adapter": {"a": torch.arange(6.0).view(2, 3)}, "best": {"a": torch.ones(2)}}


def test_checkpoint_comes_back_as_it_was(tmp_path: Path) -> None:
    write_checkpoint(tmp_path / "c", GROUPS, {"epoch": 3})
    found = read_checkpoint(tmp_path / "c")
    assert found is not None
    groups, state = found
    assert state == {"epoch": 3}
    assert torch.equal(groups["adapter"]["a"], GROUPS["adapter"]["a"])


def test_no_file_of_a_checkpoint_is_a_pickle(tmp_path: Path) -> None:
    write_checkpoint(tmp_path / "c", GROUPS, {})
    assert {file.suffix for file in (tmp_path / "c").iterdir()} == {".safetensors", ".json"}


@pytest.mark.parametrize("name", ["adapter.safetensors", "state.json", MANIFEST])
@pytest.mark.parametrize("damage", ["missing", "cut", "changed"])
def test_damaged_checkpoint_does_not_count(tmp_path: Path, name: str, damage: str) -> None:
    write_checkpoint(tmp_path / "c", GROUPS, {"epoch": 3})
    path = tmp_path / "c" / name
    data = path.read_bytes()
    if damage == "missing":
        path.unlink()
    else:
        path.write_bytes(data[:-3] if damage == "cut" else data[:-3] + b"xyz")
    assert read_checkpoint(tmp_path / "c") is None


def test_newest_checkpoints_are_kept(tmp_path: Path) -> None:
    for epoch in (1, 2, 10):
        write_checkpoint(name_checkpoint(tmp_path, epoch), {}, {})
    keep_newest(tmp_path, 2)
    assert [path.name for path in list_checkpoints(tmp_path)] == ["epoch-0010", "epoch-0002"]
