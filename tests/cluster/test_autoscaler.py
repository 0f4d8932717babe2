"""Demand raises the workers from 0 to as many as are wanted, and they leave when it is over."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from namespaces import run

STORY = """
import json, time
import ray
from ray.cluster_utils import AutoscalingCluster

cluster = AutoscalingCluster(
    head_resources={"CPU": 0},
    worker_node_types={
        "worker": {
            "resources": {"CPU": 1, "GPU": 1, "object_store_memory": 100 * 2**20},
            "node_config": {}, "min_workers": 0, "max_workers": 3,
        }
    },
    autoscaler_v2=True, idle_timeout_minutes=0.1,
    provider={
        "type": "external", "head_node_id": "FAKE_HEAD_NODE_ID", "launch_multiple": True,
        "module": "ray.autoscaler._private.fake_multi_node.node_provider.FakeMultiNodeProvider",
    },
)
cluster.start()
ray.init("auto")

def workers():
    return sum(1 for node in ray.nodes() if node["Alive"] and node["Resources"].get("GPU"))

def wait(count, seconds):
    until = time.monotonic() + seconds
    while workers() != count and time.monotonic() < until:
        time.sleep(0.5)
    return workers()

@ray.remote(num_cpus=1, num_gpus=1)
class Trial:
    def node(self):
        return ray.get_runtime_context().get_node_id()

seen = [workers()]
trials = [Trial.remote() for _ in range(3)]
nodes = ray.get([trial.node.remote() for trial in trials], timeout=300)
seen.append(workers())
for trial in trials:
    ray.kill(trial)
seen.append(wait(0, 300))
print("SEEN " + json.dumps([seen, len(set(nodes))]))
ray.shutdown()
cluster.shutdown()
"""


@pytest.mark.timeout(900)
def test_demand_raises_the_workers_from_zero_and_its_end_brings_them_back(tmp_path: Path) -> None:
    # Starting and ending such a cluster ends every Ray of its process namespace: it has its own.
    run("ip", "link", "set", "lo", "up")
    (tmp_path / "story.py").write_text(STORY)
    (tmp_path / "home").mkdir()
    own = ["unshare", "--net", "--mount", "--pid", "--fork", "--kill-child", "--mount-proc"]
    inside = "ip link set lo up && mount -t tmpfs tmpfs /tmp && mount -t tmpfs tmpfs /dev/shm"
    inside += f" && exec {sys.executable} {tmp_path}/story.py"
    told = os.environ | {"HOME": str(tmp_path / "home"), "TMPDIR": "/tmp"}
    told["PATH"] = f"{make_ray(tmp_path)}:{told['PATH']}"
    done = subprocess.run(
        [*own, "sh", "-c", inside], env=told, capture_output=True, text=True, timeout=800
    )
    found = [line for line in done.stdout.splitlines() if line.startswith("SEEN ")]
    assert found, done.stdout[-3000:] + done.stderr[-6000:]
    counts, hosts = json.loads(found[0].removeprefix("SEEN "))
    print(f"autoscaler: workers {counts}, three trials on {hosts} nodes")
    assert counts == [0, 3, 0]
    assert hosts == 3


def make_ray(folder: Path) -> Path:
    """Put a ``ray`` of this interpreter into ``folder``; return where."""
    script = folder / "bin" / "ray"
    script.parent.mkdir()
    script.write_text(f'#!/bin/sh\nexec {sys.executable} -m ray.scripts.scripts "$@"\n')
    script.chmod(0o755)
    return script.parent
