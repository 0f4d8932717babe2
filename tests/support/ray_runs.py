"""What tests with a real Ray share: a small cluster, and a sweep that is killed and resumed."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import ray
from ray.cluster_utils import Cluster

POLL_SECONDS = 0.02
# For a Ray of this machine: a trial takes all CPUs, so a single worker imports what trains.
ONE_WORKER = ["--set", f"resources.cpus_per_trial={min(2, os.cpu_count() or 1)}"]


@contextmanager
def start_nodes(count: int) -> Iterator[str]:
    """Start ``count`` nodes of one CPU each; give the cluster's address."""
    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 1})
    for _ in range(count - 1):
        cluster.add_node(num_cpus=1)
    yield cluster.address
    ray.shutdown()
    cluster.shutdown()


def kill_and_resume(
    arguments: list[str], folder: Path, epochs: int, again: tuple[str, ...] = ("--resume",)
) -> None:
    """Run a sweep into ``folder``, kill it and its Ray once its journal has that many ``epochs``,
    and run it to the end by the same command and ``again``."""
    command = [sys.executable, "-m", "sweep.run", *arguments]
    victim = subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, start_new_session=True
    )
    journal = folder / "journal.jsonl"
    while victim.poll() is None:
        if journal.is_file() and journal.read_text().count('"event":"epoch"') >= epochs:
            os.killpg(victim.pid, signal.SIGKILL)
            break
        try:
            victim.wait(POLL_SECONDS)
        except subprocess.TimeoutExpired:
            continue
    assert victim.wait() == -signal.SIGKILL
    subprocess.run([*command, *again], check=True, capture_output=True)
