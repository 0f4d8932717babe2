"""Folders at a URI count once they are whole."""

import hashlib
import json
from pathlib import Path

import pytest
import torch

from sweep.errors import StorageError
from sweep.storage.folders import Storage, open_storage
from sweep.storage.manifest import MANIFEST
from sweep.training.checkpoint import read_checkpoint, write_checkpoint

GROUPS = {
    "adapter": {"A": torch.arange(6.0).reshape(2, 3)},
    "optimizer": {"m": torch.full((2, 3), 1 / 3, dtype=torch.float64)},
}


@pytest.fixture
def storage(tmp_path: Path) -> Storage:
    return open_storage(str(tmp_path / "kept"))


@pytest.fixture
def checkpoint(tmp_path: Path) -> Path:
    folder = tmp_path / "epoch-0001"
    write_checkpoint(folder, GROUPS, {"epoch": 1})
    return folder


def test_checkpoint_comes_back_bit_for_bit(
    storage: Storage, checkpoint: Path, tmp_path: Path
) -> None:
    storage.write_folder("t1/epoch-0001", checkpoint)
    assert storage.read_folder("t1/epoch-0001", tmp_path / "back")
    found = read_checkpoint(tmp_path / "back")
    assert found is not None
    groups, state = found
    assert state == {"epoch": 1}
    for name, tensors in GROUPS.items():
        for key, tensor in tensors.items():
            assert torch.equal(groups[name][key], tensor)
            assert groups[name][key].dtype == tensor.dtype


def test_folder_without_manifest_does_not_count(
    storage: Storage, checkpoint: Path, tmp_path: Path
) -> None:
    storage.write_folder("t1/epoch-0001", checkpoint)
    (tmp_path / "kept" / "t1" / "epoch-0001" / MANIFEST).unlink()
    assert storage.list_folders("t1") == []
    assert not storage.read_folder("t1/epoch-0001", tmp_path / "back")


def test_damaged_folder_is_not_whole(storage: Storage, checkpoint: Path, tmp_path: Path) -> None:
    storage.write_folder("t1/epoch-0001", checkpoint)
    file = tmp_path / "kept" / "t1" / "epoch-0001" / "adapter.safetensors"
    file.write_bytes(file.read_bytes()[:-1] + b"x")
    assert not storage.read_folder("t1/epoch-0001", tmp_path / "back")


def test_missing_file_is_not_whole(storage: Storage, checkpoint: Path, tmp_path: Path) -> None:
    storage.write_folder("t1/epoch-0001", checkpoint)
    (tmp_path / "kept" / "t1" / "epoch-0001" / "adapter.safetensors").unlink()
    assert not storage.read_folder("t1/epoch-0001", tmp_path / "back")


def test_folders_are_listed_by_name_and_only_those_of_the_trial(
    storage: Storage, checkpoint: Path
) -> None:
    for name in ("t1/epoch-0002", "t1/epoch-0001", "t10/epoch-0001"):
        storage.write_folder(name, checkpoint)
    assert storage.list_folders("t1") == ["t1/epoch-0001", "t1/epoch-0002"]
    assert storage.list_folders("t2") == []


def test_deleted_folder_is_gone_and_deleting_again_is_no_error(
    storage: Storage, checkpoint: Path, tmp_path: Path
) -> None:
    storage.write_folder("t1/epoch-0001", checkpoint)
    storage.delete_folder("t1/epoch-0001")
    storage.delete_folder("t1/epoch-0001")
    assert storage.list_folders("t1") == []
    assert not (tmp_path / "kept" / "t1" / "epoch-0001").exists()


def test_writing_again_leaves_nothing_of_the_first(storage: Storage, tmp_path: Path) -> None:
    source = tmp_path / "source"
    source.mkdir()
    for name in ("old.json", "new.json"):
        (source / name).write_text("{}")
    storage.write_folder("t1/epoch-0001", source)
    (source / "old.json").unlink()
    storage.write_folder("t1/epoch-0001", source)
    assert storage.read_folder("t1/epoch-0001", tmp_path / "back")
    assert {file.name for file in (tmp_path / "back").iterdir()} == {"new.json", MANIFEST}


def test_the_manifest_is_the_one_written_with_the_files(
    storage: Storage, checkpoint: Path, tmp_path: Path
) -> None:
    storage.write_folder("t1/epoch-0001", checkpoint)
    kept = tmp_path / "kept" / "t1" / "epoch-0001" / MANIFEST
    assert kept.read_bytes() == (checkpoint / MANIFEST).read_bytes()


@pytest.mark.parametrize("name", ["adapter.safetensors", "state.json"])
def test_file_that_changed_since_it_was_written_is_not_stored(
    storage: Storage, checkpoint: Path, tmp_path: Path, name: str
) -> None:
    data = (checkpoint / name).read_bytes()
    (checkpoint / name).write_bytes(data[:-1] + b"x")
    with pytest.raises(StorageError, match=f"{name} changed after it was written.*disk$"):
        storage.write_folder("t1/epoch-0001", checkpoint)
    assert storage.list_folders("t1") == []
    assert not storage.read_folder("t1/epoch-0001", tmp_path / "back")


def test_damaged_manifest_is_not_stored(storage: Storage, checkpoint: Path) -> None:
    (checkpoint / MANIFEST).write_text('{"state.json": "xx')
    with pytest.raises(StorageError, match=f"{MANIFEST} is damaged"):
        storage.write_folder("t1/epoch-0001", checkpoint)
    assert storage.list_folders("t1") == []


@pytest.mark.parametrize("name", ["../t1", "/etc", "t1//x", "t1/.hidden", ""])
def test_name_that_leads_elsewhere_is_refused(
    storage: Storage, checkpoint: Path, name: str
) -> None:
    with pytest.raises(ValueError):
        storage.write_folder(name, checkpoint)


def test_manifest_that_names_a_file_elsewhere_is_not_believed(
    storage: Storage, checkpoint: Path, tmp_path: Path
) -> None:
    storage.write_folder("t1/epoch-0001", checkpoint)
    manifest = tmp_path / "kept" / "t1" / "epoch-0001" / MANIFEST
    manifest.write_text(json.dumps({"../../../epoch-0001/state.json": "0"}))
    assert not storage.read_folder("t1/epoch-0001", tmp_path / "back")


def rewrite_manifest(folder: Path, prefix: str) -> None:
    """Write a manifest with BLAKE2b's checksums, as release 0.1 did, after ``prefix``."""
    files = [file for file in sorted(folder.iterdir()) if file.name != MANIFEST]
    sums = {f.name: prefix + hashlib.blake2b(f.read_bytes()).hexdigest()[:32] for f in files}
    (folder / MANIFEST).write_text(json.dumps(sums))


def test_folder_of_an_earlier_release_is_read_and_verified(
    storage: Storage, checkpoint: Path, tmp_path: Path
) -> None:
    storage.write_folder("t1/epoch-0001", checkpoint)
    kept = tmp_path / "kept" / "t1" / "epoch-0001"
    rewrite_manifest(kept, "")
    assert storage.read_folder("t1/epoch-0001", tmp_path / "back")
    assert read_checkpoint(tmp_path / "back") is not None
    (kept / "state.json").write_text('{"epoch": 2}')
    assert not storage.read_folder("t1/epoch-0001", tmp_path / "again")


def test_folder_of_a_later_release_counts_as_damaged(
    storage: Storage, checkpoint: Path, tmp_path: Path
) -> None:
    storage.write_folder("t1/epoch-0001", checkpoint)
    rewrite_manifest(tmp_path / "kept" / "t1" / "epoch-0001", "blake4:")
    assert not storage.read_folder("t1/epoch-0001", tmp_path / "back")


def test_password_in_the_uri_is_refused_and_not_repeated() -> None:
    with pytest.raises(StorageError) as refused:
        open_storage("s3://KEY:SECRET@bucket/x")
    assert "SECRET" not in str(refused.value)


def test_unknown_scheme_is_named() -> None:
    with pytest.raises(StorageError, match="ftp://host/x: not a storage location"):
        open_storage("ftp://host/x")


def test_place_that_cannot_be_written_says_so(checkpoint: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StorageError, match="cannot be written"):
        open_storage(str(tmp_path / "file")).write_folder("t1/epoch-0001", checkpoint)
