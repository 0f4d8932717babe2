"""The other project called sweep is refused where it lies over this one, and only there."""

from pathlib import Path

import pytest

from sweep.errors import ConfigError
from sweep.startup import namesake


def install(folder: Path, summary: str) -> None:
    """Write the metadata of a distribution ``sweep`` that lists a file at this package's place."""
    info = folder / "sweep-0.5.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(f"Name: sweep\nVersion: 0.5\nSummary: {summary}\n")
    (info / "RECORD").write_text("sweep/__init__.py,,\n")


@pytest.fixture
def beside(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return a folder of packages that is searched first, and in which this package seems to be."""
    (tmp_path / "sweep" / "startup").mkdir(parents=True)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(namesake, "__file__", str(tmp_path / "sweep" / "startup" / "namesake.py"))
    return tmp_path


def test_the_other_project_in_the_same_folder_is_told(beside: Path) -> None:
    install(beside, "Sweep files")
    with pytest.raises(ConfigError, match=r"another project, sweep 0\.5 of PyPI"):
        namesake.refuse_namesake()


def test_an_earlier_name_of_this_project_is_no_namesake(beside: Path) -> None:
    install(beside, f"{namesake.SUMMARY}, with how many labels")
    namesake.refuse_namesake()


def test_the_summary_is_that_of_this_project() -> None:
    project = Path(__file__).parents[2] / "pyproject.toml"
    assert f'description = "{namesake.SUMMARY}' in project.read_text()
