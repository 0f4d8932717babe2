"""Checkpoints in an S3 bucket, moto's."""

import json
import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import boto3
import pytest
import torch
from namespaces import REPO, run, wait_for
from sweeps import comparable, read_journal, run_alone, write_sweep

from sweep.errors import StorageError
from sweep.storage.folders import Storage, open_storage
from sweep.storage.manifest import MANIFEST
from sweep.training.checkpoint import read_checkpoint, write_checkpoint

PORT = 5001


@pytest.fixture(scope="module")
def bucket(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    run("ip", "link", "set", "lo", "up")
    told = {
        "AWS_ENDPOINT_URL": f"http://127.0.0.1:{PORT}",
        "AWS_ACCESS_KEY_ID": "made-up",
        "AWS_SECRET_ACCESS_KEY": "made-up",
        "AWS_DEFAULT_REGION": "us-east-1",
    }
    before = dict(os.environ)
    os.environ.update(told)
    log = (tmp_path_factory.mktemp("moto") / "log").open("wb")
    command = [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(PORT)]
    moto = subprocess.Popen(command, stdout=log, stderr=log)
    try:
        wait_for("moto", _answers, 60)
        boto3.client("s3").create_bucket(Bucket="sweep-runs")
        yield "s3://sweep-runs/study"
    finally:
        moto.kill()
        moto.wait()
        os.environ.clear()
        os.environ.update(before)


def _answers() -> bool:
    with socket.socket() as knock:
        return knock.connect_ex(("127.0.0.1", PORT)) == 0


@pytest.fixture
def storage(bucket: str) -> Storage:
    return open_storage(bucket)


@pytest.fixture
def checkpoint(tmp_path: Path) -> Path:
    folder = tmp_path / "epoch-0003"
    write_checkpoint(folder, {"adapter": {"A": torch.randn(64, 64)}}, {"epoch": 3})
    return folder


def test_checkpoint_comes_back_bit_for_bit(
    storage: Storage, checkpoint: Path, tmp_path: Path
) -> None:
    storage.write_folder("t1/epoch-0003", checkpoint)
    assert storage.read_folder("t1/epoch-0003", tmp_path / "back")
    before, after = read_checkpoint(checkpoint), read_checkpoint(tmp_path / "back")
    assert before and after
    assert torch.equal(before[0]["adapter"]["A"], after[0]["adapter"]["A"])
    assert before[1] == after[1]


def test_folder_without_manifest_does_not_count(storage: Storage, checkpoint: Path) -> None:
    storage.write_folder("t2/epoch-0003", checkpoint)
    boto3.client("s3").delete_object(Bucket="sweep-runs", Key=f"study/t2/epoch-0003/{MANIFEST}")
    assert storage.list_folders("t2") == []


def test_listing_and_deleting(storage: Storage, checkpoint: Path) -> None:
    for epoch in (3, 4):
        storage.write_folder(f"t3/epoch-000{epoch}", checkpoint)
    storage.delete_folder("t3/epoch-0003")
    assert storage.list_folders("t3") == ["t3/epoch-0004"]


def test_no_object_is_a_pickle(storage: Storage, checkpoint: Path) -> None:
    storage.write_folder("t4/epoch-0003", checkpoint)
    found = boto3.client("s3").list_objects_v2(Bucket="sweep-runs", Prefix="study/t4/")
    names = [item["Key"].rpartition("/")[2] for item in found["Contents"] if item["Size"]]
    assert sorted(names) == ["adapter.safetensors", MANIFEST, "state.json"]


def test_missing_bucket_is_named(checkpoint: Path, bucket: str) -> None:
    with pytest.raises(StorageError, match="s3://no-such-bucket/x"):
        open_storage("s3://no-such-bucket/x").write_folder("t1/epoch-0003", checkpoint)


@pytest.mark.timeout(900)
def test_sweep_with_its_checkpoints_there_gives_the_same_table(bucket: str, tmp_path: Path) -> None:
    small = {"tune": {"candidates": 1, "lora_rank": 4, "learning_rate": 5e-3}}
    tables = []
    for name, more in (("here", {}), ("there", {"storage": {"checkpoints": bucket}})):
        (tmp_path / name).mkdir()
        tables.append(run_alone(tmp_path / name, write_sweep(tmp_path / name, **small, **more)))
    assert comparable(tables[0]) == comparable(tables[1])
    assert not (tables[1] / "checkpoints").exists()
    ended = [event for event in read_journal(tables[1]) if event["event"] == "ended"]
    found = boto3.client("s3").list_objects_v2(Bucket="sweep-runs", Prefix="study/cluster/")
    manifests = [i["Key"] for i in found["Contents"] if i["Key"].endswith(MANIFEST)]
    assert len(manifests) == len(ended) == 2


def test_bucket_is_opened_to_the_nodes_and_nothing_else_is(bucket: str) -> None:
    command = [sys.executable, "clusters/aws_foundation.py", "--region", "us-west-2"]
    mine = ["--ssh-from", "203.0.113.7/32", "--bucket", "sweep-runs"]
    for _ in range(2):
        subprocess.run([*command, *mine], cwd=REPO, check=True, capture_output=True)
    iam = boto3.client("iam")
    worker = iam.get_role(RoleName="sweep-worker")["Role"]["Arn"]
    here = {"arn:aws:s3:::sweep-runs", "arn:aws:s3:::sweep-runs/*"}
    for role, places in (("sweep-worker", here), ("sweep-head", here | {worker})):
        policy = iam.get_role_policy(RoleName=role, PolicyName="sweep-bucket")["PolicyDocument"]
        statements = (json.loads(policy) if isinstance(policy, str) else policy)["Statement"]
        assert {statement["Resource"] for statement in statements} == places
    assert iam.list_role_policies(RoleName="sweep-worker")["PolicyNames"] == ["sweep-bucket"]
    subprocess.run([*command, "--delete"], cwd=REPO, check=True, capture_output=True)
    left = {role["RoleName"] for role in iam.list_roles()["Roles"]}
    assert not left & {"sweep-worker", "sweep-head"}
