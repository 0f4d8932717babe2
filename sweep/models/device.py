"""The device that trains: its name, its memory, and what is fastest on it."""

import copy
import ctypes
import math
import platform
import re
import resource
import sys
import time

import torch
from transformers import PreTrainedModel

from sweep.errors import first_line
from sweep.models.flat.attention import composes
from sweep.models.flat.texts import FlatTexts
from sweep.models.float16 import store_in_float16
from sweep.models.forward_pass import choose_forward
from sweep.models.full_pass import ForwardPass

# On a CPU, bfloat16 must be this much faster to be worth its lower precision.
BFLOAT16_GAIN = 1.2
# Texts, and tokens of each, in the batch that is timed in both formats.
MEASURED_TEXTS = (8, 16)

# The first compute capability with tensor cores, which multiply float16 matrices: V100's; T4 and
# RTX 20 have 7.5. Before, float16 is at best twice as fast as float32 (6.0), and 64 times slower at
# 6.1 (GTX 10): CUDA C++ Programming Guide, "Throughput of Native Arithmetic Instructions".
FAST_FLOAT16 = (7, 0)

# Parameters of glibc's mallopt(3), and the largest mmap threshold that it accepts.
M_TRIM_THRESHOLD, M_TOP_PAD, M_MMAP_THRESHOLD = -1, -2, -3
MAPPED_BYTES = 32 * 2**20

# In the plain RuntimeErrors of PyTorch's allocators and CUDA's libraries.
MEMORY_SIGNS = (
    "out of memory", "can't allocate memory", "_STATUS_ALLOC_FAILED", "_ALLOCATION_FAILED",
)  # fmt: skip
# What errors of CUDA's runtime, its driver and its libraries say first (PyTorch's c10/cuda/
# CUDAException.cpp and ATen/cuda/Exceptions.h), and those of Triton's kernels.
CUDA_SIGNS = (
    "CUDA error: ", "CUDA driver error: ", "cuDNN error: ", "cuDNN Frontend error: ",
    "Triton Error [CUDA]: ",
)  # fmt: skip
# Calls that CUDA or a library refused: nothing has run, and the next call may succeed. The texts
# are those of cudaGetErrorString; of these errors, the CUDA Runtime API ("Data types used by CUDA
# Runtime", cudaError) does not say that they leave the process in an inconsistent state, as it does
# of an "operation not supported on global/shared address space".
MISSING_KERNEL = "no kernel image is available"
REFUSALS = re.compile(
    "_STATUS_(NOT_SUPPORTED|INVALID_VALUE|BAD_PARAM|ARCH_MISMATCH)|operation not supported(?! on)|"
    "invalid (argument|configuration argument|device function)|too many resources requested for|"
    f"{MISSING_KERNEL}|device kernel image is invalid|PTX was compiled with an unsupported"
)


def convert_dtype(
    model: PreTrainedModel, requested: str, device: torch.device
) -> tuple[PreTrainedModel, ForwardPass]:
    """Return ``model`` on ``device`` in the requested number format, and its forward pass.

    ``auto`` means ``read_gpu_dtype`` on a GPU. On a CPU it means the format in which a training
    step of this model is faster, as measured here: bfloat16 gains much in wide layers, and loses
    in narrow ones.
    """
    if requested == "auto" and device.type == "cuda":
        requested = read_gpu_dtype(device)
    if requested == "float16":
        store_in_float16(model.to(device))
        return model, choose_forward(model)
    if requested != "auto":
        model = model.to(device, torch.bfloat16 if requested == "bfloat16" else torch.float32)
        return model, choose_forward(model)
    wide = model.to(device, torch.float32)
    if not multiplies_faster_in_bfloat16(wide):
        return wide, choose_forward(wide)
    narrow = copy.deepcopy(wide).to(torch.bfloat16)
    plain, half = ((each, choose_forward(each)) for each in (wide, narrow))
    return half if _measure_gain(plain, half) >= BFLOAT16_GAIN else plain


def convert_full(
    model: PreTrainedModel, requested: str, device: torch.device
) -> tuple[PreTrainedModel, ForwardPass, torch.dtype]:
    """Return ``model`` on ``device`` in float32, its forward pass, and the number format of its
    passes: AdamW's small updates of weights would be lost in 16 bits (Micikevicius et al. 2018,
    arXiv:1710.03740), so these stay float32 and are converted as they are used.

    ``auto`` means what it does for ``convert_dtype``.
    """
    model = model.to(device, torch.float32)
    forward = choose_forward(model, trains_base=True)
    if requested == "auto" and device.type == "cuda":
        requested = read_gpu_dtype(device)
    if requested == "auto":
        requested = "bfloat16" if _gains_by_casting(model, forward) else "float32"
    return model, forward, getattr(torch, requested)


def _gains_by_casting(model: PreTrainedModel, forward: ForwardPass) -> bool:
    if not multiplies_faster_in_bfloat16(model):
        return False
    texts = _build_texts()
    model.requires_grad_(True)
    times: dict[torch.dtype, list[float]] = {torch.float32: [], torch.bfloat16: []}
    for dtype in times:
        _pass(model, forward, texts, dtype)  # warm-up
    while min(map(len, times.values())) < 10 and sum(map(sum, times.values())) < 1.0:
        for dtype, taken in times.items():
            taken.append(_pass(model, forward, texts, dtype))
    model.requires_grad_(False)
    model.zero_grad()
    plain, half = (min(taken, default=1.0) for taken in times.values())
    return plain / half >= BFLOAT16_GAIN


def multiplies_faster_in_bfloat16(model: PreTrainedModel) -> bool:
    """Return whether this CPU multiplies matrices as wide as those of ``model`` faster in bfloat16:
    the best of five products. Where it does not, no step of the model can be faster, and one takes
    long: without instructions for it, 20 seconds for a model of 135 million parameters."""
    tokens, width = math.prod(MEASURED_TEXTS), model.config.get_text_config().hidden_size
    pairs = [
        (torch.ones(tokens, width, dtype=dtype), torch.ones(width, 4 * width, dtype=dtype))
        for dtype in (torch.float32, torch.bfloat16)
    ]
    times: list[list[float]] = [[], []]
    for _ in range(5):
        for (rows, weight), taken in zip(pairs, times, strict=True):
            start = time.perf_counter()
            torch.mm(rows, weight)
            taken.append(time.perf_counter() - start)
    plain, half = map(min, times)
    return half < plain


def read_gpu_dtype(device: torch.device) -> str:
    """Return the number format that ``auto`` means on the GPU ``device``."""
    # On a GPU without bfloat16, PyTorch emulates it, slowly.
    native = torch.cuda.is_bf16_supported(including_emulation=False)
    return choose_gpu_dtype(native, torch.cuda.get_device_capability(device))


def choose_gpu_dtype(native_bfloat16: bool, capability: tuple[int, int]) -> str:
    """Return the number format that is fastest on a GPU of this compute capability."""
    if native_bfloat16:
        return "bfloat16"
    return "float16" if capability >= FAST_FLOAT16 else "float32"


def _measure_gain(
    plain: tuple[PreTrainedModel, ForwardPass], half: tuple[PreTrainedModel, ForwardPass]
) -> float:
    """Return how many times faster ``half`` is, forward and backward through a batch of short
    texts: the best of up to ten runs of each, which take a second or two with a small model."""
    texts = _build_texts()
    attention = half[0].config._attn_implementation
    choose_attention(half[0], texts.longest)
    for model, forward in (plain, half):
        model.enable_input_require_grads()
        _pass(model, forward, texts)  # warm-up
    times: list[tuple[float, float]] = []
    while not times or (len(times) < 10 and sum(map(sum, times)) < 1.0):
        # In turn, so that other load on the machine slows both.
        times.append((_pass(*plain, texts), _pass(*half, texts)))
    for model, _ in (plain, half):
        model.disable_input_require_grads()
    half[0].set_attn_implementation(attention)
    plain_times, half_times = zip(*times, strict=True)
    return float(min(plain_times) / min(half_times))


def cast_to(device: torch.device, dtype: torch.dtype) -> torch.autocast:
    """Return a context in which a model computes in ``dtype``, although adapters are float32."""
    return torch.autocast(device.type, dtype, enabled=dtype != torch.float32)


def choose_attention(model: PreTrainedModel, max_length: int) -> None:
    """Set the attention of ``model`` that is fastest for texts of up to ``max_length`` tokens.

    That is PyTorch's fused kernel, except in bfloat16 on a CPU, where its backward pass is slow
    for short texts (see ``attention.EAGER_TOKENS``).
    """
    if composes(model.dtype, model.device.type == "cpu", max_length):
        model.set_attn_implementation("eager")


def keep_freed_memory() -> None:
    """Have glibc keep the memory that this process frees, rather than return it to the system.

    Every step frees and allocates the same few hundred activations of up to some megabytes. With
    glibc's defaults their pages come and go, and touching a new page costs more than computing
    what goes into it. Without glibc this does nothing.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None) if sys.platform == "linux" else None
    if mallopt is not None:
        mallopt(M_MMAP_THRESHOLD, MAPPED_BYTES)
        mallopt(M_TRIM_THRESHOLD, 2**31 - 1)
        mallopt(M_TOP_PAD, 2 * MAPPED_BYTES)


def _build_texts() -> FlatTexts:
    ids = torch.ones(MEASURED_TEXTS, dtype=torch.long)
    return FlatTexts.from_padded(ids, torch.ones_like(ids), pad_id=0)


def _pass(
    model: PreTrainedModel,
    forward: ForwardPass,
    texts: FlatTexts,
    dtype: torch.dtype | None = None,
) -> float:
    start = time.perf_counter()
    with cast_to(texts.ids.device, dtype or model.dtype):
        logits = forward(texts)
    torch.autograd.backward(logits.float().sum())
    return time.perf_counter() - start


def name_device(device: torch.device) -> str:
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    return f"CPU ({platform.machine()}, {torch.get_num_threads()} threads)"


def is_out_of_memory(error: Exception) -> bool:
    """Return whether ``error`` means that a GPU or this machine is out of memory."""
    if isinstance(error, torch.OutOfMemoryError | MemoryError):
        return True
    return isinstance(error, RuntimeError) and any(sign in str(error) for sign in MEMORY_SIGNS)


def is_gpu_lost(error: Exception) -> bool:
    """Return whether ``error`` is a CUDA error after which this process must not use its GPU.

    After an illegal address, a failed assertion in a kernel or a failed launch, every call fails
    until the process ends (CUDA Runtime API, "Data types used by CUDA Runtime", cudaError). Out of
    memory, and a call that CUDA or a library refused (``REFUSALS``), are no such errors: they leave
    the GPU usable, and a refusal would come again in another process.
    """
    # PyTorch's own lines follow the first, with advice about all errors.
    if is_out_of_memory(error) or REFUSALS.search(first_line(error)):
        return False
    if isinstance(error, torch.AcceleratorError | torch.cuda.CudaError):
        return True
    return isinstance(error, RuntimeError) and any(sign in str(error) for sign in CUDA_SIGNS)


def lacks_kernels(error: Exception) -> bool:
    """Return whether ``error`` means that PyTorch was not built for this GPU."""
    return isinstance(error, RuntimeError) and MISSING_KERNEL in first_line(error)


def free_gpu_memory(device: torch.device) -> int:
    """Return the bytes that this process can still allocate on the GPU ``device``: what the driver
    has left, and what PyTorch's allocator keeps for this process but does not use."""
    free, _ = torch.cuda.mem_get_info(device)
    kept = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
    return int(free + kept)


def measure_peak_memory(device: torch.device) -> int:
    """Return peak memory in bytes: allocated on a GPU since its statistics were last reset, or
    resident in this process since it began."""
    if device.type == "cuda":
        return int(torch.cuda.max_memory_allocated(device))
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return int(peak if sys.platform == "darwin" else peak * 1024)


class PeakMemory:
    """The peak memory, in bytes, of each of several trials that share a process, over its own life:
    what all of them had allocated on the GPU at most while it was there. On a CPU it is what was
    resident in this process since it began."""

    def __init__(self, device: torch.device) -> None:
        self._device = device
        # Trial id -> the peak up to the latest join. What came after is in the device's statistics.
        self._peaks: dict[str, int] = {}

    def join(self, trial_id: str) -> None:
        """Begin the life of a trial; one that is there begins anew."""
        self._peaks = {name: self.read(name) for name in self._peaks}
        if self._device.type == "cuda":
            torch.cuda.reset_peak_memory_stats(self._device)
        self._peaks[trial_id] = 0

    def leave(self, trial_id: str) -> None:
        """End the life of a trial, if it is there."""
        self._peaks.pop(trial_id, None)

    def read(self, trial_id: str) -> int:
        """Return the peak of a trial so far; raise KeyError if it is not there."""
        return max(self._peaks[trial_id], measure_peak_memory(self._device))
