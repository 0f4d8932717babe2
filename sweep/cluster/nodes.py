"""What a connected Ray cluster has or may grow to, and whether its nodes share the storage."""

import contextlib
import tempfile
import time
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any

import ray
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from sweep.cluster.autoscaler import ClusterSpec, add_up_workers, is_unknown, list_gpus
from sweep.cluster.hardware import find_gpus
from sweep.errors import ClusterError, StorageError
from sweep.storage.folders import Storage, open_storage
from sweep.storage.run_folder import explain_unshared_folder

ANSWER_SECONDS = 25
FIRST_WORKER_SECONDS = 300.0


def find_capacity(spec: ClusterSpec | None = None) -> dict[str, float]:
    """Return the cluster's capacity of each resource: what its nodes have or, if that is more, the
    total that the launcher's ``spec`` allows its workers."""
    have: dict[str, float] = ray.cluster_resources()
    addable = add_up_workers(spec) if spec else {}
    return {name: max(have.get(name, 0), addable.get(name, 0)) for name in {*have, *addable}}


def wait_for_capacity(
    spec: ClusterSpec | None, cpus: float, notify: Callable[[str], None]
) -> dict[str, float]:
    """Return ``find_capacity``, once it is known.

    The launcher does not know the resources of some workers: then this waits, for at most five
    minutes, until the first is up and the cluster has the ``cpus`` that a trial needs.
    """
    if spec is None or not is_unknown(spec):
        return find_capacity(spec)
    until = time.monotonic() + FIRST_WORKER_SECONDS
    notified = False
    while time.monotonic() < until:
        capacity = find_capacity(spec)
        if len(list_nodes()) > 1 and capacity.get("CPU", 0) >= cpus:
            break
        if not notified:
            notify("waiting for the first worker: its resources are known only once it is up")
        notified = True
        time.sleep(1)
    return find_capacity(spec)


def find_gpu_memory(spec: ClusterSpec | None = None) -> int | None:
    """Return the bytes of the smallest GPU that the cluster has or may get, or None if that is
    unknown.

    Nothing runs on a GPU: a task on each node that has one asks ``nvidia-smi``. Of GPUs still to be
    started only the name is known, from the launcher's ``spec``; their memory is looked up in the
    table of ``hardware``.
    """
    nodes = [node for node in list_nodes() if node["Resources"].get("GPU", 0)]
    answers = _ask(nodes, _list_gpu_memory)
    found = [size for answer in answers.values() for size in answer]
    coming = [gpu.memory_bytes for gpu in list_gpus(spec or ClusterSpec())]
    if 0 in (found or coming):
        return None
    return min(filter(None, [*found, *coming]), default=None)


def _list_gpu_memory() -> list[int]:
    return [gpu.memory_bytes for gpu in find_gpus()]


def check_storage(folder: Path, uri: str | None = None) -> None:
    """Raise ClusterError unless every node of the cluster can read what is written here, and vice
    versa: at ``uri`` or, without one, in the run folder."""
    nodes = list_nodes()
    if uri is None and len(nodes) < 2:
        return
    try:
        reasons = _exchange_markers(nodes, uri or str(folder))
    except StorageError as error:
        raise ClusterError(f"{'storage.checkpoints' if uri else '--out'}: {error}") from error
    hosts = [node["NodeManagerHostname"] for node in nodes if node["NodeID"] in reasons]
    if hosts:
        reason = next(filter(None, reasons.values()), "")
        raise ClusterError(explain_storage(folder, uri, hosts, reason))


def _exchange_markers(nodes: list[dict[str, Any]], location: str) -> dict[str, str]:
    """Write a marker at ``location`` and have every node answer there; return node id -> what went
    wrong."""
    storage, name = open_storage(location), f"storage-check-{uuid.uuid4().hex}"
    _write_marker(storage, f"{name}/driver")
    try:
        answers = _ask(nodes, _answer_marker, location, name)
        with tempfile.TemporaryDirectory() as scratch:
            # Read by name: an NFS client may have cached an old listing of the folder.
            return {
                node: reason
                for node, reason in answers.items()
                if not storage.read_folder(f"{name}/{node}", Path(scratch) / node)
            }
    finally:
        with contextlib.suppress(StorageError):
            storage.delete_folder(name)


def _write_marker(storage: Storage, name: str) -> None:
    with tempfile.TemporaryDirectory() as source:
        (Path(source) / "marker").write_text(name)
        storage.write_folder(name, Path(source))


def _answer_marker(location: str, name: str) -> str:
    """Read the driver's marker on this node, and write one in reply; return what went wrong."""
    try:
        storage = open_storage(location)
        with tempfile.TemporaryDirectory() as scratch:
            if storage.read_folder(f"{name}/driver", Path(scratch) / "driver"):
                _write_marker(storage, f"{name}/{ray.get_runtime_context().get_node_id()}")
    except StorageError as error:
        return str(error)
    return ""


def explain_storage(folder: Path, uri: str | None, hosts: list[str], reason: str = "") -> str:
    """Return the sentence about nodes that do not share the storage."""
    if uri is None:
        return explain_unshared_folder(folder, hosts)
    return (
        f"storage.checkpoints: what this machine writes to {uri} cannot be read on "
        f"{', '.join(sorted(hosts))}, or vice versa ({reason or 'it is not there'}); choose a "
        "location that every node may read and write"
    )


def list_nodes() -> list[dict[str, Any]]:
    """Return Ray's description of each live node."""
    return [node for node in ray.nodes() if node["Alive"]]


def choose_machine(on_gpu: bool) -> tuple[str | None, dict[str, float]]:
    """Return the node on which classifiers are measured in use, and what to reserve there: a whole
    GPU with its part of the CPUs, or all CPUs of the node that has most.

    The node is None where none is up that has what is needed; the cluster may then start one.
    """
    nodes, name = list_nodes(), "GPU" if on_gpu else "CPU"
    best = max(nodes, key=lambda node: node["Resources"].get(name, 0.0), default=None)
    have = best["Resources"] if best else {}
    if have.get(name, 0.0) < 1:
        return None, {"CPU": 1.0, **({"GPU": 1.0} if on_gpu else {})}
    cpus, gpus = int(have.get("CPU", 0)), int(have.get("GPU", 0))
    part = min(cpus, max(1, cpus // gpus)) if on_gpu else cpus
    reserved = {"CPU": float(part), **({"GPU": 1.0} if on_gpu else {})}
    return str(best["NodeID"]) if best else None, reserved


def _ask(nodes: list[dict[str, Any]], question: Any, *arguments: Any) -> dict[str, Any]:
    """Return the answer of each node by id, from a task that reserves no CPU; nodes that do not
    answer in time are left out."""
    task = ray.remote(question)
    asked = {}
    for node in nodes:
        there = NodeAffinitySchedulingStrategy(node["NodeID"], soft=False)
        asked[task.options(num_cpus=0, scheduling_strategy=there).remote(*arguments)] = node
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
            continue  # a node that was just lost says nothing about the others
    return answers
