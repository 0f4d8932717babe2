"""Where trials go, on a real cluster whose GPUs are only in Ray's books and in nvidia-smi's."""

import os
import re
from collections.abc import Iterator
from contextlib import redirect_stdout
from dataclasses import dataclass, field
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
import ray
import yaml
from ray.cluster_utils import Cluster

from sweep.cluster.hardware import GPU_MEBIBYTES
from sweep.run import main
from sweep.storage.events import Event
from sweep.storage.journal import read_events
from sweep.tuning.recorder import Recorder

MEBIBYTES = 1500
"""Two trials of a tiny model fit beside each other, three do not."""
MODELS = [{"name": f"tiny-{family}", "path": f"tiny:{family}"} for family in ("llama", "gpt2")]
TREE: dict[str, Any] = {
    "name": "placed",
    "data": {"source": "synthetic", "max_eval_per_label": 6},
    "grid": {"models": MODELS, "n_labels": [2, 4], "n_samples": [400]},
    "tune": {"candidates": 2, "lora_rank": [4, 8], "learning_rate": {"loguniform": [1e-3, 1e-2]}},
    "serving": {"measure": False},
    "asha": {"max_epochs": 4, "grace_epochs": 4},
    "train": {"batch_size": 16, "max_length": 32, "dtype": "float32", "patience": None},
    "resources": {"cpus_per_trial": 0.5},
    "baselines": [],
}
WORKER = {"CPU": 2, "GPU": 1, "accelerator_type:L4": 1}
LAUNCHED = {
    "max_workers": 2,
    "head_node_type": "head",
    "available_node_types": {
        "head": {"resources": {"CPU": 4}},
        "worker": {"max_workers": 2, "resources": WORKER},
    },
}


@dataclass
class Placed:
    """A run, what it printed, and what the head had free while it ran."""

    events: list[Event]
    printed: str = ""
    head_cpus: set[float] = field(default_factory=set)


@pytest.fixture(scope="module")
def placed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Placed]:
    """Run two models on two nodes with a GPU each, and a head that has CPUs only."""
    home = tmp_path_factory.mktemp("home")
    (home / "ray_bootstrap_config.yaml").write_text(yaml.safe_dump(LAUNCHED))
    (home / "nvidia-smi").write_text(f"#!/bin/sh\necho 'NVIDIA L4, {MEBIBYTES}, GPU-0, [N/A]'\n")
    (home / "nvidia-smi").chmod(0o755)
    (home / "placed.yaml").write_text(yaml.safe_dump(TREE))
    output, found = StringIO(), Placed([])
    token = Path.home() / ".ray" / "auth_token"
    with pytest.MonkeyPatch.context() as patch, redirect_stdout(output):
        if token.is_file():
            # Ray turns its authentication on where there is one, and would miss it in another home.
            patch.setenv("RAY_AUTH_TOKEN_PATH", str(token))
        patch.setenv("HOME", str(home))
        patch.setenv("PATH", str(home), prepend=os.pathsep)
        patch.setitem(GPU_MEBIBYTES, "L4", MEBIBYTES)
        cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 4, "num_gpus": 0})
        for _ in range(2):
            cluster.add_node(num_cpus=2, num_gpus=1)
        look_at_head(found, cluster.head_node.node_id, patch)
        arguments = [str(home / "placed.yaml"), "--out", str(home), "--address", cluster.address]
        assert main(arguments) == 0
    found.events, found.printed = list(read_events(home / "placed")), output.getvalue()
    yield found
    ray.shutdown()
    cluster.shutdown()


def look_at_head(found: Placed, head: str, patch: pytest.MonkeyPatch) -> None:
    """Note what the head has free, whenever Tune has taken a step."""
    step = Recorder.on_step_end

    def look(recorder: Recorder, *given: Any, **named: Any) -> None:
        found.head_cpus.add(ray._private.state.available_resources_per_node()[head]["CPU"])
        step(recorder, *given, **named)

    patch.setattr(Recorder, "on_step_end", look)


def count_most_at_once(events: list[Event]) -> int:
    """Return how many trials ran at once at most."""
    running, most = set(), 0
    for event in events:
        if event["event"] == "started":
            running.add(event["trial_id"])
        elif event["event"] == "ended":
            running.discard(event["trial_id"])
        most = max(most, len(running))
    return most


def test_as_many_trials_run_at_once_as_the_plan_predicts(placed: Placed) -> None:
    predicted = re.search(r"(\d+) trial\(s\) at a time", placed.printed)
    assert predicted
    assert int(predicted[1]) == 4
    assert count_most_at_once(placed.events) == 4


def test_head_without_a_gpu_never_trains(placed: Placed) -> None:
    assert placed.head_cpus == {4.0}


def test_worker_loads_each_model_once_at_most(placed: Placed) -> None:
    ended = [event for event in placed.events if event["event"] == "ended"]
    assert len(ended) == 8
    assert {event["status"] for event in ended} == {"finished"}
    assert max(event["base_loads"] for event in ended) <= len(MODELS)


def test_trials_of_one_model_come_before_those_of_the_next(placed: Placed) -> None:
    models = {
        event["trial"].trial_id: event["trial"].cell.model
        for event in placed.events
        if event["event"] == "planned"
    }
    started = [models[event["trial_id"]] for event in placed.events if event["event"] == "started"]
    first, second = (model["name"] for model in MODELS)
    # Those that start together may be ready in any order.
    assert started[started.index(second) :].count(first) < 4
