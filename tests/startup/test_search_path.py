"""A user's files that have the name of a package do no harm."""

import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pytest
from fake_run import write_fake_run
from ray_runs import ONE_WORKER, start_nodes

from sweep.display.reporting import load_report
from sweep.errors import StorageError
from sweep.run import main

ROOT = Path(__file__).parents[2]
SITE = Path(pd.__file__).parent.parent
FILES = ("evaluate", "random", "types", "json", "ray", "pandas", "jinja2", "altair", "pytz")
PACKAGES = ("datasets", "torch", "sklearn", "analysis")


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """Return a folder of files that crash whatever imports them."""
    folder = tmp_path / "project"
    for name in PACKAGES:
        write_trap(folder / name / "__init__.py")
    for name in FILES:
        write_trap(folder / f"{name}.py")
    return folder


def write_trap(path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"raise SystemExit('imported {path.name}')\n")


def run_python(
    folder: Path, *arguments: str, path: str = str(ROOT)
) -> subprocess.CompletedProcess[str]:
    """Run Python in ``folder``, with this tree on PYTHONPATH unless ``path`` says otherwise."""
    environment = os.environ | {"PYTHONPATH": path}
    command = [sys.executable, *arguments]
    return subprocess.run(
        command, cwd=folder, env=environment, capture_output=True, text=True, check=False
    )


@pytest.fixture
def short(write_config: Callable[..., Path], tmp_path: Path) -> list[str]:
    """Return the arguments of a sweep of two trials."""
    config = write_config(asha={"max_epochs": 1, "grace_epochs": 1, "reduction_factor": 2})
    cut = ["--set", "grid.n_labels=[2]", "--set", "grid.n_samples=[16]"]
    return [str(config), "--out", str(tmp_path / "runs"), *cut]


def test_sweep_export_and_report_run_among_files_named_like_packages(
    project: Path, tmp_path: Path, short: list[str]
) -> None:
    run = str(tmp_path / "runs" / "small")
    sweep = run_python(project, "-m", "sweep.run", *short, *ONE_WORKER)
    assert (sweep.returncode, sweep.stderr) == (0, "")
    rows = pd.read_parquet(Path(run, "results.parquet"))
    assert rows["error"].isna().all()
    winner = str(tmp_path / "winner")
    assert run_python(project, "-m", "sweep.export", run, "--best", "--out", winner).stderr == ""
    shutil.rmtree(project / "analysis")
    assert run_python(project, "-m", "analysis.report", run).stderr == ""


def test_workers_of_a_joined_cluster_do_not_look_there_either(
    project: Path, tmp_path: Path, short: list[str]
) -> None:
    with start_nodes(1) as address:
        sweep = run_python(project, "-m", "sweep.run", *short, "--address", address)
    assert (sweep.returncode, sweep.stderr) == (0, "")
    assert pd.read_parquet(tmp_path / "runs/small/results.parquet")["error"].isna().all()


def test_a_sweep_file_of_the_users_does_not_stop_the_report(tmp_path: Path) -> None:
    write_trap(tmp_path / "sweep.py")
    run = write_fake_run(tmp_path / "run", counts=(2,), samples=(800,))
    assert run_python(tmp_path, "-m", "analysis.report", str(run)).stderr == ""


@pytest.mark.parametrize("variable", [f".{os.pathsep}{ROOT}", f"{os.pathsep}{ROOT}"])
def test_current_folder_on_the_path_variable_does_no_harm(
    tmp_path: Path, short: list[str], variable: str
) -> None:
    for name in ("evaluate", "yaml", "pydantic"):
        write_trap(tmp_path / f"{name}.py")
    plan = run_python(tmp_path, "-m", "sweep.run", *short, "--dry-run", path=variable)
    assert (plan.returncode, plan.stderr) == (0, "")


def test_file_in_another_folder_of_the_path_variable_is_refused(
    tmp_path: Path, short: list[str]
) -> None:
    write_trap(tmp_path / "src" / "evaluate.py")
    path = os.pathsep.join([str(tmp_path / "src"), str(ROOT)])
    plan = run_python(tmp_path, "-m", "sweep.run", *short, "--dry-run", path=path)
    assert plan.returncode == 2
    assert plan.stderr.startswith(f"error: {tmp_path}/src/evaluate.py: on PYTHONPATH")


def test_file_that_python_has_loaded_for_its_own_module_is_refused(tmp_path: Path) -> None:
    (tmp_path / "warnings.py").write_text("")
    path = os.pathsep.join([str(ROOT), str(SITE)])
    # Without site, which in some environments has already loaded Python's own.
    plan = run_python(tmp_path, "-S", "-m", "sweep.run", "--dry-run", path=path)
    assert plan.returncode == 2
    assert plan.stderr.startswith(f"error: {tmp_path.resolve()}/warnings.py: Python loaded it")


def test_checkout_that_is_not_installed_runs_among_such_files(
    tmp_path: Path, short: list[str]
) -> None:
    for name in ("sweep", "analysis", "sweep_configs"):
        shutil.copytree(ROOT / name, tmp_path / "checkout" / name)
    for name in ("evaluate", "yaml", "pydantic"):
        write_trap(tmp_path / "checkout" / f"{name}.py")
    sweep = run_python(tmp_path / "checkout", "-m", "sweep.run", *short, *ONE_WORKER, path="")
    assert (sweep.returncode, sweep.stderr) == (0, "")


def test_program_that_imports_the_sweep_keeps_its_path(tmp_path: Path) -> None:
    code = "import sys; before = list(sys.path); import sweep.run; print(sys.path == before)"
    assert run_python(tmp_path, "-c", code).stdout == "True\n"


def test_report_imports_no_package_that_is_not_there_before_training(tmp_path: Path) -> None:
    run = write_fake_run(tmp_path / "run", counts=(2,), samples=(800,))
    code = (
        "import sys, sweep.tuning.driver; from pathlib import Path\n"
        "from sweep.display.reporting import load_report\n"
        "write = load_report()\n"
        "known = {name.partition('.')[0] for name in sys.modules}\n"
        f"write(Path({str(run)!r}))\n"
        "print({name.partition('.')[0] for name in sys.modules} - known)\n"
    )
    assert run_python(tmp_path, "-c", code).stdout == "set()\n"


def test_report_that_cannot_be_imported_is_reported_before_training(
    short: list[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setitem(sys.modules, "analysis.report", None)
    assert main(short) == 2
    assert "error: the report could not be written" in capsys.readouterr().err
    assert not (tmp_path / "runs").exists()


def test_report_that_cannot_be_written_is_reported_with_the_command_for_later(
    tmp_path: Path,
) -> None:
    run = write_fake_run(tmp_path / "run", counts=(2,), samples=(800,))
    (run / "report.html").mkdir()
    with pytest.raises(StorageError, match=f"python -m analysis.report {run}"):
        load_report()(run)
