"""Whole sweeps with the packed engine, on a real Ray cluster of one CPU."""

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
import ray
import yaml
from ray_runs import kill_and_resume, start_nodes

from sweep.cluster.allocation import packed_resources
from sweep.run import main
from sweep.storage.journal import read_events

TREE: dict[str, Any] = {
    "name": "solo",
    "data": {"source": "synthetic", "max_eval_per_label": 6},
    "grid": {
        "models": [{"name": f"tiny-{f}", "path": f"tiny:{f}"} for f in ("llama", "gpt2")],
        "n_labels": [2, 4],
        "n_samples": [160],
    },
    "tune": {"candidates": 3, "lora_rank": [4, 8], "learning_rate": {"loguniform": [1e-3, 1e-2]}},
    # Every trial runs to its end, so that no order of arrival matters.
    "serving": {"measure": False},
    "asha": {"max_epochs": 4, "grace_epochs": 4},
    "train": {"batch_size": 16, "max_length": 32, "dtype": "float32"},
    "baselines": [],
}
THOROUGH = pytest.mark.skipif(
    "SWEEP_THOROUGH" not in os.environ, reason="takes a minute: runs with SWEEP_THOROUGH=1"
)
PACKED = ["--set", "resources.engine=packed", "--set", "resources.slots=4"]


@pytest.fixture(scope="module")
def address() -> Iterator[str]:
    with start_nodes(1) as address:
        yield address


@pytest.fixture(scope="module")
def out(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("runs")


@pytest.fixture(scope="module")
def config(out: Path) -> Path:
    path = out / "sweep.yaml"
    path.write_text(yaml.safe_dump(TREE))
    return path


def run_sweep(config: Path, out: Path, address: str, name: str, *more: str) -> Path:
    """Run a sweep of this name; return its folder."""
    arguments = [str(config), "--out", str(out), "--name", name, "--address", address]
    assert main([*arguments, *more]) == 0
    return out / name


@pytest.fixture(scope="module")
def solo(config: Path, out: Path, address: str) -> Path:
    return run_sweep(config, out, address, "solo")


@pytest.fixture(scope="module")
def packed(config: Path, out: Path, address: str) -> Path:
    return run_sweep(config, out, address, "packed", *PACKED)


def rows(folder: Path, name: str = "results") -> dict[Any, dict[str, Any]]:
    """Return a table's rows by trial and, in the history, epoch."""
    table = pq.read_table(folder / f"{name}.parquet").to_pylist()
    return {(row["trial_id"], row.get("epoch")): row for row in table}


MEASURED = {
    *("train_seconds", "eval_seconds", "wall_seconds", "load_seconds", "peak_memory_bytes"),
    *("base_loads", "started_at", "ended_at", "time", "device", "versions", "git_commit"),
    # What a trial reserves: a part of its host where hosts are shared.
    *("gpus", "cpus"),
    # Packs are not.
    "compiled",
}


def assert_same_table(expected: Path, found: Path, name: str) -> None:
    """Assert that two runs agree in all but times: accuracies exactly, losses to 1e-4."""
    one, other = rows(expected, name), rows(found, name)
    assert one.keys() == other.keys()
    for key, row in one.items():
        for column in row.keys() - MEASURED:
            value, about = row[column], other[key][column]
            if isinstance(value, float) and column.endswith("loss"):
                assert about == pytest.approx(value, rel=1e-4), column
            else:
                assert about == value, column


@pytest.mark.parametrize("name", ["results", "history", "predictions"])
def test_packed_sweep_gives_the_table_of_the_solo_one(solo: Path, packed: Path, name: str) -> None:
    if name == "predictions":
        tables = [pq.read_table(folder / f"{name}.parquet") for folder in (solo, packed)]
        assert tables[0].to_pylist() == tables[1].to_pylist()
    else:
        assert_same_table(solo, packed, name)


def test_trials_that_no_pack_can_hold_train_alone_beside_the_packs(
    config: Path, out: Path, address: str, solo: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    models = [
        {"name": "tiny-llama", "path": "tiny:llama"},
        {"name": "tiny-full", "path": "tiny:llama", "method": "full", "tune": {"candidates": 2}},
    ]
    grid = ["--set", f"grid.models={models}", "--set", "grid.n_labels=[2]"]
    mixed = rows(run_sweep(config, out, address, "mixed", *PACKED, *grid))
    assert "trained alone, beside the packs: tiny-full" in capsys.readouterr().out
    packed = {key: row for key, row in mixed.items() if row["model"] == "tiny-llama"}
    alone = [row for row in mixed.values() if row["model"] == "tiny-full"]
    assert [row["test_accuracy"] for row in packed.values()] == [
        rows(solo)[key]["test_accuracy"] for key in packed
    ]
    assert [row["status"] for row in alone] == ["finished"] * 2
    assert all(row["trainable_parameters"] == row["total_parameters"] for row in alone)
    assert {row["method"] for row in alone} == {"full"}


@THOROUGH
def test_asha_stops_the_same_trials_where_they_come_in_the_same_order(
    config: Path, out: Path, address: str
) -> None:
    asha = ["--set", "asha={max_epochs: 4, grace_epochs: 1, reduction_factor: 2}"]
    asha += ["--set", "grid.n_labels=[4]"]
    alone = run_sweep(config, out, address, "solo-asha", *asha)
    # One slot: one trial after another, as one CPU gives them to the solo engine.
    one = run_sweep(config, out, address, "packed-asha", *asha, *PACKED[:3], "resources.slots=1")
    stops = [{k: row["decision"] for k, row in rows(f, "history").items()} for f in (alone, one)]
    assert "stop" in stops[0].values()
    assert stops[0] == stops[1]
    assert_same_table(alone, one, "results")


def test_host_that_is_killed_loses_no_trial(
    config: Path, out: Path, address: str, solo: Path
) -> None:
    killed: list[int] = []

    def kill_after_some_epochs() -> None:
        journal = out / "killed" / "journal.jsonl"
        while not killed:
            if journal.is_file() and journal.read_text().count('"event":"epoch"') >= 5:
                pool = ray.get_actor("hosts")
                asked = pool.__ray_call__.remote(
                    lambda pool: [ray.get(h.actor.pid.remote()) for h in pool._hosts.values()]
                )
                for pid in ray.get(asked):
                    os.kill(pid, signal.SIGKILL)
                    killed.append(pid)
            time.sleep(0.05)

    thread = threading.Thread(target=kill_after_some_epochs, daemon=True)
    thread.start()
    folder = run_sweep(config, out, address, "killed", *PACKED)
    assert killed
    retried = [e for e in read_events(folder) if e["event"] == "retried"]
    assert retried
    assert all("its host has ended" in event["error"] for event in retried)
    assert {row["status"] for row in rows(folder).values()} == {"finished"}
    assert_same_table(solo, folder, "history")


@THOROUGH
def test_killed_driver_resumes_to_the_same_table(config: Path, out: Path, solo: Path) -> None:
    arguments = [str(config), "--out", str(out), "--name", "cut", *PACKED]
    kill_and_resume(arguments, out / "cut", epochs=5)
    assert_same_table(solo, out / "cut", "history")


@pytest.mark.parametrize(
    "modules", ["sweep.workers.packed_actor, sweep.workers.host_pool", "sweep.tuning.driver"]
)
def test_actor_and_driver_import_nothing_that_trains(modules: str) -> None:
    code = (
        f"import sys, {modules}\n"
        "print([m for m in ('torch', 'transformers', 'peft') if m in sys.modules])"
    )
    answer = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert answer.stdout.strip() == "[]"


@pytest.mark.parametrize(
    ("nodes", "slots", "expected"),
    [
        ([{"CPU": 2.0}], 4, {"CPU": 0.25}),
        ([{"CPU": 0.5}, {"CPU": 4.0}], 3, {"CPU": 0.1666}),
        ([{"CPU": 8.0}, {"CPU": 16.0, "GPU": 4.0}], 8, {"CPU": 0.5, "GPU": 0.125}),
    ],
)
def test_slots_share_a_node_or_a_gpu(
    nodes: list[dict[str, float]], slots: int, expected: dict[str, float]
) -> None:
    assert packed_resources(nodes, slots, 1) == expected
