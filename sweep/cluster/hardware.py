"""What this machine has: processors, memory, GPUs, and how fast it multiplies matrices."""

import os
import shutil
import subprocess
import time
from collections.abc import Sequence
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
# The same in float32, from the same data sheets: not on tensor cores, since PyTorch multiplies
# float32 matrices in TF32 only if told to (``torch.backends.cuda.matmul.allow_tf32``).
GPU_FLOAT32_TERAFLOPS = {
    "B200": 75.0,
    "H200": 67.0,
    "H100": 67.0,
    "A100": 19.5,
    "L40": 90.5,
    "L4": 30.3,
    "A40": 37.4,
    "A10": 31.2,
    "RTX 4090": 82.6,
    "RTX 3090": 35.6,
    "V100": 15.7,
    "T4": 8.1,
}
# A quarter of the above, as on L4, A40 and A10.
UNKNOWN_GPU_FLOAT32_TERAFLOPS = 15.0
# What ``nvidia-smi`` is asked of each GPU.
CARD_FIELDS = "name,memory.total,uuid,mig.mode.current"
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
    """A GPU or, where it is split into MIG devices, one of these; 0 bytes if they are unknown."""

    name: str
    memory_bytes: int


@dataclass(frozen=True)
class Card:
    """A GPU as ``nvidia-smi`` lists it, and its UUID."""

    gpu: Gpu
    uuid: str


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
    """Return the NVIDIA GPUs that ``nvidia-smi`` lists, or those of them that the environment
    variable CUDA_VISIBLE_DEVICES names; none if ``nvidia-smi`` is missing."""
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    if visible == "" or not shutil.which("nvidia-smi"):
        return ()
    command = ["nvidia-smi", f"--query-gpu={CARD_FIELDS}", "--format=csv,noheader,nounits"]
    try:
        answer = subprocess.run(command, capture_output=True, text=True, timeout=10, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return ()
    return choose_visible(parse_cards(answer.stdout), visible)


def parse_cards(text: str) -> list[Card]:
    """Return the GPUs in lines of ``CARD_FIELDS``, memory in MiB; other lines are ignored."""
    found = []
    for line in text.splitlines():
        fields = [field.strip() for field in line.rsplit(",", 3)]
        if len(fields) == 4:
            name, memory, uuid, mig = fields
            # A process on a card that is split gets a part of this memory.
            known = memory.isdigit() and mig != "Enabled"
            found.append(Card(Gpu(name, int(memory) * 2**20 if known else 0), uuid))
    return found


def choose_visible(cards: Sequence[Card], visible: str | None) -> tuple[Gpu, ...]:
    """Return the GPUs that ``visible``, the value of CUDA_VISIBLE_DEVICES, names by index, UUID or
    MIG id, in its order; all without one.

    As in CUDA, nothing counts from the first name on that is not found (CUDA C++ Programming Guide,
    "CUDA Environment Variables"). An index is the one of ``nvidia-smi``, which is CUDA's where all
    GPUs are of one kind.
    """
    if visible is None:
        return tuple(card.gpu for card in cards)
    found: list[Gpu] = []
    for name in visible.split(","):
        gpu = _find_gpu(cards, name.strip())
        # Ray offers no more GPUs than there are cards, into however many parts these are split.
        if gpu is None or len(found) == len(cards):
            break
        found.append(gpu)
    return tuple(found)


def _find_gpu(cards: Sequence[Card], name: str) -> Gpu | None:
    if name.isdecimal():
        return cards[int(name)].gpu if int(name) < len(cards) else None
    if name.startswith("MIG-"):
        # Older ids contain the card's: MIG-GPU-<UUID>/<instance>/<instance>.
        of_card = [card for card in cards if card.uuid in name] or cards
        return Gpu(of_card[0].gpu.name, 0) if of_card else None
    matching = [card.gpu for card in cards if name and card.uuid.startswith(name)]
    return matching[0] if len(matching) == 1 else None


def assume_gpu_flops(name: str, dtype: str) -> tuple[float, bool]:
    """Return a GPU's peak operations per second in the number format ``dtype``, and whether its
    name is in the table."""
    table, unknown = GPU_TERAFLOPS, UNKNOWN_GPU_TERAFLOPS
    if dtype == "float32":
        table, unknown = GPU_FLOAT32_TERAFLOPS, UNKNOWN_GPU_FLOAT32_TERAFLOPS
    for known, teraflops in table.items():
        if known in name:
            return teraflops * 1e12, True
    return unknown * 1e12, False


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


def measure_busy_share(seconds: float) -> float | None:
    """Return the part of this machine's CPU time that is used over the next ``seconds``, from 0 to
    1; None if the system does not say."""
    before = _read_ticks()
    time.sleep(seconds)
    after = _read_ticks()
    if before is None or after is None or after[1] == before[1]:
        return None
    return (after[0] - before[0]) / (after[1] - before[1])


def _read_ticks() -> tuple[int, int] | None:
    """Return the ticks of all CPUs, used and in total, since the machine started."""
    try:
        line = Path("/proc/stat").read_text().splitlines()[0]
    except OSError:
        return None
    # user, nice, system, idle, iowait, irq, softirq, steal; what follows is part of the first two
    # (https://docs.kernel.org/filesystems/proc.html).
    ticks = [int(field) for field in line.split()[1:9]]
    return sum(ticks) - sum(ticks[3:5]), sum(ticks)
