"""How a trial's failure is told, where no process has to end for it."""

import pytest
import torch

from sweep.workers.failures import explain_failure
from sweep.workers.lost_gpu import GpuLostError


def test_gpu_that_pytorch_was_not_built_for_fails_the_trial_with_a_remedy() -> None:
    error = torch.AcceleratorError(
        "CUDA error: no kernel image is available for execution on the device\nSearch for `cuda..."
    )
    result = explain_failure(error)
    assert result["status"] == "failed"
    assert result["error"].startswith("CUDA error: no kernel image is available for execution on")
    assert "install a PyTorch build for this GPU's compute capability" in result["error"]


def test_call_that_cuda_refuses_fails_the_trial_and_an_illegal_access_ends_the_process() -> None:
    refused = torch.AcceleratorError("CUDA error: invalid configuration argument\nSearch for ...")
    assert "CUDA error: invalid configuration argument" in explain_failure(refused)["error"]
    with pytest.raises(GpuLostError):
        explain_failure(torch.AcceleratorError("CUDA error: an illegal memory access was ..."))
