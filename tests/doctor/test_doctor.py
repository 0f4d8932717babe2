"""What ``sweep doctor`` says of a machine on which something is wrong."""

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest
from packaging.requirements import Requirement

from sweep.doctor import children, cli, examination, packages
from sweep.doctor.hub import check_hub
from sweep.doctor.machine import check_machine
from sweep.errors import Finding

TOKEN = "hf_canary0Kd81"


class Hub(BaseHTTPRequestHandler):
    """Knows one token."""

    def do_GET(self) -> None:
        known = self.headers["Authorization"] == f"Bearer {TOKEN}"
        self.send_response(200 if known and self.path == "/api/whoami-v2" else 401)
        self.end_headers()

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[HTTPServer]:
    server = HTTPServer(("127.0.0.1", 0), Hub)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    for name in ("HF_HUB_OFFLINE", "HTTP_PROXY", "http_proxy"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HF_ENDPOINT", f"http://127.0.0.1:{server.server_port}")
    monkeypatch.setattr("huggingface_hub.constants.HF_TOKEN_PATH", str(tmp_path / "token"))
    yield server
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.mark.parametrize(
    ("token", "level", "words"),
    [
        (TOKEN, "note", "answers and knows the token"),
        ("hf_wrong", "error", "refuses the token; make a new one at https://huggingface.co/settin"),
        (None, "note", "answers; no token is set, which gated models need"),
    ],
)
def test_hub_is_asked_whether_it_knows_the_token(
    token: str | None, level: str, words: str, hub: HTTPServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("HF_TOKEN", raising=False)
    if token:
        monkeypatch.setenv("HF_TOKEN", token)
    (finding,) = check_hub()
    assert (finding.level, finding.key) == (level, "hub")
    assert words in finding.sentence
    assert not token or token not in finding.sentence


def test_hub_that_does_not_answer_is_a_warning(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("HF_HUB_OFFLINE")
    monkeypatch.setenv("HF_ENDPOINT", "http://me:secret@127.0.0.1:1")
    (finding,) = check_hub()
    assert finding.level == "warning"
    assert "127.0.0.1:1 cannot be reached" in finding.sentence
    assert "secret" not in finding.sentence


def test_package_that_is_missing_or_too_old_is_named_with_the_command(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    needed = [Requirement("rich>=999"), Requirement("no-such-package>=1"), Requirement("pyyaml>=1")]
    monkeypatch.setattr(packages, "_read_requirements", lambda: needed)
    wrong = [finding for finding in packages.check_packages() if finding.level == "error"]
    assert len(wrong) == 2
    assert wrong[0].sentence.startswith("textsweep needs rich>=999, but rich ")
    assert wrong[0].sentence.endswith("-m pip install 'rich>=999'")
    assert "needs no-such-package>=1, which is not installed; run " in wrong[1].sentence


def test_folder_that_cannot_be_one_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    found = {each.key: each for each in check_machine(tmp_path / "file" / "runs")}
    assert found["disk"].level == "error"
    assert f"{tmp_path / 'file'} is a file; choose another --out" in found["disk"].sentence
    assert found["python"].level == found["machine"].level == "note"


def test_library_that_cannot_be_imported_is_a_finding(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "ray").mkdir()
    (tmp_path / "ray" / "__init__.py").write_text("import os; os.abort()")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    (finding,) = children.ask("ray")
    assert finding.level == "error"
    assert "cannot be imported or used (ended by SIGABRT); to install" in finding.sentence


def test_exit_code_and_lines_say_whether_anything_is_wrong(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def crash() -> list[Finding]:
        raise RuntimeError("broken")

    monkeypatch.setattr(examination, "ask", lambda *_: [Finding("warning", "ray", "is slow")])
    monkeypatch.setattr(examination, "check_hub", lambda: [Finding("note", "hub", "answers")])
    assert cli.main([]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert "warning ray: is slow" in lines
    assert lines[-1] == "ok      hub: answers"
    monkeypatch.setattr(examination, "check_hub", crash)
    assert cli.main(["--json"]) == 1
    tree = json.loads(capsys.readouterr().out)
    assert tree["ok"] is False
    assert tree["findings"][-1] == {
        "key": "hub",
        "level": "error",
        "sentence": "cannot be checked (RuntimeError: broken); install textsweep again",
    }
