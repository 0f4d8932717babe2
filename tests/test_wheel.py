"""The wheel, installed where no working copy is near: each command, from an empty folder."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from urllib.parse import urlsplit
from urllib.request import url2pathname

import pandas as pd
import pytest
import yaml
from ray_runs import ONE_WORKER

import sweep

ROOT = Path(__file__).parents[1]
SITE = Path(pd.__file__).parents[1]
STUDIES = sorted(path.stem for path in ROOT.glob("sweep_configs/*.yaml"))
TREE = {
    "name": "small",
    "data": {"source": "synthetic", "max_eval_per_label": 4},
    "grid": {
        "models": [{"name": "tiny", "path": "tiny:gpt2"}],
        "n_labels": [2],
        "n_samples": [16],
    },
    "tune": {"candidates": 1, "lora_rank": 4, "learning_rate": 0.01},
    "asha": {"max_epochs": 1, "grace_epochs": 1, "reduction_factor": 2},
}
# The other project's files that lie over this one's.
NAMESAKE = {
    "sweep/__init__.py": "",
    "sweep-2.1.3.0.dist-info/METADATA": "Metadata-Version: 2.1\nName: sweep\nVersion: 2.1.3.0\n",
    "sweep-2.1.3.0.dist-info/RECORD": "sweep/__init__.py,,\n",
}


@pytest.fixture(scope="module")
def environment(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Build the wheel; return an environment with it and, of what else is installed here, all but
    this project."""
    source, wheels = tmp_path_factory.mktemp("source"), tmp_path_factory.mktemp("wheels")
    folder = tmp_path_factory.mktemp("environment")
    for name in ("sweep", "analysis", "sweep_configs"):
        shutil.copytree(ROOT / name, source / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, source)
    pip = [sys.executable, "-m", "pip"]
    build = ["wheel", "--no-deps", "--no-build-isolation", "--wheel-dir", str(wheels), str(source)]
    subprocess.run([*pip, *build], check=True, capture_output=True)
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", folder], check=True)
    (wheel,) = wheels.iterdir()
    install = ["--python", str(folder / "bin" / "python"), "install", "--no-deps", "--no-index"]
    subprocess.run([*pip, *install, str(wheel)], check=True, capture_output=True)
    (packages,) = folder.glob("lib/python*/site-packages")
    # Of a folder named here, Python reads no .pth file: an editable install there does not count.
    (packages / "others.pth").write_text(f"{SITE}\n")
    return folder


def run(environment: Path, folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run ``sweep`` of ``environment`` in ``folder``, as from a shell."""
    variables = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    variables["PATH"] = f"{environment / 'bin'}{os.pathsep}{variables['PATH']}"
    return subprocess.run(
        [environment / "bin" / "sweep", *arguments],
        cwd=folder,
        env=variables | {"HF_HUB_OFFLINE": "1"},
        capture_output=True,
        text=True,
        check=False,
    )


def test_studies_come_along_and_a_copy_names_the_schema(environment: Path, tmp_path: Path) -> None:
    assert run(environment, tmp_path, "--version").stdout == f"textsweep {sweep.__version__}\n"
    listed = run(environment, tmp_path, "configs").stdout.splitlines()
    assert [line.split()[0] for line in listed] == STUDIES
    assert run(environment, tmp_path, "configs", "laptop").stdout == "laptop.yaml\n"
    first, *others = (tmp_path / "laptop.yaml").read_text().splitlines()
    schema = Path(url2pathname(urlsplit(first.partition("$schema=")[2]).path))
    assert schema.is_relative_to(environment)
    assert schema.read_text() == (ROOT / "sweep_configs" / "schema.json").read_text()
    assert others == (ROOT / "sweep_configs" / "laptop.yaml").read_text().splitlines()[1:]
    again = run(environment, tmp_path, "configs", "laptop")
    assert again.returncode == 2
    assert again.stderr == "error: laptop.yaml: is there already; choose another --out\n"


@pytest.mark.parametrize("study", ["quickstart", "sweep_configs/quickstart.yaml"])
def test_study_is_planned_by_its_name(environment: Path, tmp_path: Path, study: str) -> None:
    plan = run(environment, tmp_path, "plan", study, "--json")
    assert (plan.returncode, plan.stderr) == (0, "")
    assert len(json.loads(plan.stdout)["cells"]) == 48
    assert not list(tmp_path.iterdir())


def test_doctor_finds_nothing_wrong(environment: Path, tmp_path: Path) -> None:
    found = run(environment, tmp_path, "doctor", "--json")
    tree = json.loads(found.stdout)
    wrong = [each for each in tree["findings"] if each["level"] == "error"]
    assert (found.returncode, tree["ok"], wrong) == (0, True, [])
    keys = {each["key"] for each in tree["findings"]}
    assert {"python", "machine", "disk", "packages", "torch", "ray", "hub"} <= keys


def test_study_is_run_reported_and_exported(environment: Path, tmp_path: Path) -> None:
    (tmp_path / "my.yaml").write_text(yaml.safe_dump(TREE))
    for name in ("evaluate", "datasets", "yaml"):
        (tmp_path / f"{name}.py").write_text(f"raise SystemExit('imported {name}.py')\n")
    first = run(environment, tmp_path, "run", "my.yaml", *ONE_WORKER)
    assert (first.returncode, first.stderr) == (0, "")
    assert pd.read_parquet(tmp_path / "runs/small/results.parquet")["error"].isna().all()
    journal = (tmp_path / "runs/small/journal.jsonl").read_text()
    assert json.loads(journal.splitlines()[0])["command"].startswith("sweep run my.yaml --set ")
    (tmp_path / "runs/small/report.html").unlink()
    report = run(environment, tmp_path, "report", "runs/small")
    assert report.stdout == f"{tmp_path / 'runs/small/report.html'}\n"
    export = run(environment, tmp_path, "export", "runs/small", "--best", "--out", "winner")
    assert (export.returncode, export.stderr) == (0, "")
    assert (tmp_path / "winner/adapter_config.json").is_file()


def test_namesake_that_lies_over_this_package_is_refused(environment: Path, tmp_path: Path) -> None:
    copy = tmp_path / "environment"
    shutil.copytree(environment, copy, symlinks=True)
    script = copy / "bin" / "sweep"
    script.write_text(script.read_text().replace(str(environment), str(copy)))
    (packages,) = copy.glob("lib/python*/site-packages")
    for name, text in NAMESAKE.items():
        (packages / name).parent.mkdir(exist_ok=True)
        (packages / name).write_text(text)
    for word in ("plan", "doctor", "--version"):
        refused = run(copy, tmp_path, word)
        assert refused.returncode == 2
        assert refused.stderr.startswith("error: another project, sweep 2.1.3.0 of PyPI, is inst")
        assert refused.stderr.count("\n") == 1
