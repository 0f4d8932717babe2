"""The shipped cluster files, checked without a cloud."""

import json
import re
import subprocess
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

import pytest
import yaml
from ray.autoscaler._private.util import prepare_config, validate_config

ROOT = Path(__file__).parents[2]
FILES = ("cluster.yaml", "clusters/onprem.yaml")


def read(name: str) -> dict[str, Any]:
    tree: dict[str, Any] = yaml.safe_load((ROOT / name).read_text())
    return tree


@pytest.fixture
def aws() -> dict[str, Any]:
    return read("cluster.yaml")


def worker_types(aws: dict[str, Any]) -> dict[str, dict[str, Any]]:
    kinds = aws["available_node_types"].items()
    return {name: kind for name, kind in kinds if name != aws["head_node_type"]}


@pytest.mark.parametrize("name", FILES)
def test_file_passes_rays_schema(name: str) -> None:
    validate_config(prepare_config(read(name)))


@pytest.mark.parametrize("name", FILES)
def test_unknown_key_would_be_noticed(name: str) -> None:
    with pytest.raises(Exception, match="idle_timeout_minute"):
        validate_config(prepare_config(read(name) | {"idle_timeout_minute": 5}))


@pytest.mark.parametrize("name", FILES)
def test_resolved_file_holds_no_token(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_TOKEN", "hf_ThisMustNotTravel")
    text = json.dumps(prepare_config(read(name)))
    assert "hf_" not in text
    assert not re.search(r"HF_TOKEN|RAY_AUTH_TOKEN=|\b[0-9a-f]{64}\b", text)


@pytest.mark.parametrize("name", FILES)
def test_every_file_that_travels_exists_and_no_folder_of_data_does(name: str) -> None:
    sources = list(read(name)["file_mounts"].values())
    assert all((ROOT / source).exists() for source in sources if not source.startswith("~"))
    assert not {".", "runs", "data", "models", ".git"} & set(sources)


@pytest.mark.parametrize("name", FILES)
def test_ray_asks_for_its_token_on_every_node(name: str) -> None:
    tree = read(name)
    assert tree["file_mounts"]["~/.ray/auth_token"] == "~/.ray/auth_token"
    for key in ("head_start_ray_commands", "worker_start_ray_commands"):
        assert "RAY_AUTH_MODE=token ray start" in tree[key][-1]


@pytest.mark.parametrize("name", FILES)
def test_dashboard_listens_on_the_heads_loopback_only(name: str) -> None:
    command = read(name)["head_start_ray_commands"][-1]
    assert "--dashboard-host=127.0.0.1" in command.split()


@pytest.mark.parametrize("name", FILES)
def test_head_never_trains(name: str) -> None:
    assert {"--num-cpus=0", "--num-gpus=0"} <= set(
        read(name)["head_start_ray_commands"][-1].split()
    )


def test_workers_come_from_zero_and_leave_after_five_minutes(aws: dict[str, Any]) -> None:
    assert aws["idle_timeout_minutes"] == 5
    assert all(kind["min_workers"] == 0 for kind in worker_types(aws).values())


def test_spot_is_asked_for_before_on_demand(aws: dict[str, Any]) -> None:
    kinds = sorted(worker_types(aws).values(), key=lambda kind: -kind["priority"])
    spot = ["InstanceMarketOptions" in kind["node_config"] for kind in kinds]
    assert spot == [True, True, False]
    assert len({kind["node_config"]["InstanceType"] for kind in kinds}) == 2


def test_workers_have_no_rights_at_aws(aws: dict[str, Any]) -> None:
    configs = [kind["node_config"] for kind in worker_types(aws).values()]
    assert not any("IamInstanceProfile" in config for config in configs)


def test_ray_is_left_no_security_group_to_make(aws: dict[str, Any]) -> None:
    # Where one is missing Ray makes it, with port 22 open to the world.
    kinds = aws["available_node_types"].values()
    assert all(kind["node_config"]["SecurityGroupIds"] for kind in kinds)


def test_stopped_machines_and_disks_do_not_stay(aws: dict[str, Any]) -> None:
    assert aws["provider"]["cache_stopped_nodes"] is False
    for kind in aws["available_node_types"].values():
        config = kind["node_config"]
        assert config["InstanceInitiatedShutdownBehavior"] == "terminate"
        assert all(disk["Ebs"]["DeleteOnTermination"] for disk in config["BlockDeviceMappings"])


def test_node_setup_run_twice_leaves_the_same(tmp_path: Path) -> None:
    home, shared, copy = tmp_path / "home", tmp_path / "shared", tmp_path / "home" / "sweep"
    for folder in (home / ".ray", shared, copy / "clusters", home / "sweep-env" / "bin"):
        folder.mkdir(parents=True)
    for name in ("pyproject.toml", "constraints.txt", "clusters/setup_node.sh"):
        (copy / name).write_bytes((ROOT / name).read_bytes())
    (home / ".ray" / "auth_token").write_text("secret")
    # What it needs root or a network for is taken as done: the mount, and the installation.
    stamp = (
        "cat pyproject.toml constraints.txt | sha256sum | cut -d' ' -f1 > ../sweep-env/installed"
    )
    subprocess.run(["bash", "-c", stamp], cwd=copy, check=True)
    (home / "sweep-env" / "bin" / "mountpoint").write_text("#!/bin/sh\nexit 0\n")
    (home / "sweep-env" / "bin" / "mountpoint").chmod(0o755)
    told = {"HOME": str(home), "SHARED": str(shared), "PATH": f"{home}/sweep-env/bin:/usr/bin:/bin"}
    texts = []
    for _ in range(2):
        subprocess.run(["bash", "clusters/setup_node.sh"], cwd=copy, env=told, check=True)
        texts.append((home / ".bashrc").read_text() + (home / ".sweeprc").read_text())
    assert texts[0] == texts[1]
    assert (copy / "runs").resolve() == shared / "runs"
    assert "RAY_ADDRESS" not in texts[0]  # the head's alone
    assert (home / ".ray" / "auth_token").stat().st_mode & 0o777 == 0o600


def test_node_setup_without_shared_storage_fails_with_a_sentence(tmp_path: Path) -> None:
    told = {"HOME": str(tmp_path), "SHARED": str(tmp_path), "PATH": "/usr/bin:/bin"}
    script = ROOT / "clusters" / "setup_node.sh"
    done = subprocess.run(["bash", str(script)], env=told, capture_output=True, text=True)
    assert done.returncode == 1
    assert "set NFS=SERVER:/PATH, or SHARED" in done.stderr


@pytest.mark.parametrize("name", FILES)
def test_filters_let_through_what_ray_itself_sends(name: str) -> None:
    sent = ("ray_bootstrap_key.pem", "ray_bootstrap_config.yaml", "auth_token")
    patterns = read(name)["rsync_exclude"]
    assert not [file for file in sent for pattern in patterns if fnmatch(file, pattern)]
