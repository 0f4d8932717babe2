"""What a trial gets from a machine or a cluster: GPUs, CPUs, and a slot in a pack."""

import math

from sweep.cluster.hardware import Machine
from sweep.config import Config, ResourcesConfig
from sweep.errors import ClusterError

# Fraction of a GPU's memory that trials may fill; the driver and fragmentation take the rest.
USABLE_GPU = 0.92
# Most trials that share a GPU: more would only wait for one another.
MAX_PER_GPU = 8
# Most packed trials at a time on a GPU, unless the configuration sets the number.
MAX_SLOTS = 16
# Packed trials at a time on a GPU if memory needs are unknown.
DEFAULT_SLOTS = 8
# On a CPU core, more concurrent trials than this gain little: with a tiny Llama in batches of 16,
# one core processed 68,000 tokens a second for one trial, 111,000 for two, 142,000 for four,
# 138,000 for eight (``python -m benchmarks.packs``), and each trial's actor takes over a second of
# the core to start.
CPU_SLOTS = 4


def choose_gpu_share(memory_bytes: int | None, gpu_bytes: int | None) -> float:
    """Return the fraction of a GPU that one trial of ``memory_bytes`` gets on GPUs of
    ``gpu_bytes``: one over how many fit, from 1/8 to 1; 1 if either is unknown.

    Rounded down to 1/10,000, Ray's resolution, so that the fractions never exceed 1 in total.
    """
    if not memory_bytes or not gpu_bytes:
        return 1.0
    fit = int(USABLE_GPU * gpu_bytes // memory_bytes)
    return math.floor(10_000 / min(MAX_PER_GPU, max(1, fit))) / 10_000


def choose_slots(
    resources: ResourcesConfig,
    memory_bytes: int | None,
    slot_bytes: int | None,
    gpu_bytes: int | None,
    on_gpu: bool,
) -> int:
    """Return how many packed trials share a host, on a GPU of ``gpu_bytes`` or on CPUs: the first
    takes ``memory_bytes``, base model included, each additional one ``slot_bytes``."""
    if resources.slots != "auto":
        return resources.slots
    if not on_gpu:
        return CPU_SLOTS
    if not memory_bytes or not slot_bytes or not gpu_bytes:
        return DEFAULT_SLOTS
    further = int((USABLE_GPU * gpu_bytes - memory_bytes) // slot_bytes)
    return max(1, min(MAX_SLOTS, 1 + further))


def count_hosts(
    slots: int, memory_bytes: int | None, slot_bytes: int | None, gpu_bytes: int | None
) -> int:
    """Return how many hosts with ``slots`` trials each fit on a GPU of ``gpu_bytes``: at least 1,
    and 1 if a size is unknown. Sizes are those of ``choose_slots``."""
    if not memory_bytes or not slot_bytes or not gpu_bytes:
        return 1
    return max(1, int(USABLE_GPU * gpu_bytes // (memory_bytes + (slots - 1) * slot_bytes)))


def trial_gpus(resources: ResourcesConfig, machine: Machine, memory_bytes: int) -> float:
    """Return the number of GPUs, or the fraction of one, that a trial gets on ``machine``."""
    if resources.gpus_per_trial != "auto":
        return float(resources.gpus_per_trial)
    if not machine.gpus:
        return 0.0
    return choose_gpu_share(memory_bytes, min(gpu.memory_bytes for gpu in machine.gpus))


def count_slots(resources: ResourcesConfig, machine: Machine, memory_bytes: int) -> int:
    """Return how many trials run at a time on ``machine``, at least 1."""
    slots = int(machine.cpus // resources.cpus_per_trial)
    gpus = trial_gpus(resources, machine, memory_bytes)
    if gpus:
        slots = min(slots, int(len(machine.gpus) / gpus))
    return max(1, slots)


def packed_resources(nodes: list[dict[str, float]], slots: int, cpus: float) -> dict[str, float]:
    """Return one trial's share if ``slots`` of them fill a GPU or, without GPUs, ``cpus`` CPUs (or
    a node that has fewer).

    Rounded down to 1/10,000, Ray's resolution, so that the shares never exceed 1 in total. Raises
    ClusterError if no node has a CPU.
    """
    with_gpus = [node for node in nodes if node.get("GPU", 0)]
    # For each node: the CPUs to share, and how many hosts share them.
    available = [
        (node["CPU"], max(1.0, node.get("GPU", 0))) if with_gpus else (min(node["CPU"], cpus), 1.0)
        for node in with_gpus or nodes
        if "CPU" in node
    ]
    if not available:
        raise ClusterError("no node of the cluster has a CPU; start one with 'ray start'")
    share = min(math.floor(10_000 * cpus / (hosts * slots)) / 10_000 for cpus, hosts in available)
    gpus = {"GPU": math.floor(10_000 / slots) / 10_000} if with_gpus else {}
    return {"CPU": max(share, 1e-4), **gpus}


def trial_resources(
    config: Config,
    cluster: dict[str, float],
    memory_bytes: int | None = None,
    gpu_bytes: int | None = None,
) -> dict[str, float]:
    """Return the CPUs and GPUs of one trial; raise ClusterError if the cluster cannot hold it.

    With ``auto`` a trial gets the fraction of a GPU that ``memory_bytes`` is of ``gpu_bytes`` (of
    the smallest GPU), or a full GPU if either is unknown.
    """
    wanted = config.resources.gpus_per_trial
    if wanted == "auto":
        gpus = choose_gpu_share(memory_bytes, gpu_bytes) if cluster.get("GPU", 0.0) else 0.0
    else:
        gpus = float(wanted)
    if gpus > cluster.get("GPU", 0.0):
        raise ClusterError(
            f"resources.gpus_per_trial: {gpus:g} requested, but the cluster has "
            f"{cluster.get('GPU', 0.0):g} GPUs; set it to auto or 0"
        )
    cpus = config.resources.cpus_per_trial
    if cpus > cluster.get("CPU", 0.0):
        raise ClusterError(
            f"resources.cpus_per_trial: {cpus:g} requested, but the cluster has "
            f"{cluster.get('CPU', 0.0):g} CPUs; lower it"
        )
    return {"CPU": cpus, "GPU": gpus} if gpus else {"CPU": cpus}
