"""The Ray cluster of a run on this machine: nobody without its token gets in, and nothing of it
listens to the network."""

import io
import json
import os
import re
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import ray
from ray._private import ray_constants
from ray.tune.execution.class_cache import ENV_VARS_TO_PROPAGATE
from rich.console import Console

from sweep.cluster import environment
from sweep.cluster.environment import check_ray
from sweep.cluster.session import connect, find_folder_fault
from sweep.errors import ClusterError

TOKEN = "0123456789abcdef-of-the-user"
HOST = """
import json, os, sys
from pathlib import Path
import psutil, ray
from ray._private import ray_constants
from rich.console import Console
from sweep.cluster.session import connect, disconnect

def read():
    return {name: os.environ.get(name) for name in ("RAY_AUTH_MODE", "RAY_AUTH_TOKEN")}

connect(None, Path(sys.argv[1]), Console(stderr=True))
context = ray.get_runtime_context()
answer = {"address": context.gcs_address, "worker": ray.get(ray.remote(read).remote()),
          "driver": read(), "session": ray._private.worker._global_node.get_session_dir_path()}
tree = [psutil.Process(), *psutil.Process().children(recursive=True)]
answer["places"] = [c.laddr.ip for p in tree for c in p.net_connections("inet")
                    if c.status == psutil.CONN_LISTEN]
client = ray._private.worker.global_worker.gcs_client
spaces = [None, *(value for name, value in vars(ray_constants).items()
                  if name.startswith("KV_NAMESPACE") or name.endswith("_NAMESPACE"))]
spaces = [s.encode() if isinstance(s, str) else s for s in spaces]
answer["kept"] = repr([[(k, client.internal_kv_get(k, s)) for k in client.internal_kv_keys(b"", s)]
                       for s in spaces]) + repr(client.get_all_job_info())
answer["lines"] = [" ".join(p.cmdline()) for p in tree]
print(json.dumps(answer), flush=True)
sys.stdin.read()
disconnect()
print(json.dumps(read()))
"""
CLIENT = "import sys; from ray._raylet import GcsClient; print(GcsClient(address=sys.argv[1]))"


def environ(home: Path, **values: str) -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith("RAY_AUTH")}
    return kept | {"HOME": str(home), "PYTHONPATH": str(Path(__file__).parents[2])} | values


class Hosted:
    """A cluster that another process has started, and what that process says of it."""

    def __init__(self, folder: Path, **values: str) -> None:
        self.folder = folder
        self.process = subprocess.Popen(
            [sys.executable, "-c", HOST, str(folder)],
            env=environ(folder, **values),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        assert self.process.stdout
        self.told: dict[str, Any] = json.loads(self.process.stdout.readline())

    def knock(self, **values: str) -> subprocess.CompletedProcess[str]:
        """Try to get in from a process of its own."""
        command = [sys.executable, "-c", CLIENT, self.told["address"]]
        return subprocess.run(
            command, env=environ(self.folder, **values), capture_output=True, text=True, check=False
        )

    def close(self) -> dict[str, Any]:
        """End it; return the authentication variables that it left set."""
        output, _ = self.process.communicate("")
        left: dict[str, Any] = json.loads(output.splitlines()[-1])
        return left


@pytest.fixture(scope="module")
def own(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Hosted]:
    """A cluster without any set-up by the user."""
    hosted = Hosted(tmp_path_factory.mktemp("own"), HF_TOKEN=TOKEN)
    yield hosted
    hosted.process.communicate("")


def test_a_token_is_made_for_the_workers_and_taken_out_of_the_driver(own: Hosted) -> None:
    assert own.told["worker"]["RAY_AUTH_MODE"] == "token"
    assert re.fullmatch("[0-9a-f]{64}", own.told["worker"]["RAY_AUTH_TOKEN"])
    assert own.told["driver"] == {"RAY_AUTH_MODE": None, "RAY_AUTH_TOKEN": None}


def test_nobody_gets_in_without_the_token(own: Hosted) -> None:
    for answer in (own.knock(), own.knock(RAY_AUTH_MODE="token", RAY_AUTH_TOKEN=TOKEN)):
        assert answer.returncode == 1
        assert "InvalidAuthToken" in answer.stderr


def test_the_token_opens_the_cluster(own: Hosted) -> None:
    answer = own.knock(**own.told["worker"])
    assert answer.returncode == 0, answer.stderr


def test_the_token_is_in_no_file_and_no_command_line(own: Hosted) -> None:
    token = own.told["worker"]["RAY_AUTH_TOKEN"]
    files = [path for root in (own.folder, Path(own.told["session"])) for path in root.rglob("*")]
    read = [path for path in files if path.is_file() and token.encode() in path.read_bytes()]
    assert len(files) > 10
    assert read == []
    assert not (own.folder / ".ray").exists()
    assert not [line for line in own.told["lines"] if token in line]


def test_no_token_is_in_what_ray_keeps_of_the_job(own: Hosted) -> None:
    assert "job_id" in own.told["kept"]
    assert len(own.told["kept"]) > 1000
    for token in (TOKEN, own.told["worker"]["RAY_AUTH_TOKEN"]):
        assert token not in own.told["kept"]


def test_every_socket_listens_on_loopback(own: Hosted) -> None:
    assert len(own.told["places"]) >= 4
    assert {place.removeprefix("::ffff:") for place in own.told["places"]} <= {"127.0.0.1", "::1"}


def test_a_token_of_the_user_is_kept_and_stays_set(tmp_path: Path) -> None:
    given = {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": TOKEN}
    hosted = Hosted(tmp_path, **given)
    assert hosted.told["worker"] == hosted.told["driver"] == given
    assert hosted.knock(**given).returncode == 0
    assert hosted.close() == given


def test_a_closed_cluster_is_refused_in_one_sentence(
    own: Hosted, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = dict(os.environ)
    # Ray takes 127.0.0.1 for this machine's address on the network unless told otherwise.
    monkeypatch.setattr(ray_constants, "ENABLE_RAY_CLUSTER", False)
    with pytest.raises(ClusterError, match="requires a token") as caught:
        connect(own.told["address"], tmp_path, Console(file=io.StringIO()))
    assert "RAY_AUTH_TOKEN_PATH" in str(caught.value)
    assert "\n" not in str(caught.value)
    assert not ray.is_initialized()
    assert not [name for name in os.environ.keys() ^ before.keys() if name.startswith("RAY_AUTH")]


def test_token_mode_without_a_token_is_refused_in_one_sentence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RAY_AUTH_MODE", "token")
    monkeypatch.setenv("RAY_AUTH_TOKEN_PATH", str(tmp_path / "missing"))
    with pytest.raises(ClusterError, match="requires a token"):
        connect("127.0.0.1:1", tmp_path, Console(file=io.StringIO()))


def test_an_address_where_nothing_listens_is_refused_at_once(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    with pytest.raises(ClusterError, match="no Ray cluster answers"):
        connect(f"127.0.0.1:{port}", tmp_path, Console(file=io.StringIO()))


def test_tune_tells_no_worker_a_secret(tmp_path: Path) -> None:
    with pytest.raises(ClusterError):
        connect("127.0.0.1:1", tmp_path, Console(file=io.StringIO()))
    secret = re.compile("KEY|TOKEN|SECRET|PASSWORD|CREDENTIAL")
    assert not [name for name in ENV_VARS_TO_PROPAGATE if secret.search(name)]


@pytest.mark.parametrize("found", ["2.51.1", "2.53.0", "1.13.0"])
def test_a_ray_with_known_holes_is_refused(found: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(environment, "version", lambda name: found)
    with pytest.raises(ClusterError, match=rf"Ray {found} .* pip install --upgrade"):
        check_ray()


@pytest.mark.parametrize("found", ["2.54.0", "2.60.0", "3.0.0.dev0"])
def test_newer_rays_are_taken(found: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(environment, "version", lambda name: found)
    check_ray()


def test_folder_that_ray_cannot_have_its_session_in_is_known_by_its_fault() -> None:
    assert find_folder_fault(Path("/tmp/ray")) == ""
    assert "too long for Ray's sockets" in find_folder_fault(Path("/tmp") / ("x" * 80))
    assert "cannot be created" in find_folder_fault(Path("/proc/ray"))
