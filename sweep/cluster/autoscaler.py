"""What a cluster may grow to, read from the file that Ray's launcher left on the head node. Ray
itself is not asked, so this is known before the first worker exists."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from sweep.cluster.hardware import Gpu, Machine, assume_gpu_memory

# Where ``ray up`` leaves the cluster file on the head, instance types' resources filled in.
BOOTSTRAP_FILE = Path("~/ray_bootstrap_config.yaml")
# Prefix of the resource by which Ray names a node's GPU.
ACCELERATOR = "accelerator_type:"


@dataclass(frozen=True)
class WorkerType:
    """A type of machine that the launcher may start: at most how many, and what each has."""

    name: str
    max_workers: int
    resources: dict[str, float]

    @property
    def gpu(self) -> str:
        """The name of its GPU; empty if it has none."""
        names = (key for key in self.resources if key.startswith(ACCELERATOR))
        return next(names, ACCELERATOR).removeprefix(ACCELERATOR)


@dataclass(frozen=True)
class ClusterSpec:
    """What the launcher may start: types of workers, and how many workers in total."""

    worker_types: tuple[WorkerType, ...] = ()
    max_workers: int | None = None
    by_address: bool = False
    """Whether the workers are existing machines listed by address."""


def read_cluster_spec(path: Path = BOOTSTRAP_FILE) -> ClusterSpec | None:
    """Return the contents of the cluster file that the launcher left on this machine; None if this
    is not a head node."""
    try:
        tree = yaml.safe_load(path.expanduser().read_text(encoding="utf-8"))
    except (OSError, ValueError, RuntimeError, yaml.YAMLError):
        return None
    return parse_cluster_spec(tree) if isinstance(tree, dict) else None


def parse_cluster_spec(tree: Mapping[str, Any]) -> ClusterSpec:
    """Return what the resolved cluster file ``tree`` says about workers, not counting the head."""
    types: dict[str, dict[str, Any]] = tree.get("available_node_types") or {}
    total, provider = tree.get("max_workers"), tree.get("provider") or {}
    return ClusterSpec(
        tuple(
            WorkerType(
                name, _smaller(kind.get("max_workers"), total), dict(kind.get("resources") or {})
            )
            for name, kind in types.items()
            if name != tree.get("head_node_type")
        ),
        total,
        provider.get("type") == "local" and bool(provider.get("worker_ips")),
    )


def _smaller(*limits: int | None) -> int:
    return min((limit for limit in limits if limit is not None), default=0)


def add_up_workers(cluster: ClusterSpec) -> dict[str, float]:
    """Return the largest total of each resource that the workers of ``cluster`` can have.

    Each total is over the ``max_workers`` machines that have the most of that resource. A type
    without listed resources (Ray detects them once a machine is up) adds nothing.
    """
    names = {name for kind in cluster.worker_types for name in kind.resources}
    return {name: sum(_list_largest(cluster, name)) for name in sorted(names)}


def _list_largest(cluster: ClusterSpec, resource: str) -> Iterator[float]:
    """Yield how much of ``resource`` the machines of each type have, the largest types first, until
    the cluster is full."""
    types, total = cluster.worker_types, cluster.max_workers
    ordered = sorted(types, key=lambda kind: -kind.resources.get(resource, 0))
    left = sum(kind.max_workers for kind in types) if total is None else total
    for kind in ordered:
        count = min(kind.max_workers, left)
        left -= count
        yield count * float(kind.resources.get(resource, 0))


def is_unknown(cluster: ClusterSpec) -> bool:
    """Return whether some worker's resources are known only once it is up: machines listed by
    address, or a type without listed resources."""
    types = cluster.worker_types
    return cluster.by_address or any(kind.max_workers and not kind.resources for kind in types)


def list_gpus(cluster: ClusterSpec) -> list[Gpu]:
    """Return one GPU of each type of worker that has any; memory 0 if it is not in the table."""
    return [
        Gpu(kind.gpu or "GPU", assume_gpu_memory(kind.gpu))
        for kind in cluster.worker_types
        if kind.max_workers and kind.resources.get("GPU", 0)
    ]


def expect_machine(cluster: ClusterSpec) -> Machine | None:
    """Return the fully grown ``cluster`` as one machine, with its smallest GPU for all GPUs; None
    if nothing is known about its workers."""
    total = add_up_workers(cluster)
    if not total.get("CPU"):
        return None
    gpus = sorted(list_gpus(cluster), key=lambda gpu: gpu.memory_bytes)
    return Machine(
        cpus=int(total["CPU"]),
        memory_bytes=int(total.get("memory", 0)),
        gpus=tuple(gpus[:1]) * int(total.get("GPU", 0)),
    )
