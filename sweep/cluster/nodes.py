"""What a connected Ray cluster has or may grow to, and whether its nodes see the run folder."""

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
    """Return what the cluster can hold of each resource: what its nodes have or, where that is
    more, what the launcher's ``spec`` lets its workers have together."""
    have: dict[str, float] = ray.cluster_resources()
    addable = add_up_workers(spec) if spec else {}
    return {name: max(have.get(name, 0), addable.get(name, 0)) for name in {*have, *addable}}


def wait_for_capacity(
    spec: ClusterSpec | None, cpus: float, notify: Callable[[str], None]
) -> dict[str, float]:
    """Return ``find_capacity``, where it can be known.

    Of some workers the launcher does not know what they have: then it waits, five minutes at
    most, for the first to be there, and for ``cpus`` that a trial can have.
    """
    if spec is None or not is_unknown(spec):
        return find_capacity(spec)
    until = time.monotonic() + FIRST_WORKER_SECONDS
    told = False
    while time.monotonic() < until:
        capacity = find_capacity(spec)
        if len(list_nodes()) > 1 and capacity.get("CPU", 0) >= cpus:
            break
        if not told:
            notify("waiting for the first worker: what it has is known once it is there")
        told = True
        time.sleep(1)
    return find_capacity(spec)


def find_gpu_memory(spec: ClusterSpec | None = None) -> int | None:
    """Return the bytes of the smallest GPU that the cluster has or may get, or None if that is
    not known.

    Nothing runs on a GPU: a task on each node with one asks ``nvidia-smi``. Of GPUs still to come
    only the name is known, from the launcher's ``spec``, and the table of ``machine``.
    """
    nodes = [node for node in list_nodes() if node["Resources"].get("GPU", 0)]
    answers = _ask(nodes, _list_gpu_memory)
    found = [size for answer in answers.values() for size in answer]
    coming = [gpu.memory_bytes for gpu in list_gpus(spec or ClusterSpec())]
    if not found and 0 in coming:
        return None
    return min(filter(None, [*found, *coming]), default=None)


def _list_gpu_memory() -> list[int]:
    return [gpu.memory_bytes for gpu in find_gpus()]


def check_storage(folder: Path, uri: str | None = None) -> None:
    """Raise ClusterError unless what is written here is read on every node of the cluster, and
    the other way round: at ``uri`` or, without one, in the run folder."""
    nodes = list_nodes()
    if uri is None and len(nodes) < 2:
        return
    try:
        reasons = _exchange_words(nodes, uri or str(folder))
    except StorageError as error:
        raise ClusterError(f"{'storage.checkpoints' if uri else '--out'}: {error}") from error
    hosts = [node["NodeManagerHostname"] for node in nodes if node["NodeID"] in reasons]
    if hosts:
        reason = next(filter(None, reasons.values()), "")
        raise ClusterError(explain_storage(folder, uri, hosts, reason))


def _exchange_words(nodes: list[dict[str, Any]], place: str) -> dict[str, str]:
    """Write at ``place`` and let every node answer there; return node id -> what went wrong."""
    storage, name = open_storage(place), f"storage-check-{uuid.uuid4().hex}"
    _leave_word(storage, f"{name}/driver")
    try:
        answers = _ask(nodes, _answer_word, place, name)
        with tempfile.TemporaryDirectory() as scratch:
            # Read by name: the list of a folder may be an old one, kept by the client of NFS.
            return {
                node: reason
                for node, reason in answers.items()
                if not storage.read_folder(f"{name}/{node}", Path(scratch) / node)
            }
    finally:
        with contextlib.suppress(StorageError):
            storage.delete_folder(name)


def _leave_word(storage: Storage, name: str) -> None:
    with tempfile.TemporaryDirectory() as source:
        (Path(source) / "word").write_text(name)
        storage.write_folder(name, Path(source))


def _answer_word(place: str, name: str) -> str:
    """Read on this node what the driver wrote, and write an answer; return what went wrong."""
    try:
        storage = open_storage(place)
        with tempfile.TemporaryDirectory() as scratch:
            if storage.read_folder(f"{name}/driver", Path(scratch) / "driver"):
                _leave_word(storage, f"{name}/{ray.get_runtime_context().get_node_id()}")
    except StorageError as error:
        return str(error)
    return ""


def explain_storage(folder: Path, uri: str | None, hosts: list[str], reason: str = "") -> str:
    """Return the sentence about nodes that do not share the storage."""
    if uri is None:
        return explain_unshared_folder(folder, hosts)
    return (
        f"storage.checkpoints: what is written to {uri} here is not read on "
        f"{', '.join(sorted(hosts))}, or the other way round ({reason or 'it is not there'}); "
        "name a storage that every node may read and write"
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
