"""A run whose checkpoints lie at a URI: kept, found again, cleaned up, and gone on from."""

import hashlib
import json
import socket
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pyarrow.parquet as pq
import pytest
import torch
import yaml
from ray_runs import kill_and_resume

from sweep.cluster.nodes import explain_storage
from sweep.data import Subsets
from sweep.export.cli import main as export
from sweep.plan import Plan
from sweep.run import main
from sweep.storage.checkpoints import CheckpointStore, list_checkpoints, name_checkpoint, open_store
from sweep.storage.journal import read_events
from sweep.storage.manifest import MANIFEST
from sweep.training.checkpoint import read_checkpoint, write_checkpoint
from sweep.workers.solo_actor import SoloTrialActor

TREE: dict[str, Any] = {
    "name": "far",
    "data": {"source": "synthetic", "max_eval_per_label": 6},
    "grid": {
        "models": [{"name": "tiny", "path": "tiny:llama"}], "n_labels": [2], "n_samples": [160],
    },
    "tune": {"candidates": 1, "lora_rank": 4, "learning_rate": 5e-3},
    "serving": {"measure": False},
    "asha": {"max_epochs": 12, "grace_epochs": 12},
    "train": {"batch_size": 16, "max_length": 32, "patience": None},
    "resources": {"cpus_per_trial": 1},
    "baselines": [],
}  # fmt: skip


@pytest.fixture(scope="module")
def s3() -> Iterator[str]:
    """Start a server that speaks S3; return a URI in its bucket."""
    server = pytest.importorskip("moto.server")
    boto3 = pytest.importorskip("boto3")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    moto = server.ThreadedMotoServer("127.0.0.1", port, verbose=False)
    moto.start()
    told = {
        "AWS_ENDPOINT_URL": f"http://127.0.0.1:{port}",
        "AWS_ACCESS_KEY_ID": "made-up",
        "AWS_SECRET_ACCESS_KEY": "made-up",
        "AWS_DEFAULT_REGION": "us-east-1",
    }
    with pytest.MonkeyPatch.context() as patch:
        for name, value in told.items():
            patch.setenv(name, value)
        boto3.client("s3").create_bucket(Bucket="sweep")
        yield "s3://sweep/kept"
    moto.stop()


@pytest.fixture(params=["file", "s3"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> CheckpointStore:
    uri = (tmp_path / "far").as_uri() if request.param == "file" else request.getfixturevalue("s3")
    return open_store(tmp_path / "runs" / tmp_path.name, uri)


@pytest.fixture
def scratch(tmp_path: Path) -> Path:
    (tmp_path / "scratch").mkdir()
    return tmp_path / "scratch"


def keep(store: CheckpointStore, folder: Path, *epochs: int) -> None:
    """Write the trial's checkpoints one after the other, as an engine does."""
    for epoch in epochs:
        groups = {"adapter": {"a": torch.full((3,), float(epoch))}}
        write_checkpoint(name_checkpoint(folder, epoch), groups, {"epoch": epoch})
        store.push("trial", folder, epoch, 2)


def fetched(store: CheckpointStore, scratch: Path, up_to: int | None = None) -> list[int]:
    """Return the epochs of the whole checkpoints that a trial finds."""
    found = map(read_checkpoint, list_checkpoints(store.fetch("trial", scratch, up_to)))
    return [checkpoint[1]["epoch"] for checkpoint in found if checkpoint]


def test_newest_checkpoint_is_fetched(
    store: CheckpointStore, scratch: Path, tmp_path: Path
) -> None:
    assert fetched(store, scratch) == []
    keep(store, tmp_path / "local", 1, 2, 3)
    assert fetched(store, scratch) == [3]


def test_checkpoint_past_the_journal_is_not_fetched(
    store: CheckpointStore, scratch: Path, tmp_path: Path
) -> None:
    keep(store, tmp_path / "local", 1, 2, 3)
    assert fetched(store, scratch, 2) == [2]
    store.drop_newer("trial", 2)
    assert fetched(store, scratch) == [2]


def test_damaged_checkpoint_gives_way_to_the_one_before(scratch: Path, tmp_path: Path) -> None:
    store = open_store(tmp_path / "run", str(tmp_path / "far"))
    keep(store, tmp_path / "local", 1, 2)
    file = tmp_path / "far" / "run" / "trial" / "epoch-0002" / "adapter.safetensors"
    file.write_bytes(file.read_bytes()[:-1])
    assert fetched(store, scratch) == [1]


def test_checkpoint_of_an_earlier_release_is_fetched(
    store: CheckpointStore, scratch: Path, tmp_path: Path
) -> None:
    keep(store, tmp_path / "local", 1)
    folder = name_checkpoint(tmp_path / "local", 1)
    # As release 0.1 wrote it: BLAKE2b, and no word of it.
    sums = {name: hashlib.blake2b((folder / name).read_bytes()).hexdigest()[:32]
            for name in ("adapter.safetensors", "state.json")}  # fmt: skip
    (folder / MANIFEST).write_text(json.dumps(sums))
    store.push("trial", tmp_path / "local", 1, 2)
    assert fetched(store, scratch) == [1]
    found = store.fetch("trial", scratch) / "epoch-0001" / MANIFEST
    assert json.loads(found.read_text()) == sums


def test_as_many_are_kept_as_asked(store: CheckpointStore, scratch: Path, tmp_path: Path) -> None:
    keep(store, tmp_path / "local", 1, 2, 3)
    store.drop_newer("trial", 2)
    assert fetched(store, scratch) == [2]  # the first went when the third came
    store.keep_newest("trial", 0)
    assert fetched(store, scratch) == []


def test_epoch_without_a_checkpoint_keeps_nothing(
    store: CheckpointStore, scratch: Path, tmp_path: Path
) -> None:
    store.push("trial", tmp_path / "local", 1, 2)
    assert fetched(store, scratch) == []


def test_run_folder_is_used_in_place(tmp_path: Path, scratch: Path) -> None:
    store = open_store(tmp_path / "run", None)
    folder = store.fetch("trial", scratch)
    assert folder == tmp_path / "run" / "checkpoints" / "trial"
    keep(store, folder, 1, 2, 3)
    store.keep_newest("trial", 1)
    assert [path.name for path in list_checkpoints(folder)] == ["epoch-0003"]
    assert list(scratch.iterdir()) == []


@pytest.fixture(scope="module")
def killed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Kill a sweep whose checkpoints lie elsewhere, resume it; return its folder."""
    out = tmp_path_factory.mktemp("runs")
    config = out / "far.yaml"
    config.write_text(
        yaml.safe_dump(TREE | {"storage": {"checkpoints": (out / "elsewhere").as_uri()}})
    )
    kill_and_resume([str(config), "--out", str(out)], out / "far", epochs=3)
    return out / "far"


def test_killed_run_goes_on_from_its_checkpoint_elsewhere(killed: Path) -> None:
    events = list(read_events(killed))
    (ended,) = [event for event in events if event["event"] == "ended"]
    assert ended["status"] == "finished"
    assert ended["resumed_epoch"] >= 3
    epochs = [event["epoch"] for event in events if event["event"] == "epoch"]
    assert epochs == list(range(1, 13))
    assert not [event for event in events if event["event"] == "noted"]


def test_nothing_of_it_lies_in_the_run_folder_and_one_checkpoint_is_kept(killed: Path) -> None:
    assert not (killed / "checkpoints").exists()
    folders = list((killed.parent / "elsewhere" / "far").glob("*/epoch-*"))
    assert len(folders) == 1
    (row,) = pq.read_table(killed / "results.parquet").to_pylist()
    assert folders[0].parent.name == row["trial_id"]
    assert {file.suffix for file in folders[0].iterdir()} == {".safetensors", ".json"}
    assert not list((killed.parent / "elsewhere").glob("storage-check-*"))


def test_winner_is_exported_from_there(killed: Path, tmp_path: Path) -> None:
    assert export([str(killed), "--best", "--out", str(tmp_path / "winner")]) == 0
    assert (tmp_path / "winner" / "adapter_model.safetensors").is_file()


def test_storage_that_cannot_be_written_ends_the_run_before_it_trains(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").write_text("")
    config = tmp_path / "far.yaml"
    config.write_text(yaml.safe_dump(TREE))
    place = f"storage.checkpoints={tmp_path / 'file'}"
    assert main([str(config), "--out", str(tmp_path / "runs"), "--set", place]) == 2
    told = capsys.readouterr().err
    assert told.startswith(f"error: storage.checkpoints: file://{tmp_path}/file: storage-check-")
    assert told.count("\n") == 1
    kinds = [event["event"] for event in read_events(tmp_path / "runs" / "far")]
    assert "started" not in kinds


def test_bucket_that_is_not_there_ends_the_run_before_it_trains(
    s3: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = tmp_path / "far.yaml"
    config.write_text(yaml.safe_dump(TREE))
    place = "storage.checkpoints=s3://no-such-bucket/x"
    assert main([str(config), "--out", str(tmp_path / "runs"), "--set", place]) == 2
    told = capsys.readouterr().err
    assert told.startswith("error: storage.checkpoints: s3://no-such-bucket/x")
    assert told.count("\n") == 1


def test_node_that_does_not_share_the_storage_is_named() -> None:
    text = explain_storage(Path("/runs/a"), "s3://b/x", ["node2", "node1"], "s3://b/x: denied")
    assert "cannot be read on node1, node2, or vice versa (s3://b/x: denied)" in text


@pytest.mark.parametrize(
    ("place", "reason"),
    [
        ("checkpoints", "is not a storage that every machine can reach"),
        ("ftp://host/x", "is not a storage that every machine can reach"),
        ("s3://", "is not a storage that every machine can reach"),
        ("s3://KEY:SECRET@bucket/x", "holds a user name or password"),
    ],
)
def test_place_that_others_cannot_find_is_refused(
    place: str,
    reason: str,
    write_config: Callable[..., Path],
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert main([str(write_config()), "--set", f"storage.checkpoints={place}", "--dry-run"]) == 2
    told = capsys.readouterr().err
    assert "storage.checkpoints" in told
    assert reason in told
    assert "SECRET" not in told


def take_trial(
    monkeypatch: pytest.MonkeyPatch, plan: Plan, subsets: Subsets, folder: Path, **more: Any
) -> dict[str, Any]:
    """Let a worker of no cluster take the plan's first trial; return its first result."""
    answers = ("get_assigned_resources", "get_accelerator_ids", "get_node_labels")
    alone = SimpleNamespace(**dict.fromkeys(answers, dict))
    monkeypatch.setattr("sweep.workers.solo_actor.ray.get_runtime_context", lambda: alone)
    # The worker sets it for its own process, which here is that of the tests.
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    trial = object.__new__(SoloTrialActor)
    config = {"trial": plan.trials[0], "resume_epoch": 0}
    trial.setup(config, subsets=subsets, run_folder=str(folder), **more)
    result: dict[str, Any] = trial.step()
    trial.cleanup()
    return result


def test_worker_that_does_not_see_the_run_folder_ends_the_run(
    monkeypatch: pytest.MonkeyPatch, plan: Plan, subsets: Subsets, tmp_path: Path
) -> None:
    result = take_trial(monkeypatch, plan, subsets, tmp_path / "run")
    assert result["done"]
    assert f"the run folder {tmp_path}/run is not visible from" in result["halt"]
    assert result["halt"].endswith("then continue with --resume")


def test_worker_that_cannot_write_to_the_storage_ends_the_run(
    monkeypatch: pytest.MonkeyPatch, plan: Plan, subsets: Subsets, tmp_path: Path
) -> None:
    (tmp_path / "file").write_text("")
    place = (tmp_path / "file").as_uri()
    result = take_trial(monkeypatch, plan, subsets, tmp_path / "run", storage=place)
    assert result["done"]
    assert result["halt"].startswith(f"{place}: ")
    assert result["halt"].endswith("then continue with --resume")
