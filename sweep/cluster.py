"""What a connected Ray cluster has: GPU memory, and whether its nodes see the run folder."""

import uuid
from pathlib import Path
from typing import Any

import ray
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from sweep.errors import ClusterError
from sweep.machine import find_gpus

ANSWER_SECONDS = 25


def find_gpu_memory() -> int | None:
    """Return the bytes of the cluster's smallest GPU, or None if no node with one answers.

    Nothing runs on a GPU: a task on each such node asks ``nvidia-smi``.
    """
    nodes = [node for node in list_nodes() if node["Resources"].get("GPU", 0)]
    answers = _ask(nodes, _list_gpu_memory)
    sizes = [size for answer in answers.values() for size in answer]
    return min(sizes, default=None)


def _list_gpu_memory() -> list[int]:
    return [gpu.memory_bytes for gpu in find_gpus()]


def check_storage(folder: Path) -> None:
    """Raise ClusterError unless every node of the cluster sees what lies in ``folder``."""
    nodes = list_nodes()
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


def list_nodes() -> list[dict[str, Any]]:
    """Return Ray's description of each node that is alive."""
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
