"""What a trial gets from a machine or a cluster: GPUs, CPUs, and a slot in a pack."""

import math
from collections.abc import Collection
from dataclasses import dataclass, replace
from typing import Literal

from sweep.cluster.hardware import Machine
from sweep.config import Config, ResourcesConfig
from sweep.errors import ClusterError
from sweep.storage.forecast import PackBytes

EngineName = Literal["solo", "packed"]

# Fraction of a GPU's memory that trials may fill; the driver and fragmentation take the rest.
USABLE_GPU = 0.92
# Most trials that share a GPU: more would only wait for one another.
MAX_PER_GPU = 8
# Most packed trials at a time on a GPU, unless the configuration sets the number.
MAX_SLOTS = 16
# Packed trials at a time on a GPU if memory needs are unknown.
DEFAULT_SLOTS = 8
# Packed trials at a time on a CPU core. More train faster (a tiny Llama in batches of 16 took one
# core 68,000 tokens a second alone, 111,000 by twos and 142,000 by fours: ``python -m
# benchmarks.packs``), but each trial's actor takes over a second of the core to start: 16 trials of
# four epochs took 34 s with two slots on each of two cores, 33 with three, 42 with four; alone, 36.
CPU_SLOTS = 2


@dataclass(frozen=True)
class Arrangement:
    """How trials share machines: ``trials`` at a time, which ``devices`` compute. These are GPUs,
    or the groups of CPUs on which a trial or, with packs, a host runs."""

    engine: EngineName
    trials: int
    devices: int

    @property
    def per_device(self) -> float:
        """How many trials share a device; below 1 if a trial has several to itself."""
        return self.trials / self.devices


def choose_engine(resources: ResourcesConfig, has_gpus: bool) -> EngineName:
    """Return the engine that trains; ``auto`` means packed where there are GPUs."""
    if resources.engine == "auto":
        return "packed" if has_gpus else "solo"
    return resources.engine


def use_gpus(resources: ResourcesConfig, machine: Machine) -> Machine:
    """Return ``machine`` without its GPUs if the configuration leaves them alone."""
    leaves = resources.engine == "solo" and resources.gpus_per_trial == 0
    return replace(machine, gpus=()) if leaves else machine


def arrange(
    engine: EngineName,
    resources: ResourcesConfig,
    machine: Machine,
    memory_bytes: int,
    packs: Collection[PackBytes] = (),
) -> Arrangement:
    """Return how trials of up to ``memory_bytes``, or on hosts of up to ``packs``, share
    ``machine``."""
    gpus = len(machine.gpus)
    if engine == "packed":
        size = min((gpu.memory_bytes for gpu in machine.gpus), default=None)
        devices = gpus or max(1, int(machine.cpus // resources.cpus_per_trial))
        slots = choose_slots(resources, packs, size, bool(gpus))
        return Arrangement(engine, slots * devices, devices)
    trials = count_slots(resources, machine, memory_bytes)
    shared = gpus and trial_gpus(resources, machine, memory_bytes)
    return Arrangement(engine, trials, min(trials, gpus) if shared else trials)


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
    packs: Collection[PackBytes],
    gpu_bytes: int | None,
    on_gpu: bool,
) -> int:
    """Return how many packed trials share a host, on a GPU of ``gpu_bytes`` or on CPUs: as many as
    fit whichever of ``packs`` it holds, at least 1."""
    if resources.slots != "auto":
        return resources.slots
    if not on_gpu:
        return CPU_SLOTS
    if not packs or not gpu_bytes:
        return DEFAULT_SLOTS
    fit = min(pack.count_slots(USABLE_GPU * gpu_bytes) for pack in packs)
    return max(1, min(MAX_SLOTS, fit))


def count_hosts(slots: int, packs: Collection[PackBytes], gpu_bytes: int | None) -> int:
    """Return how many hosts with ``slots`` trials each fit on a GPU of ``gpu_bytes``, whichever of
    ``packs`` they hold: at least 1, and 1 if sizes are unknown."""
    if not packs or not gpu_bytes:
        return 1
    return max(1, int(USABLE_GPU * gpu_bytes // max(pack.total(slots) for pack in packs)))


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
        slots = min(slots, _count_shares(len(machine.gpus), gpus))
    return max(1, slots)


def _count_shares(gpus: int, share: float) -> int:
    """Return how many trials with ``share`` each fit on ``gpus``; a fraction is of one GPU."""
    if share >= 1:
        return int(gpus / share)
    return gpus * (10_000 // max(1, round(10_000 * share)))


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
