"""Checkpoints: whole or not there."""

import hashlib
import json
from pathlib import Path

import pytest
import torch
import xxhash
from safetensors.torch import save_file

from sweep.storage.checkpoints import keep_newest, list_checkpoints, name_checkpoint
from sweep.storage.manifest import MANIFEST
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


def dump_earlier_manifest(folder: Path) -> str:
    """Return the manifest that release 0.1 wrote for a folder's files: BLAKE2b, 32 digits of it."""
    files = [file for file in sorted(folder.iterdir()) if file.name != MANIFEST]
    sums = {file.name: hashlib.blake2b(file.read_bytes()).hexdigest()[:32] for file in files}
    return json.dumps(sums)


def test_a_checkpoint_of_an_earlier_release_is_read_and_verified(tmp_path: Path) -> None:
    write_checkpoint(tmp_path / "c", GROUPS, {"epoch": 3})
    (tmp_path / "c" / MANIFEST).write_text(dump_earlier_manifest(tmp_path / "c"))
    found = read_checkpoint(tmp_path / "c")
    assert found is not None
    assert found[1] == {"epoch": 3}
    weights = tmp_path / "c" / "adapter.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1] + b"x")
    assert read_checkpoint(tmp_path / "c") is None


def test_the_manifest_names_the_algorithm(tmp_path: Path) -> None:
    write_checkpoint(tmp_path / "c", GROUPS, {})
    sums = json.loads((tmp_path / "c" / MANIFEST).read_text())
    assert set(sums) == {"adapter.safetensors", "best.safetensors", "state.json"}
    data = (tmp_path / "c" / "state.json").read_bytes()
    assert sums["state.json"] == f"xxh3-128:{xxhash.xxh3_128_hexdigest(data)}"


@pytest.mark.parametrize("known", ["xxh4-512:" + "0" * 32, "0" * 31, "", 7, None, ["xxh3-128:"]])
def test_checksum_of_an_unknown_kind_counts_as_damage(tmp_path: Path, known: object) -> None:
    write_checkpoint(tmp_path / "c", GROUPS, {})
    manifest = tmp_path / "c" / MANIFEST
    sums = json.loads(manifest.read_text())
    manifest.write_text(json.dumps(sums | {"state.json": known}))
    assert read_checkpoint(tmp_path / "c") is None


def test_file_that_the_manifest_does_not_list_is_not_read(tmp_path: Path) -> None:
    write_checkpoint(tmp_path / "c", GROUPS, {})
    save_file({"a": torch.zeros(1)}, tmp_path / "c" / "optimizer.safetensors")
    found = read_checkpoint(tmp_path / "c")
    assert found is not None
    assert set(found[0]) == set(GROUPS)


def test_views_of_one_stack_come_back_apart(tmp_path: Path) -> None:
    stack = torch.randn(4, 3, 6)
    views = {f"slot-{n}": stack[n] for n in range(4)}
    strided = {f"rank-{n}": stack[:, n, ::2] for n in range(3)}
    write_checkpoint(tmp_path / "c", {"adapter": views, "best": strided}, {})
    found = read_checkpoint(tmp_path / "c")
    assert found is not None
    for group, tensors in {"adapter": views, "best": strided}.items():
        assert {name: value.tolist() for name, value in found[0][group].items()} == {
            name: value.tolist() for name, value in tensors.items()
        }


def test_newest_checkpoints_are_kept(tmp_path: Path) -> None:
    for epoch in (1, 2, 10):
        write_checkpoint(name_checkpoint(tmp_path, epoch), {}, {})
    keep_newest(tmp_path, 2)
    assert [path.name for path in list_checkpoints(tmp_path)] == ["epoch-0010", "epoch-0002"]
