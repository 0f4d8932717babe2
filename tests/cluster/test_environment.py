"""What workers of a running cluster are told of the driver's environment, and what they are not."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from sweep.cluster.environment import worker_environment

TOKEN = "hf_0f3a9cNotForLogs"
SCRIPT = """
import json, os, sys
import ray
from ray._private.worker import global_worker
from sweep.cluster.environment import worker_environment

@ray.remote
def read():
    return {name: os.environ.get(name) for name in ("HF_TOKEN", "HF_HOME", "HF_HUB_OFFLINE")}

cluster = None
if sys.argv[1] == "remote":
    from ray.cluster_utils import Cluster
    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 1})
os.environ.update(json.loads(sys.stdin.read()))  # Ray shows a command line
told = {"runtime_env": {"env_vars": worker_environment()}} if cluster else {"num_cpus": 1}
address = cluster.address if cluster else "local"
context = ray.init(address, log_to_driver=False, include_dashboard=False if not cluster else None,
                   **told)
jobs = repr(global_worker.gcs_client.get_all_job_info())
print(json.dumps({"worker": ray.get(read.remote()), "jobs": jobs,
                  "session": context.address_info["session_dir"]}))
ray.shutdown()
"""
SET = {"HF_TOKEN": TOKEN, "HF_HOME": "/models/cache", "HF_HUB_OFFLINE": "1"}


def ask_worker(where: str) -> dict[str, object]:
    clean = {name: value for name, value in os.environ.items() if not name.startswith("HF_")}
    clean["PYTHONPATH"] = str(Path(__file__).parents[2])
    command = [sys.executable, "-c", SCRIPT, where]
    answer = subprocess.run(
        command, env=clean, input=json.dumps(SET), capture_output=True, text=True, check=False
    )
    assert answer.returncode == 0, answer.stderr
    found: dict[str, object] = json.loads(answer.stdout.splitlines()[-1])
    return found


def find_in_logs(session: object, text: str) -> list[Path]:
    files = [path for path in Path(str(session)).rglob("*") if path.is_file()]
    assert len(files) > 5
    return [path for path in files if text.encode() in path.read_bytes()]


def test_worker_of_a_local_cluster_inherits_everything() -> None:
    answer = ask_worker("local")
    assert answer["worker"] == SET
    assert TOKEN not in str(answer["jobs"])
    assert not find_in_logs(answer["session"], TOKEN)


def test_worker_of_a_running_cluster_is_told_places_and_switches_but_no_token() -> None:
    answer = ask_worker("remote")
    assert answer["worker"] == SET | {"HF_TOKEN": None}
    # Ray shows and logs a runtime_env: that is why the token must stay out of it.
    assert "/models/cache" in str(answer["jobs"])
    assert find_in_logs(answer["session"], "/models/cache")
    assert TOKEN not in str(answer["jobs"])
    assert not find_in_logs(answer["session"], TOKEN)


def test_secrets_are_never_told(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("HF_TOKEN", "HUGGING_FACE_HUB_TOKEN", "WANDB_API_KEY", "MLFLOW_TRACKING_PASSWORD"):
        monkeypatch.setenv(name, TOKEN)
    monkeypatch.setenv("HF_ENDPOINT", f"https://me:{TOKEN}@mirror.example")
    monkeypatch.setenv("HF_HOME", "/models/cache")
    assert worker_environment()["HF_HOME"] == "/models/cache"
    assert TOKEN not in str(worker_environment())
