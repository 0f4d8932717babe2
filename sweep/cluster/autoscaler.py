"""What a cluster may grow to, as Ray's launcher wrote it down on the cluster's head; no Ray is
asked, so it is known before the first worker is there."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from sweep.cluster.hardware import Gpu, Machine, assume_gpu_memory

# Where ``ray up`` leaves the cluster file on the head, what instance types have filled in.
BOOTSTRAP_FILE = Path("~/ray_bootstrap_config.yaml")
# Begins the resource by which Ray names a node's GPU.
ACCELERATOR = "accelerator_type:"


@dataclass(frozen=True)
class WorkerType:
    """A type of machine that the launcher may start: how many at most, and what each has."""

    name: str
    most: int
    resources: dict[str, float]

    @property
    def gpu(self) -> str:
        """The name of its GPU, or an empty text."""
        names = (key for key in self.resources if key.startswith(ACCELERATOR))
        return next(names, ACCELERATOR).removeprefix(ACCELERATOR)


@dataclass(frozen=True)
class ClusterSpec:
    """What the launcher may start: types of workers, and how many there may be together."""

    worker_types: tuple[WorkerType, ...] = ()
    max_workers: int | None = None
    by_address: bool = False
    """Whether the workers are machines that are named by address."""


def read_cluster_spec(path: Path = BOOTSTRAP_FILE) -> ClusterSpec | None:
    """Return what the cluster file that the launcher left on this machine says; None if this is no
    head."""
    try:
        tree = yaml.safe_load(path.expanduser().read_text(encoding="utf-8"))
    except (OSError, ValueError, RuntimeError, yaml.YAMLError):
        return None
    return parse_cluster_spec(tree) if isinstance(tree, dict) else None


def parse_cluster_spec(tree: Mapping[str, Any]) -> ClusterSpec:
    """Return what the resolved cluster file ``tree`` says of workers, the head left out."""
    types: dict[str, dict[str, Any]] = tree.get("available_node_types") or {}
    together, provider = tree.get("max_workers"), tree.get("provider") or {}
    return ClusterSpec(
        tuple(
            WorkerType(
                name, _most(kind.get("max_workers"), together), dict(kind.get("resources") or {})
            )
            for name, kind in types.items()
            if name != tree.get("head_node_type")
        ),
        together,
        provider.get("type") == "local" and bool(provider.get("worker_ips")),
    )


def _most(of_type: int | None, together: int | None) -> int:
    bounds = [bound for bound in (of_type, together) if bound is not None]
    return min(bounds, default=0)


def add_up_workers(cluster: ClusterSpec) -> dict[str, float]:
    """Return the most of each resource that the workers of ``cluster`` can have together.

    Each is added up over the machines that have most of it, ``max_workers`` of them. A type
    without resources (Ray sees what it has when it is up) adds nothing.
    """
    names = {name for kind in cluster.worker_types for name in kind.resources}
    return {name: sum(_pick(cluster, name)) for name in sorted(names)}


def _pick(cluster: ClusterSpec, resource: str) -> Iterator[float]:
    """Yield what each machine has of ``resource``, the largest first, as many as there can be."""
    types, together = cluster.worker_types, cluster.max_workers
    ordered = sorted(types, key=lambda kind: -kind.resources.get(resource, 0))
    left = sum(kind.most for kind in types) if together is None else together
    for kind in ordered:
        count = min(kind.most, left)
        left -= count
        yield count * float(kind.resources.get(resource, 0))


def is_unknown(cluster: ClusterSpec) -> bool:
    """Return whether some worker's resources are known only once it is up: machines named by
    address, or a type that says nothing of what it has."""
    types = cluster.worker_types
    return cluster.by_address or any(kind.most and not kind.resources for kind in types)


def list_gpus(cluster: ClusterSpec) -> list[Gpu]:
    """Return one GPU of each type of worker that has any; memory 0 where it is not in the table."""
    return [
        Gpu(kind.gpu or "GPU", assume_gpu_memory(kind.gpu))
        for kind in cluster.worker_types
        if kind.most and kind.resources.get("GPU", 0)
    ]


def expect_machine(cluster: ClusterSpec) -> Machine | None:
    """Return all workers of ``cluster`` at their most as one machine, whose GPUs are the smallest
    there are; None if nothing is known of them."""
    together = add_up_workers(cluster)
    if not together.get("CPU"):
        return None
    gpus = sorted(list_gpus(cluster), key=lambda gpu: gpu.memory_bytes)
    return Machine(
        cpus=int(together["CPU"]),
        memory_bytes=int(together.get("memory", 0)),
        gpus=tuple(gpus[:1]) * int(together.get("GPU", 0)),
    )
