"""The device that trains: its errors and its memory, without a GPU."""

import pytest
import torch

from sweep.models.device import (
    PeakMemory,
    free_gpu_memory,
    is_gpu_lost,
    is_out_of_memory,
    measure_peak_memory,
)

GPU, CPU = torch.device("cuda"), torch.device("cpu")
MIB = 2**20

# As PyTorch 2.13 raises them: the first line is CUDA's, the others are PyTorch's own.
ILLEGAL = torch.AcceleratorError(
    "CUDA error: an illegal memory access was encountered\nSearch for `cudaErrorIllegalAddress' in "
    "https://docs.nvidia.com/cuda/cuda-runtime-api/group__CUDART__TYPES.html for more information."
    "\nCUDA kernel errors might be asynchronously reported at some other API call, so the "
    "stacktrace below might be incorrect.\nCompile with `TORCH_USE_CUDA_DSA` to enable device-side "
    "assertions.\n"
)
LOST = [
    ILLEGAL,
    torch.AcceleratorError("CUDA error: device-side assert triggered\nCompile with ..."),
    RuntimeError("CUDA error: unspecified launch failure"),
    RuntimeError("CUDA error: CUBLAS_STATUS_EXECUTION_FAILED when calling `cublasSgemm( handle)`"),
    RuntimeError("cuDNN error: CUDNN_STATUS_EXECUTION_FAILED"),
    RuntimeError("CUDA driver error: an illegal instruction was encountered"),
    RuntimeError("Triton Error [CUDA]: misaligned address"),
    torch.AcceleratorError("CUDA error: operation not supported on global/shared address space"),
    # Advice in PyTorch's own lines is no part of the error.
    torch.AcceleratorError("CUDA error: unspecified launch failure\nSearch for invalid argument"),
]
MEMORY = [
    torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB"),
    torch.AcceleratorError("CUDA error: out of memory\nSearch for `cudaErrorMemoryAllocation' in"),
    RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"),
    RuntimeError("cuDNN error: CUDNN_STATUS_INTERNAL_ERROR_DEVICE_ALLOCATION_FAILED"),
    RuntimeError("Triton Error [CUDA]: out of memory"),
    MemoryError(),
]
OTHERS = [
    RuntimeError("CUDA error: CUBLAS_STATUS_NOT_SUPPORTED when calling `cublasGemmEx(handle)`"),
    RuntimeError("cuDNN error: CUDNN_STATUS_BAD_PARAM"),
    torch.AcceleratorError(
        "CUDA error: no kernel image is available for execution on the device\nSearch for `cuda..."
    ),
    torch.AcceleratorError("CUDA error: invalid configuration argument"),
    torch.AcceleratorError("CUDA error: operation not supported"),
    torch.AcceleratorError("CUDA error: invalid device function"),
    torch.AcceleratorError("CUDA error: invalid argument\nSearch for `cudaErrorInvalidValue' in"),
    RuntimeError("Triton Error [CUDA]: invalid argument"),
    RuntimeError("mat1 and mat2 shapes cannot be multiplied (2x3 and 4x5)"),
    ValueError("CUDA error: a sentence in a text"),
]


@pytest.mark.parametrize("error", LOST)
def test_cuda_error_that_leaves_no_gpu_is_none_of_memory(error: Exception) -> None:
    assert is_gpu_lost(error)
    assert not is_out_of_memory(error)


@pytest.mark.parametrize("error", MEMORY)
def test_process_that_is_out_of_memory_keeps_its_gpu(error: Exception) -> None:
    assert is_out_of_memory(error)
    assert not is_gpu_lost(error)


@pytest.mark.parametrize("error", OTHERS)
def test_other_errors_are_the_trials_own(error: Exception) -> None:
    assert not is_gpu_lost(error)
    assert not is_out_of_memory(error)


class Allocator:
    """The statistics of a GPU's allocator, as ``torch.cuda`` gives them."""

    def __init__(self, patch: pytest.MonkeyPatch) -> None:
        self.allocated = self.peak = 0
        patch.setattr(torch.cuda, "memory_allocated", lambda device: self.allocated)
        patch.setattr(torch.cuda, "max_memory_allocated", lambda device: self.peak)
        patch.setattr(torch.cuda, "reset_peak_memory_stats", lambda device: self.reset())

    def reset(self) -> None:
        self.peak = self.allocated

    def add(self, size: int) -> None:
        self.allocated += size
        self.peak = max(self.peak, self.allocated)


@pytest.fixture
def allocator(monkeypatch: pytest.MonkeyPatch) -> Allocator:
    return Allocator(monkeypatch)


def test_free_memory_counts_what_this_process_keeps_unused(
    monkeypatch: pytest.MonkeyPatch, allocator: Allocator
) -> None:
    allocator.add(300 * MIB)
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device: (100 * MIB, 900 * MIB))
    monkeypatch.setattr(torch.cuda, "memory_reserved", lambda device: 700 * MIB)
    assert free_gpu_memory(GPU) == 500 * MIB


def test_each_trial_has_the_peak_of_its_own_life(allocator: Allocator) -> None:
    peaks = PeakMemory(GPU)
    peaks.join("first")
    allocator.add(8 * MIB)
    allocator.add(-6 * MIB)
    peaks.join("second")
    allocator.add(3 * MIB)
    assert (peaks.read("first"), peaks.read("second")) == (8 * MIB, 5 * MIB)
    peaks.leave("first")
    allocator.add(-4 * MIB)
    peaks.join("third")
    allocator.add(1 * MIB)
    assert (peaks.read("second"), peaks.read("third")) == (5 * MIB, 2 * MIB)
    allocator.add(9 * MIB)
    assert (peaks.read("second"), peaks.read("third")) == (11 * MIB, 11 * MIB)


def test_trial_that_joins_again_begins_a_new_life(allocator: Allocator) -> None:
    peaks = PeakMemory(GPU)
    peaks.join("trial")
    allocator.add(8 * MIB)
    allocator.add(-7 * MIB)
    peaks.leave("trial")
    peaks.leave("trial")
    peaks.join("trial")
    assert peaks.read("trial") == 1 * MIB


def test_peak_on_a_cpu_is_that_of_the_process() -> None:
    peaks = PeakMemory(CPU)
    peaks.join("trial")
    assert peaks.read("trial") == measure_peak_memory(CPU) > 10 * MIB
