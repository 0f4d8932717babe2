"""What a cluster may grow to, as Ray's launcher wrote it down on the cluster's head; no Ray is
asked, so it is known before the first worker is there."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from sweep.cluster.hardware import Gpu, Machine, assume_gpu_memory

LAUNCHED = Path("~/ray_bootstrap_config.yaml")
"""Where ``ray up`` leaves the cluster file on the head, what instance types have filled in."""
ACCELERATOR = "accelerator_type:"
"""Begins the resource by which Ray names a node's GPU."""


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


def read_launched(path: Path = LAUNCHED) -> dict[str, Any] | None:
    """Return the cluster file that the launcher left on this machine, None if this is no head."""
    try:
        tree = yaml.safe_load(path.expanduser().read_text(encoding="utf-8"))
    except (OSError, ValueError, RuntimeError, yaml.YAMLError):
        return None
    return tree if isinstance(tree, dict) else None


def list_worker_types(cluster: dict[str, Any]) -> list[WorkerType]:
    """Return the types of workers in the resolved cluster file ``cluster``, head left out."""
    kinds: dict[str, dict[str, Any]] = cluster.get("available_node_types") or {}
    together = cluster.get("max_workers")
    return [
        WorkerType(
            name, _most(kind.get("max_workers"), together), dict(kind.get("resources") or {})
        )
        for name, kind in kinds.items()
        if name != cluster.get("head_node_type")
    ]


def _most(of_type: int | None, together: int | None) -> int:
    bounds = [bound for bound in (of_type, together) if bound is not None]
    return min(bounds, default=0)


def add_up_workers(cluster: dict[str, Any]) -> dict[str, float]:
    """Return the most of each resource that the workers of ``cluster`` can have together.

    Each is added up over the machines that have most of it, ``max_workers`` of them. A type
    without resources (Ray sees what it has when it is up) adds nothing.
    """
    kinds = list_worker_types(cluster)
    names = {name for kind in kinds for name in kind.resources}
    return {name: sum(_pick(cluster, kinds, name)) for name in sorted(names)}


def _pick(cluster: dict[str, Any], kinds: list[WorkerType], resource: str) -> Iterator[float]:
    """Yield what each machine has of ``resource``, the largest first, as many as there can be."""
    ordered = sorted(kinds, key=lambda kind: -kind.resources.get(resource, 0))
    together = cluster.get("max_workers")
    left = sum(kind.most for kind in kinds) if together is None else together
    for kind in ordered:
        count = min(kind.most, left)
        left -= count
        yield count * float(kind.resources.get(resource, 0))


def is_unknown(cluster: dict[str, Any]) -> bool:
    """Return whether some worker's resources are known only once it is up: machines named by
    address, or a type that says nothing of what it has."""
    provider = cluster.get("provider") or {}
    by_address = provider.get("type") == "local" and bool(provider.get("worker_ips"))
    return by_address or any(k.most and not k.resources for k in list_worker_types(cluster))


def find_launched_gpus(cluster: dict[str, Any]) -> list[Gpu]:
    """Return one GPU of each type of worker that has any; memory 0 where it is not in the table."""
    return [
        Gpu(kind.gpu or "GPU", assume_gpu_memory(kind.gpu))
        for kind in list_worker_types(cluster)
        if kind.most and kind.resources.get("GPU", 0)
    ]


def expect_machine(cluster: dict[str, Any]) -> Machine | None:
    """Return all workers of ``cluster`` at their most as one machine, whose GPUs are the smallest
    there are; None if nothing is known of them."""
    whole = add_up_workers(cluster)
    if not whole.get("CPU"):
        return None
    gpus = sorted(find_launched_gpus(cluster), key=lambda gpu: gpu.memory_bytes)
    return Machine(
        cpus=int(whole["CPU"]),
        memory_bytes=int(whole.get("memory", 0)),
        gpus=tuple(gpus[:1]) * int(whole.get("GPU", 0)),
    )
