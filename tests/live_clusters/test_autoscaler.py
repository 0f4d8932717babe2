"""Demand raises the workers from 0 to as many as are wanted, and they leave when it is over."""

import json
import os
import subprocess
import sys

import pytest

STORY = """
import glob, json, time
import ray
from ray.autoscaler._private.fake_multi_node.node_provider import FAKE_HEAD_NODE_ID
from ray.cluster_utils import AutoscalingCluster

FAKES = "ray.autoscaler._private.fake_multi_node"

class Grown(AutoscalingCluster):
    # The installed Ray lacks the file that this would start from.
    def _generate_config(self, head_resources, worker_node_types, autoscaler_v2=False, **_):
        head = {"resources": dict(head_resources), "node_config": {}, "max_workers": 0}
        empty = ("initialization_commands", "setup_commands", "head_setup_commands",
                 "worker_setup_commands", "head_start_ray_commands", "worker_start_ray_commands",
                 "cluster_synced_files", "rsync_exclude", "rsync_filter")
        return {
            "cluster_name": "grown", "max_workers": 3, "upscaling_speed": 1.0,
            "idle_timeout_minutes": 0.1, "docker": {}, "auth": {}, "file_mounts": {},
            "file_mounts_sync_continuously": False,
            "provider": {
                "type": "external", "head_node_id": FAKE_HEAD_NODE_ID, "launch_multiple": True,
                "module": FAKES + ".node_provider.FakeMultiNodeProvider",
            },
            # The provider knows the head by this name only.
            "head_node_type": "ray.head.default",
            "available_node_types": {"ray.head.default": head, **worker_node_types},
            **{key: [] for key in empty},
        }

worker = {
    "resources": {"CPU": 1, "GPU": 1, "object_store_memory": 100 * 2**20},
    "node_config": {}, "min_workers": 0, "max_workers": 3,
}
cluster = Grown(head_resources={"CPU": 0}, worker_node_types={"worker": worker}, autoscaler_v2=True)
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
try:
    nodes = ray.get([trial.node.remote() for trial in trials], timeout=300)
except ray.exceptions.GetTimeoutError:
    (log,) = glob.glob("/tmp/ray/session_2*/logs/monitor.log")
    print(open(log).read()[-4000:])
    raise
seen.append(workers())
for trial in trials:
    ray.kill(trial)
seen.append(wait(0, 300))
print("SEEN " + json.dumps([seen, len(set(nodes))]))
ray.shutdown()
cluster.shutdown()
"""


# Starting and ending such a cluster ends every Ray of its process namespace: it has its own, and
# its own /tmp, where Ray notes which cluster is the current one.
INSIDE = """
ip link set lo up
mount -t tmpfs tmpfs /dev/shm && mount -t tmpfs tmpfs /tmp && mkdir /tmp/bin
printf '#!/bin/sh\\nexec %s -m ray.scripts.scripts "$@"\\n' "$PYTHON" > /tmp/bin/ray
chmod +x /tmp/bin/ray
PATH=/tmp/bin:$PATH exec "$PYTHON" -c "$STORY"
"""


@pytest.mark.timeout(900)
def test_demand_raises_the_workers_from_zero_and_its_end_brings_them_back() -> None:
    own = ["unshare", "--net", "--mount", "--pid", "--fork", "--kill-child", "--mount-proc"]
    told = {"HOME": "/tmp", "TMPDIR": "/tmp", "PYTHON": sys.executable, "STORY": STORY}
    done = subprocess.run(
        [*own, "sh", "-ec", INSIDE],
        env=os.environ | told,
        capture_output=True,
        text=True,
        timeout=800,
    )
    found = [line for line in done.stdout.splitlines() if line.startswith("SEEN ")]
    assert found, done.stdout[-5000:] + done.stderr[-5000:]
    counts, hosts = json.loads(found[0].removeprefix("SEEN "))
    print(f"autoscaler: workers {counts}, three trials on {hosts} nodes")
    assert counts == [0, 3, 0]
    assert hosts == 3
