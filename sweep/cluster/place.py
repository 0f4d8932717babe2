"""What a Ray worker knows of the machine it runs on, and what it has reserved there."""

import ray

from sweep.storage.events import Facts

# Labels that Ray gives the nodes of its launcher and of KubeRay, or that `ray start --labels` does
# (https://docs.ray.io/en/latest/ray-core/scheduling/labels.html#default-node-labels).
NODE_GROUP, MARKET = "ray.io/node-group", "ray.io/market-type"


def describe_place() -> Facts:
    """Return the GPUs and CPUs that this actor or task has reserved, and the type and the market
    (spot or on-demand) of its machine; these are None if no label says so."""
    context = ray.get_runtime_context()
    reserved, labels = context.get_assigned_resources(), context.get_node_labels()
    return {
        "gpus": reserved.get("GPU", 0.0),
        "cpus": reserved.get("CPU", 0.0),
        "node_type": labels.get(NODE_GROUP) or None,
        "market": labels.get(MARKET) or None,
    }
