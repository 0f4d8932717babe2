"""Chooses each trial's actor and its Ray resources, by the engine that trains."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import ray
from ray import tune
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from sweep.cluster.allocation import (
    choose_engine,
    choose_slots,
    count_hosts,
    packed_resources,
    trial_resources,
)
from sweep.cluster.autoscaler import ClusterSpec
from sweep.cluster.nodes import find_gpu_memory, list_nodes, wait_for_capacity
from sweep.plan import Capacity
from sweep.preflight.setup import RunSetup
from sweep.workers.host_pool import HostPool
from sweep.workers.mixed_actor import MixedTrialActor
from sweep.workers.packed_actor import PackedTrialActor
from sweep.workers.solo_actor import SoloTrialActor

# The pool's name in Ray.
HOSTS = "hosts"


@dataclass(frozen=True)
class Allocation:
    """The engine that trains, the Ray resources of a trial, how many trials share a host, and how
    many such hosts a GPU has memory for."""

    engine: str
    resources: dict[str, float]
    slots: int = 1
    per_gpu: int = 1
    alone: Mapping[str, dict[str, float]] = field(default_factory=dict)
    """With the packed engine: the models whose trials train alone beside the packs, and the
    resources of each of these trials."""

    def of_trial(self, config: Mapping[str, Any]) -> tune.PlacementGroupFactory:
        """Return the resources of the trial with Tune's ``config``."""
        return tune.PlacementGroupFactory([self.alone.get(config["model"], self.resources)])


def choose_allocation(
    setup: RunSetup, spec: ClusterSpec | None, notify: Callable[[str], None]
) -> Allocation:
    """Return the engine and a trial's share of the connected cluster, including the workers that
    ``spec`` may still start. A pack takes the trials that it can; the others train alone."""
    config, forecast = setup.config, setup.forecast
    capacity = wait_for_capacity(spec, config.resources.cpus_per_trial, notify)
    if spec:
        cpus, gpus = capacity.get("CPU", 0), capacity.get("GPU", 0)
        notify(f"with all its workers, the cluster has {cpus:g} CPUs, {gpus:g} GPUs")
    on_gpu, gpu = bool(capacity.get("GPU", 0.0)), find_gpu_memory(spec)
    engine = choose_engine(config.resources, on_gpu)
    alone = list_unpackable(setup) if engine == "packed" else []
    if len(alone) == len(config.grid.models):
        engine = "solo"
    if engine == "solo":
        return Allocation(engine, trial_resources(config, capacity, forecast.largest_trial(), gpu))
    packs = forecast.without(alone).list_packs()
    slots = choose_slots(config.resources, packs, gpu, on_gpu)
    coming = [kind.resources for kind in (spec or ClusterSpec()).worker_types if kind.max_workers]
    nodes = [*(node["Resources"] for node in list_nodes()), *coming]
    needs = forecast.memory_bytes or {}
    apart = {
        name: trial_resources(config, capacity, int(needs[name]) if name in needs else None, gpu)
        for name in alone
    }
    if config.resources.gpus_per_trial == "auto":
        # Beside a pack, which may fill a GPU's memory, there is no room for another trial.
        apart = {name: _take_whole_gpus(share) for name, share in apart.items()}
    if alone:
        notify(f"trained alone, beside the packs: {', '.join(alone)}")
    shared = packed_resources(nodes, slots, config.resources.cpus_per_trial)
    return Allocation(engine, shared, slots, count_hosts(slots, packs, gpu), apart)


def _take_whole_gpus(share: dict[str, float]) -> dict[str, float]:
    return {**share, "GPU": max(1.0, share["GPU"])} if share.get("GPU") else share


def list_unpackable(setup: RunSetup) -> list[str]:
    """Return the names of the models whose trials no pack can hold: all weights are trained, or
    the classification head is not a single layer."""
    known = setup.packable
    return [
        model.name
        for model in setup.config.grid.models
        if model.method == "full" or (known is not None and model.name not in known)
    ]


def build_trainable(setup: RunSetup, allocation: Allocation) -> Any:
    """Return what Tune runs for each trial; on CPUs, this starts the packed engine's hosts."""
    config, subsets, folder = setup.config, setup.subsets, setup.folder
    storage = config.storage.checkpoints
    parameters: dict[str, Any] = {
        "run_folder": str(folder),
        "max_epoch_seconds": 60 * config.resources.max_epoch_minutes,
        "storage": storage,
    }
    ahead = estimate_ahead(setup)
    if allocation.engine == "solo":
        return tune.with_parameters(SoloTrialActor, subsets=subsets, ahead=ahead, **parameters)
    here = NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=False)
    options = {"name": HOSTS, "num_cpus": 0, "scheduling_strategy": here}
    shared, cpus = None if storage else str(folder), config.resources.cpus_per_trial
    packed = [spec for spec in setup.plan.trials if spec.model.name not in allocation.alone]
    slots, capacities = allocation.slots, Capacity.by_model(packed, allocation.slots)
    sizes = (slots, capacities, cpus, allocation.per_gpu)
    hosts = ray.remote(HostPool).options(**options).remote([ray.put(subsets)], shared, *sizes)
    if "GPU" not in allocation.resources:
        hosts.warm.remote()
    parameters["hosts"] = hosts
    if not allocation.alone:
        return tune.with_parameters(PackedTrialActor, **parameters)
    own = {"subsets": subsets, "alone": frozenset(allocation.alone), "ahead": ahead}
    return tune.with_parameters(MixedTrialActor, **own, **parameters)


def estimate_ahead(setup: RunSetup) -> dict[str, float]:
    """Return the seconds for which a worker is likely to train each model: its part of the time
    that the forecast expects of the run. Empty if there is no forecast."""
    seconds, epochs = setup.forecast.seconds, setup.pace.epoch_seconds or {}
    if seconds is None:
        return {}
    work = dict.fromkeys((spec.model.name for spec in setup.plan.trials), 0.0)
    for spec in setup.plan.trials:
        work[spec.model.name] += sum(epochs.get(spec.cell.cell_id, (0.0, 0.0)))
    total = sum(work.values())
    return {name: seconds[1] * part / total for name, part in work.items()} if total else {}


def end_hosts() -> None:
    """End the packed engine's hosts, if there are any: they keep their GPUs' memory."""
    try:
        hosts = ray.get_actor(HOSTS)
    except ValueError:
        return
    # Ray ends the actors that an actor has started with it.
    ray.kill(hosts)
