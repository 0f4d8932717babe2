"""What this machine has: processors, memory, GPUs, and how fast it multiplies matrices."""

import os
import shutil
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path

# Dense 16-bit tensor throughput in 10^12 floating-point operations per second, from NVIDIA's data
# sheets (https://www.nvidia.com/en-us/data-center/).
GPU_TERAFLOPS = {
    "B200": 2250.0,
    "H200": 989.0,
    "H100": 989.0,
    "A100": 312.0,
    "L40": 181.0,
    "L4": 121.0,
    "A40": 150.0,
    "A10": 125.0,
    "RTX 4090": 165.0,
    "RTX 3090": 71.0,
    "V100": 112.0,
    "T4": 65.0,
}
UNKNOWN_GPU_TERAFLOPS = 60.0
# Memory by Ray's name for the GPU, as listed by ``nvidia-smi``; the smaller of two variants.
GPU_MEBIBYTES = {
    "B200": 183_359,
    "H200": 143_771,
    "H100": 81_559,
    "A100-80G": 81_920,
    "A100": 40_960,
    "L40S": 46_068,
    "L4": 23_034,
    "A10G": 23_028,
    "A10": 23_028,
    "V100": 16_160,
    "T4": 15_360,
}


@dataclass(frozen=True)
class Gpu:
    name: str
    memory_bytes: int


@dataclass(frozen=True)
class Machine:
    cpus: int
    memory_bytes: int
    gpus: tuple[Gpu, ...] = ()


def inspect_machine() -> Machine:
    """Return what this machine has, or what its container allows; nothing is run on a GPU."""
    return Machine(_count_cpus(), _find_memory(), find_gpus())


def _count_cpus() -> int:
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _find_memory() -> int:
    physical = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    try:
        limit = Path("/sys/fs/cgroup/memory.max").read_text().strip()
    except OSError:
        return physical
    return min(physical, int(limit)) if limit.isdigit() else physical


def find_gpus() -> tuple[Gpu, ...]:
    """Return the NVIDIA GPUs that ``nvidia-smi`` lists, in its order; none if it is missing."""
    if os.environ.get("CUDA_VISIBLE_DEVICES") == "" or not shutil.which("nvidia-smi"):
        return ()
    command = ["nvidia-smi", "--query-gpu=name,memory.total", "--format=csv,noheader,nounits"]
    try:
        answer = subprocess.run(command, capture_output=True, text=True, timeout=10, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return ()
    return parse_gpus(answer.stdout)


def parse_gpus(text: str) -> tuple[Gpu, ...]:
    """Return the GPUs in lines of ``name, memory in MiB``; other lines are ignored."""
    found = []
    for line in text.splitlines():
        name, _, memory = line.rpartition(",")
        if name and memory.strip().isdigit():
            found.append(Gpu(name.strip(), int(memory) * 2**20))
    return tuple(found)


def assume_gpu_flops(name: str) -> tuple[float, bool]:
    """Return a GPU's peak operations per second, and whether its name is in the table."""
    for known, teraflops in GPU_TERAFLOPS.items():
        if known in name:
            return teraflops * 1e12, True
    return UNKNOWN_GPU_TERAFLOPS * 1e12, False


def assume_gpu_memory(name: str) -> int:
    """Return the bytes of the GPU that Ray calls ``name``, or 0 if it is not in the table."""
    return GPU_MEBIBYTES.get(name, 0) * 2**20


def measure_cpu_flops(threads: int, seconds: float = 0.15) -> float:
    """Return float32 operations per second of a matrix product the size of a feed-forward layer, on
    ``threads`` threads: the mean over ``seconds``, so that the machine's other load counts too."""
    import numpy as np  # only estimates for a CPU need these
    from threadpoolctl import threadpool_limits

    tokens, width = 256, 768
    x, weight = np.ones((tokens, width), np.float32), np.ones((width, 4 * width), np.float32)
    with threadpool_limits(limits=max(1, threads)):
        x @ weight  # the first call starts threads and touches memory
        products, start = 0, time.perf_counter()
        while (passed := time.perf_counter() - start) < seconds or not products:
            x @ weight
            products += 1
    return products * 2 * tokens * width * 4 * width / passed
