"""The audit finds known vulnerabilities, and says so if it is offline."""

import json
import runpy
from pathlib import Path
from typing import Any

import pytest

TOOL = Path(__file__).parent.parent / "tools" / "audit.py"


@pytest.fixture
def tool() -> dict[str, Any]:
    return runpy.run_path(str(TOOL))


def stand_in(folder: Path, *packages: dict[str, Any]) -> str:
    """Return a program that answers as pip-audit does."""
    program = folder / "pip-audit"
    program.write_text(f"#!/bin/sh\ncat <<'E'\n{json.dumps({'dependencies': packages})}\nE\n")
    program.chmod(0o755)
    return str(program)


SOUND = {"name": "ray", "version": "2.60.0", "vulns": []}
SKIPPED = {"name": "torch", "skip_reason": "Dependency not found on PyPI"}
HOLED = {
    "name": "torch",
    "version": "2.13.0",
    "vulns": [{"id": "PYSEC-0", "fix_versions": ["2.14.0"], "description": "bad"}],
}


def test_what_is_installed_is_above_the_floors(tool: dict[str, Any]) -> None:
    assert tool["check_floors"]() == []


def test_an_old_package_is_named_with_the_reason(tool: dict[str, Any]) -> None:
    old = tool["check_floors"](lambda name: "2.5.1" if name == "torch" else "999")
    (sentence,) = old
    assert sentence.startswith("torch 2.5.1: has known vulnerabilities")
    assert "CVE-2025-32434" in sentence


def test_a_hole_that_the_database_knows_fails(
    tool: dict[str, Any], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert tool["main"](stand_in(tmp_path, SOUND, HOLED)) == 1
    assert "torch 2.13.0: PYSEC-0; fixed in 2.14.0" in capsys.readouterr().out


def test_what_the_database_does_not_know_is_named(
    tool: dict[str, Any], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert tool["main"](stand_in(tmp_path, SOUND, SKIPPED)) == 0
    assert "1 packages audited, 0 problems" in capsys.readouterr().out


@pytest.mark.parametrize("how", ["missing", "nothing known", "no answer"])
def test_offline_is_said(
    how: str, tool: dict[str, Any], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    programs = {"missing": str(tmp_path / "nowhere"), "no answer": "/bin/true"}
    program = programs.get(how) or stand_in(tmp_path, SKIPPED)
    assert tool["main"](program) == 0
    assert capsys.readouterr().out.startswith("offline: the vulnerability database could not")
