"""What a trial's actor is and what it gets from Ray: by the engine that trains."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import ray
from ray import tune
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from sweep.cluster.allocation import choose_slots, packed_resources, trial_resources
from sweep.cluster.autoscaler import list_worker_types
from sweep.cluster.nodes import find_gpu_memory, list_nodes, wait_for_capacity
from sweep.config import Config, ResourcesConfig
from sweep.data import Subsets
from sweep.workers.host_pool import Hosts
from sweep.workers.packed_actor import ThinTrial
from sweep.workers.solo_actor import SweepTrial


def choose_engine(resources: ResourcesConfig, cluster: dict[str, float]) -> str:
    """Return ``solo`` or ``packed``; ``auto`` means packed where the cluster has GPUs."""
    if resources.engine == "auto":
        return "packed" if cluster.get("GPU", 0.0) else "solo"
    return resources.engine


@dataclass(frozen=True)
class Workers:
    """Which engine trains, what a trial gets from Ray, and how many trials share a host."""

    engine: str
    resources: dict[str, float]
    slots: int = 1


def choose_workers(
    config: Config,
    launched: dict[str, Any] | None,
    predicted: dict[str, Any] | None,
    tell: Callable[[str], None],
) -> Workers:
    """Return the engine and a trial's part of the connected cluster; the workers that ``launched``
    may still start are counted in."""
    capacity = wait_for_capacity(launched, config.resources.cpus_per_trial, tell)
    if launched:
        cpus, gpus = capacity.get("CPU", 0), capacity.get("GPU", 0)
        tell(f"with all its workers it has {cpus:g} CPUs, {gpus:g} GPUs")
    engine = choose_engine(config.resources, capacity)
    memory, gpu = _largest(predicted, "memory_bytes"), find_gpu_memory(launched)
    if engine == "solo":
        return Workers(engine, trial_resources(config, capacity, memory, gpu))
    on_gpu = bool(capacity.get("GPU", 0.0))
    slots = choose_slots(config.resources, memory, _largest(predicted, "slot_bytes"), gpu, on_gpu)
    coming = [kind.resources for kind in list_worker_types(launched or {}) if kind.most]
    nodes = [*(node["Resources"] for node in list_nodes()), *coming]
    return Workers(engine, packed_resources(nodes, slots, config.resources.cpus_per_trial), slots)


def _largest(predicted: dict[str, Any] | None, name: str) -> int | None:
    return max((predicted or {}).get(name, {}).values(), default=None)


def build_trainable(config: Config, workers: Workers, subsets: Subsets, folder: Path) -> Any:
    """Return what Tune runs for each trial; on CPUs, the packed engine's hosts are started."""
    storage = config.storage.checkpoints
    parameters: dict[str, Any] = {
        "run_folder": str(folder),
        "max_epoch_seconds": 60 * config.resources.max_epoch_minutes,
        "storage": storage,
    }
    if workers.engine == "solo":
        return tune.with_parameters(SweepTrial, subsets=subsets, **parameters)
    here = NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=False)
    options = {"name": "hosts", "num_cpus": 0, "scheduling_strategy": here}
    shared = None if storage else str(folder)
    hosts = (
        ray.remote(Hosts)
        .options(**options)
        .remote([ray.put(subsets)], shared, workers.slots, config.resources.cpus_per_trial)
    )
    if "GPU" not in workers.resources:
        hosts.warm.remote()
    return tune.with_parameters(ThinTrial, hosts=hosts, **parameters)
