"""`make cluster-test` before it starts anything: what is installed, and where it can run."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

REPO = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(REPO / "tests" / "live_clusters"))

from places import explain_cover  # noqa: E402

TOOLS = ("ip", "rsync", "ssh", "sshd")
ELSEWHERE = Path("/opt/sweep"), Path("/opt/sweep/.venv"), Path("/usr/bin/python3")


def make_tools(folder: Path, *present: str) -> str:
    """Run `make cluster-tools` where only ``present`` are found; return what apt-get was asked."""
    for name in (*present, "apt-get"):
        script = folder / name
        script.write_text(f'#!/bin/sh\necho "$@" >> {folder}/asked\n' if name == "apt-get" else "")
        script.chmod(0o755)
    make = shutil.which("make") or pytest.skip("needs make")
    command = [make, "cluster-tools", f"SSHD={folder}/sshd"]
    subprocess.run(command, cwd=REPO, env={"PATH": str(folder)}, check=True, capture_output=True)
    asked = folder / "asked"
    return asked.read_text() if asked.exists() else ""


def test_nothing_is_installed_where_every_tool_is_present(tmp_path: Path) -> None:
    assert make_tools(tmp_path, *TOOLS) == ""


@pytest.mark.parametrize("missing", TOOLS)
def test_one_missing_tool_is_installed(missing: str, tmp_path: Path) -> None:
    asked = make_tools(tmp_path, *(tool for tool in TOOLS if tool != missing))
    assert "install -y" in asked
    assert "iproute2 openssh-client openssh-server rsync" in asked


def test_checkout_that_every_host_sees_is_not_refused() -> None:
    assert explain_cover(*ELSEWHERE) == ""


@pytest.mark.parametrize("root", ["/tmp", "/root", "/run", "/dev/shm"])
def test_checkout_below_a_folder_of_the_hosts_is_refused(root: str) -> None:
    told = explain_cover(Path(root, "work", "sweep"), *ELSEWHERE[1:])
    assert f"the checkout {root}/work/sweep lies below {root}" in told
    assert "clone the repository elsewhere" in told


def test_environment_below_root_is_put_back_and_below_tmp_is_not(tmp_path: Path) -> None:
    repo, _, python = ELSEWHERE
    assert explain_cover(repo, Path("/root/.venv"), python) == ""
    assert "the environment /tmp/venv lies below /tmp" in explain_cover(
        repo, Path("/tmp/venv"), python
    )


def test_python_below_tmp_is_refused_with_the_option_that_names_another() -> None:
    told = explain_cover(*ELSEWHERE[:2], Path("/tmp/python/bin/python3"))
    assert "its Python /tmp/python/bin/python3 lies below /tmp" in told
    assert "make cluster-test PYTHON=" in told


def test_covered_checkout_is_told_before_anything_is_installed(tmp_path: Path) -> None:
    shutil.copytree(REPO / "tests" / "live_clusters", tmp_path / "tests" / "live_clusters")
    shutil.copy(REPO / "Makefile", tmp_path)
    make = shutil.which("make") or pytest.skip("needs make")
    command = [make, "cluster-test", f"PYTHON={sys.executable}"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert done.stderr.startswith(f"cluster-test: the checkout {tmp_path} lies below /tmp")
    assert not (tmp_path / ".venv").exists()
