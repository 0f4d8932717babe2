"""What a cluster may grow to is known while it has no workers."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from sweep.cluster import nodes as cluster
from sweep.cluster.allocation import count_slots, trial_resources
from sweep.cluster.autoscaler import (
    add_up_workers,
    expect_machine,
    is_unknown,
    list_gpus,
    parse_cluster_spec,
    read_cluster_spec,
)
from sweep.config import load_config
from sweep.run import main

ROOT = Path(__file__).parents[2]
G6 = {"CPU": 4, "GPU": 1, "memory": 12 * 2**30, "accelerator_type:L4": 1}
G5 = {"CPU": 4, "GPU": 1, "memory": 12 * 2**30, "accelerator_type:A10G": 1}
HEAD_ONLY = {"CPU": 0.0, "GPU": 0.0, "memory": 5e9, "node:10.0.0.1": 1.0}


@pytest.fixture
def aws() -> dict[str, Any]:
    """Return the shipped cluster file as the launcher leaves it on the head."""
    tree: dict[str, Any] = yaml.safe_load((ROOT / "cluster.yaml").read_text())
    for kind in tree["available_node_types"].values():
        instance = kind["node_config"]["InstanceType"]
        kind["resources"] |= {"g6.xlarge": G6, "g5.xlarge": G5}.get(instance, {})
    return tree


def test_workers_add_up_to_no_more_machines_than_there_may_be_together(aws: dict[str, Any]) -> None:
    whole = add_up_workers(parse_cluster_spec(aws))
    assert whole["GPU"] == aws["max_workers"] == 4
    assert whole["CPU"] == 16
    aws["max_workers"] = 6
    assert add_up_workers(parse_cluster_spec(aws))["GPU"] == 6
    assert add_up_workers(parse_cluster_spec(aws))["accelerator_type:A10G"] == 4


def test_larger_machines_are_counted_first(aws: dict[str, Any]) -> None:
    aws["available_node_types"]["a10g-spot"]["resources"] = {"CPU": 48, "GPU": 4}
    aws["available_node_types"]["a10g-spot"]["max_workers"] = 1
    assert add_up_workers(parse_cluster_spec(aws))["GPU"] == 4 + 3


def test_head_is_no_worker(aws: dict[str, Any]) -> None:
    aws["available_node_types"]["head"]["resources"] = {"CPU": 1000}
    assert add_up_workers(parse_cluster_spec(aws))["CPU"] == 16


def test_capacity_is_what_is_up_or_what_may_come(
    aws: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cluster.ray, "cluster_resources", lambda: dict(HEAD_ONLY))
    capacity = cluster.find_capacity(parse_cluster_spec(aws))
    assert (capacity["CPU"], capacity["GPU"]) == (16, 4)
    assert cluster.find_capacity(None) == HEAD_ONLY
    monkeypatch.setattr(cluster.ray, "cluster_resources", lambda: {"CPU": 64.0, "GPU": 1.0})
    assert cluster.find_capacity(parse_cluster_spec(aws))["CPU"] == 64


def test_trial_gets_a_part_of_a_gpu_that_is_not_there_yet(
    aws: dict[str, Any], monkeypatch: pytest.MonkeyPatch, write_config: Callable[..., Path]
) -> None:
    monkeypatch.setattr(cluster.ray, "cluster_resources", lambda: dict(HEAD_ONLY))
    monkeypatch.setattr(cluster.ray, "nodes", list)
    memory = cluster.find_gpu_memory(parse_cluster_spec(aws))
    assert memory == 23_028 * 2**20
    config = load_config(write_config())
    found = trial_resources(
        config, cluster.find_capacity(parse_cluster_spec(aws)), 5 * 10**9, memory
    )
    assert found == {"CPU": 1, "GPU": 0.25}  # so none fits on a head without a GPU


def test_gpu_of_unknown_memory_is_given_whole(
    aws: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cluster.ray, "nodes", list)
    aws["available_node_types"]["l4-spot"]["resources"] = {"CPU": 4, "GPU": 1}
    assert cluster.find_gpu_memory(parse_cluster_spec(aws)) is None


def test_plan_counts_the_workers_to_come(aws: dict[str, Any]) -> None:
    machine = expect_machine(parse_cluster_spec(aws))
    assert machine is not None
    resources = load_config(ROOT / "sweep_configs" / "goemotions.yaml").resources
    assert count_slots(resources, machine, 5 * 10**9) == 16
    assert count_slots(resources, machine, 15 * 10**9) == 4


def test_workers_known_by_their_address_alone_are_waited_for() -> None:
    tree = yaml.safe_load((ROOT / "clusters" / "onprem.yaml").read_text())
    assert is_unknown(parse_cluster_spec(tree))
    assert add_up_workers(parse_cluster_spec(tree)) == {}
    assert expect_machine(parse_cluster_spec(tree)) is None
    assert list_gpus(parse_cluster_spec(tree)) == []


def test_machine_that_is_no_head_knows_of_no_cluster(tmp_path: Path) -> None:
    assert read_cluster_spec(tmp_path / "missing.yaml") is None
    (tmp_path / "torn.yaml").write_text("a: [")
    assert read_cluster_spec(tmp_path / "torn.yaml") is None


def test_dry_run_on_the_head_tells_how_many_trials_run_at_a_time(
    aws: dict[str, Any],
    tmp_path: Path,
    write_config: Callable[..., Path],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    (tmp_path / "ray_bootstrap_config.yaml").write_text(yaml.safe_dump(aws))
    monkeypatch.setenv("HOME", str(tmp_path))
    arguments = [str(write_config()), "--out", str(tmp_path), "--dry-run"]
    assert main([*arguments, "--address", "auto"]) == 0
    told = capsys.readouterr().out
    assert "16 trial(s) at a time" in told
    assert "the cluster may grow to 16 CPUs and 4 GPUs (A10G)" in told
    assert "on A10G" in told
