"""A run, its report and its export with secrets in the environment: none of them is written
anywhere, and nothing is written where it should not be."""

import os
import shutil
import stat
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
import yaml

from sweep.errors import RunFolderError
from sweep.export import cli as export
from sweep.run import main

SECRETS = {
    "HF_TOKEN": "hf_canary0Kd81",
    "HUGGING_FACE_HUB_TOKEN": "hf_canary1Jx22",
    "RAY_AUTH_TOKEN": "canary2-ray-77c1f0a9",
    "WANDB_API_KEY": "canary3wandb40characters0000000000000000",
    "MLFLOW_TRACKING_PASSWORD": "canary4mlflow",
    "MLFLOW_TRACKING_TOKEN": "canary5mlflow",
    "AWS_SECRET_ACCESS_KEY": "canary6aws",
    "AWS_SESSION_TOKEN": "canary7aws",
    "HF_ENDPOINT": "https://me:canary8hub@hub.invalid",
    "HTTPS_PROXY": "http://me:canary9proxy@proxy.invalid:1",
}
CANARIES = [
    *(value for value in SECRETS.values() if "://" not in value),
    "canary8hub",
    "canary9proxy",
]
TREE = {
    "name": "small",
    "data": {"source": "synthetic", "max_eval_per_label": 4},
    "grid": {
        "models": [{"name": "a", "path": "tiny:llama"}],
        "n_labels": [2],
        "n_samples": [16],
    },
    "tune": {"candidates": 1, "lora_rank": 2, "learning_rate": 5e-3},
    "serving": {"measure": False},
    "asha": {"max_epochs": 1},
    "train": {"batch_size": 8, "max_length": 16},
    "trackers": {"tensorboard": True},
    "baselines": ["majority"],
}


@dataclass
class Done:
    """What a run, its report and its export left behind."""

    run: Path
    exported: Path
    ray: Path
    said: str


@pytest.fixture(scope="module")
def done(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Done]:
    place = tmp_path_factory.mktemp("secret")
    (place / "small.yaml").write_text(yaml.safe_dump(TREE))
    # Ray's sockets need a short path.
    ray = Path(tempfile.mkdtemp(prefix="ray-", dir="/tmp"))
    values = os.environ | SECRETS | {"RAY_TMPDIR": str(ray), "RAY_AUTH_MODE": "token"}
    values["PYTHONPATH"] = str(Path(__file__).parent.parent)
    run, exported = place / "runs" / "small", place / "winner"
    said = ""
    for words in (
        ["sweep.run", "small.yaml"],
        ["analysis.report", str(run), "--out", str(place / "runs" / "report.html")],
        ["sweep.export", str(run), "--best", "--out", str(exported), "--merge"],
    ):
        answer = subprocess.run(
            [sys.executable, "-m", *words],
            cwd=place, env=values, umask=0o022, capture_output=True, text=True, check=False,
        )  # fmt: skip
        assert answer.returncode == 0, answer.stderr
        said += answer.stdout + answer.stderr
    yield Done(run, exported, ray, said)
    shutil.rmtree(ray)


def list_files(folder: Path) -> list[Path]:
    return [path for path in folder.rglob("*") if path.is_file()]


def find_canaries(files: list[Path]) -> list[tuple[Path, str]]:
    read = [(path, path.read_bytes()) for path in files]
    return [(path, word) for path, data in read for word in CANARIES if word.encode() in data]


def test_no_secret_is_in_the_run_the_report_or_the_export(done: Done) -> None:
    written = list_files(done.run.parent) + list_files(done.exported)
    names = {path.name for path in written}
    assert {"journal.jsonl", "config.yaml", "ray.log", "report.html", "results.parquet",
            "README.md", "sweep.json", "model.safetensors"} <= names  # fmt: skip
    assert find_canaries(written) == []
    assert not [word for word in CANARIES if word in done.said]


def test_no_secret_is_in_the_logs_of_ray(done: Done) -> None:
    logs = list_files(done.ray)
    assert {"gcs_server.out", "raylet.out"} <= {path.name for path in logs}
    assert find_canaries(logs) == []


def test_the_search_for_secrets_finds_one(done: Done, tmp_path: Path) -> None:
    (tmp_path / "log").write_bytes(b"\0 export HF_TOKEN=" + SECRETS["HF_TOKEN"].encode())
    assert find_canaries([tmp_path / "log"]) == [(tmp_path / "log", SECRETS["HF_TOKEN"])]


def test_nothing_that_is_written_can_be_changed_by_others(done: Done) -> None:
    written = [done.run, *done.run.rglob("*"), done.exported, *done.exported.rglob("*")]
    loose = [path for path in written if path.stat().st_mode & (stat.S_IWGRP | stat.S_IWOTH)]
    assert loose == []


def test_an_export_of_a_linked_run_is_the_same(done: Done, tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(done.run)
    out = tmp_path / "winner"
    assert export.main([str(tmp_path / "link"), "--best", "--out", str(out), "--merge"]) == 0
    assert not [path for path in out.rglob("*") if path.is_symlink()]
    weights = (out / "model.safetensors").read_bytes()
    assert weights == (done.exported / "model.safetensors").read_bytes()


def test_a_link_to_a_folder_in_use_is_refused(tmp_path: Path) -> None:
    (tmp_path / "foreign").mkdir()
    (tmp_path / "foreign" / "mine.txt").touch()
    (tmp_path / "out").symlink_to(tmp_path / "foreign")
    with pytest.raises(RunFolderError, match="is not empty"):
        export.check_target((tmp_path / "out").resolve())


def test_a_link_in_the_place_to_write_is_refused_and_not_followed(tmp_path: Path) -> None:
    (tmp_path / "out.partial").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(RunFolderError, match="is left over from an unfinished export"):
        export.check_target(tmp_path / "out")
    assert not (tmp_path / "elsewhere").exists()


def test_a_folder_filled_meanwhile_is_not_overwritten(tmp_path: Path) -> None:
    for name in ("out", "out.partial"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "mine.txt").write_text(name)
    with pytest.raises(RunFolderError, match="was filled by something else"):
        export.rename_finished(tmp_path / "out.partial", tmp_path / "out")
    assert (tmp_path / "out" / "mine.txt").read_text() == "out"


@pytest.mark.parametrize("name", ["../x", "a/../../x", "/abs/x", "..", ".hidden", "a\0b", "a\nb"])
def test_a_run_name_cannot_leave_the_folder_of_runs(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "small.yaml").write_text(yaml.safe_dump(TREE | {"name": name}))
    for arguments in (["small.yaml"], ["--name", name, "--resume"]):
        assert main([*arguments, "--dry-run"]) == 2
        assert "letters" in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ["small.yaml"]
