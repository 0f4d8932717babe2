"""What a process that trains checks before it does."""

import pytest
import torch

from sweep.cluster.visible_gpus import VARIABLE
from sweep.workers.lost_gpu import GpuLostError
from sweep.workers.own_torch import prepare_torch


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
