"""What a connected Ray cluster has or may grow to, and whether its nodes see the run folder."""

import time
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any

import ray
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from sweep.errors import ClusterError
from sweep.launched import add_up_workers, find_launched_gpus, is_unknown
from sweep.machine import find_gpus

ANSWER_SECONDS = 25
FIRST_WORKER_SECONDS = 300.0


def find_capacity(launched: dict[str, Any] | None = None) -> dict[str, float]:
    """Return what the cluster can hold of each resource: what its nodes have or, where that is
    more, what the launcher's file ``launched`` lets its workers have together."""
    have: dict[str, float] = ray.cluster_resources()
    addable = add_up_workers(launched) if launched else {}
    return {name: max(have.get(name, 0), addable.get(name, 0)) for name in {*have, *addable}}


def wait_for_capacity(
    launched: dict[str, Any] | None, cpus: float, tell: Callable[[str], None]
) -> dict[str, float]:
    """Return ``find_capacity``, where it can be known.

    Of some workers the launcher does not know what they have: then it waits, five minutes at
    most, for the first to be there, and for ``cpus`` that a trial can have.
    """
    if launched is None or not is_unknown(launched):
        return find_capacity(launched)
    until = time.monotonic() + FIRST_WORKER_SECONDS
    told = False
    while time.monotonic() < until:
        capacity = find_capacity(launched)
        if len(_live_nodes()) > 1 and capacity.get("CPU", 0) >= cpus:
            break
        if not told:
            tell("waiting for the first worker: what it has is known once it is there")
        told = True
        time.sleep(1)
    return find_capacity(launched)


def find_gpu_memory(launched: dict[str, Any] | None = None) -> int | None:
    """Return the bytes of the smallest GPU that the cluster has or may get, or None if that is
    not known.

    Nothing runs on a GPU: a task on each node with one asks ``nvidia-smi``. Of GPUs still to come
    only the name is known, from the launcher's file ``launched``, and the table of ``machine``.
    """
    nodes = [node for node in _live_nodes() if node["Resources"].get("GPU", 0)]
    answers = _ask(nodes, _list_gpu_memory)
    found = [size for answer in answers.values() for size in answer]
    coming = [gpu.memory_bytes for gpu in find_launched_gpus(launched or {})]
    if not found and 0 in coming:
        return None
    return min(filter(None, [*found, *coming]), default=None)


def _list_gpu_memory() -> list[int]:
    return [gpu.memory_bytes for gpu in find_gpus()]


def check_storage(folder: Path) -> None:
    """Raise ClusterError unless every node of the cluster sees what lies in ``folder``."""
    nodes = _live_nodes()
    if len(nodes) < 2:
        return
    marker = folder / f".storage-{uuid.uuid4().hex}"
    marker.touch()
    try:
        answers = _ask(nodes, _sees, str(marker))
    finally:
        marker.unlink(missing_ok=True)
    blind = [node["NodeManagerHostname"] for node in nodes if answers.get(node["NodeID"]) is False]
    if blind:
        raise ClusterError(explain_storage(folder, blind))


def _sees(path: str) -> bool:
    return Path(path).is_file()


def explain_storage(folder: Path, hosts: list[str]) -> str:
    """Return the sentence about nodes that do not see the run folder."""
    return (
        f"--out: the run folder {folder} is not visible from {', '.join(sorted(hosts))}; choose an "
        "--out on storage that every node of the cluster mounts at the same path"
    )


def _live_nodes() -> list[dict[str, Any]]:
    return [node for node in ray.nodes() if node["Alive"]]


def _ask(nodes: list[dict[str, Any]], question: Any, *arguments: Any) -> dict[str, Any]:
    """Return the answer of each node by id, from a task that takes no CPU; slow nodes are left
    out."""
    task = ray.remote(question)
    asked = {}
    for node in nodes:
        place = NodeAffinitySchedulingStrategy(node["NodeID"], soft=False)
        asked[task.options(num_cpus=0, scheduling_strategy=place).remote(*arguments)] = node
    if not asked:
        return {}
    ready, late = ray.wait(list(asked), num_returns=len(asked), timeout=ANSWER_SECONDS)
    for reference in late:
        ray.cancel(reference, force=True)
    answers = {}
    for reference in ready:
        try:
            answers[asked[reference]["NodeID"]] = ray.get(reference)
        except ray.exceptions.RayError:
            continue  # a node that just left says nothing about the others
    return answers
