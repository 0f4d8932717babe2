"""What a process that trains checks before it does."""

import os
from pathlib import Path

import pytest
import torch

from sweep.cluster.visible_gpus import VARIABLE
from sweep.workers.lost_gpu import GpuLostError
from sweep.workers.own_torch import CACHE, find_cache, prepare_torch


@pytest.fixture(autouse=True)
def cuda_build_without_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.version, "cuda", "13.0")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)


def test_process_whose_gpu_does_not_work_trains_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(VARIABLE, "3")
    with pytest.raises(GpuLostError, match=r"GPU 3 was assigned .* nvidia-smi"):
        prepare_torch(torch.get_num_threads())


def test_process_without_a_gpu_trains_on_the_cpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(VARIABLE, "")
    prepare_torch(torch.get_num_threads())


@pytest.fixture
def temporary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    monkeypatch.setenv(VARIABLE, "")
    monkeypatch.delenv(CACHE, raising=False)
    return tmp_path


def test_compiled_code_is_kept_where_no_other_user_writes(temporary: Path) -> None:
    for _ in range(2):
        prepare_torch(torch.get_num_threads())
        folder = Path(os.environ.pop(CACHE))
        assert folder == temporary / f"sweep-compiled-{os.getuid()}"
        assert folder.stat().st_mode & 0o777 == 0o700


def test_a_folder_that_others_could_write_to_is_not_used(temporary: Path) -> None:
    first = find_cache()
    first.chmod(0o777)
    assert find_cache() != first
    first.rmdir()
    first.symlink_to(temporary)
    assert find_cache() != first
    first.unlink()
    first.write_text("")
    assert find_cache() != first


def test_a_folder_that_is_named_is_used(temporary: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(CACHE, "/elsewhere")
    prepare_torch(torch.get_num_threads())
    assert os.environ[CACHE] == "/elsewhere"
