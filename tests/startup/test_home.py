"""A user without a home, or with folders that cannot be written."""

import os
import pwd
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from ray_runs import ONE_WORKER

from sweep.cluster.environment import worker_environment
from sweep.errors import ConfigError
from sweep.startup.home import list_home_notes, settle_home, settle_user
from sweep.training.metrics import load_metric

ROOT = Path(__file__).parents[2]
# Not even root can create a folder here.
NOWHERE = "/dev/null/home"
STRANGER = 12345
VARIABLES = ("HOME", "USER", "LOGNAME", "LNAME", "USERNAME", "TMPDIR", "XDG_CACHE_HOME")
HUB_VARIABLES = ("HF_HOME", "HF_MODULES_CACHE")


@pytest.fixture(autouse=True)
def bare_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in (*VARIABLES, *HUB_VARIABLES):
        # Set first, so that what the code under test sets is undone too.
        monkeypatch.setenv(name, "")
        monkeypatch.delenv(name)
    monkeypatch.setenv("HOME", str(tmp_path))


@pytest.fixture
def unknown_user(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(number: int) -> Any:
        raise KeyError(number)

    monkeypatch.setattr(pwd, "getpwuid", refuse)
    monkeypatch.delenv("HOME")


def test_unknown_user_gets_a_home_and_a_name(unknown_user: None) -> None:
    settle_user()
    assert Path("~/x").expanduser() == Path("/x")
    assert os.environ["USER"] == f"uid{os.getuid()}"


def test_known_user_keeps_everything(tmp_path: Path) -> None:
    before = dict(os.environ)
    settle_home(tmp_path / "runs")
    assert dict(os.environ) == before


def test_hub_cache_moves_below_out_where_the_home_cannot_be_written(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("HOME", NOWHERE)
    settle_home(tmp_path)
    assert os.environ["HF_HOME"] == str(tmp_path / ".cache" / "huggingface")
    assert NOWHERE in list_home_notes()[0]
    assert list(tmp_path.iterdir()) == []


def test_moved_hub_cache_is_no_business_of_other_nodes(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("HOME", NOWHERE)
    settle_home(tmp_path)
    assert "HF_HOME" not in worker_environment()


def test_named_hub_cache_is_kept_though_it_cannot_be_written(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("HF_HOME", NOWHERE)
    settle_home(tmp_path)
    assert os.environ["HF_HOME"] == NOWHERE
    assert os.environ["HF_MODULES_CACHE"].startswith(str(tmp_path))
    assert list_home_notes() == []


def test_temporary_folder_that_cannot_be_written_is_replaced(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("TMPDIR", NOWHERE)
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    settle_home(tmp_path)
    assert os.environ["TMPDIR"] == str(tmp_path)


def test_no_temporary_folder_at_all_is_reported(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def refuse() -> str:
        raise FileNotFoundError

    monkeypatch.setenv("TMPDIR", NOWHERE)
    monkeypatch.setattr("tempfile.gettempdir", refuse)
    with pytest.raises(ConfigError, match="set TMPDIR"):
        settle_home(tmp_path)


def test_metric_makes_no_folder(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("evaluate.config.HF_METRICS_CACHE", str(tmp_path / "cache"))
    load_metric().compute(predictions=[0], references=[0], n_labels=2)
    assert list(tmp_path.iterdir()) == []


@pytest.fixture
def run_as_stranger(tmp_path: Path) -> Callable[..., subprocess.CompletedProcess[str]]:
    """Return a function that runs Python as a user the system does not know, who may read
    everything, and write to ``out`` alone."""
    if os.getuid() != 0 or not shutil.which("setpriv"):
        pytest.skip("only root can become a user that the system does not know, with setpriv")
    (tmp_path / "out").mkdir()
    os.chown(tmp_path / "out", STRANGER, STRANGER)
    become = ["setpriv", f"--reuid={STRANGER}", f"--regid={STRANGER}", "--clear-groups"]
    # The interpreter may be in root's own home.
    read = [f"--{kind}-caps=+dac_read_search" for kind in ("inh", "ambient")]

    def run(*arguments: str, **variables: str) -> subprocess.CompletedProcess[str]:
        environment = {"PATH": os.environ["PATH"], "PYTHONPATH": str(ROOT), **variables}
        return subprocess.run(
            [*become, *read, sys.executable, *arguments],
            env=environment,
            capture_output=True,
            text=True,
            check=False,
            cwd="/",
        )

    return run


def test_stranger_without_a_home_runs_reports_and_exports(
    run_as_stranger: Callable[..., subprocess.CompletedProcess[str]],
    tmp_path: Path,
    write_config: Callable[..., Path],
) -> None:
    config = write_config(asha={"max_epochs": 1, "grace_epochs": 1, "reduction_factor": 2})
    out, run = str(tmp_path / "out"), str(tmp_path / "out" / "small")
    cut = ["--set", "grid.n_labels=[2]", "--set", "grid.n_samples=[16]", *ONE_WORKER]
    unwritable = {"TMPDIR": "/nonexistent"}
    answer = run_as_stranger("-m", "sweep.run", str(config), "--out", out, *cut, **unwritable)
    assert (answer.returncode, answer.stderr) == (0, "")
    rows = pd.read_parquet(Path(run, "results.parquet"))
    assert len(rows) == 4
    assert not rows["status"].isin(["failed"]).any()
    assert run_as_stranger("-m", "analysis.report", run).stdout.strip() == f"{run}/report.html"
    export = run_as_stranger("-m", "sweep.export", run, "--best", "--out", f"{out}/winner")
    assert (export.returncode, export.stderr) == (0, "")


def test_stranger_with_a_home_of_root_runs(
    run_as_stranger: Callable[..., subprocess.CompletedProcess[str]],
    tmp_path: Path,
    write_config: Callable[..., Path],
) -> None:
    config = write_config(asha={"max_epochs": 1, "grace_epochs": 1, "reduction_factor": 2})
    arguments = ["-m", "sweep.run", str(config), "--out", str(tmp_path / "out")]
    cut = ["--set", "grid.n_labels=[2]", "--set", "grid.n_samples=[16]", *ONE_WORKER]
    answer = run_as_stranger(*arguments, *cut, HOME="/")
    assert (answer.returncode, answer.stderr) == (0, "")
