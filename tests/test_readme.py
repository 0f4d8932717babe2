"""The README tells the truth about the tree."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text()


@pytest.mark.parametrize("package", ["sweep", "analysis"])
def test_every_module_has_its_line_in_the_tree(package: str) -> None:
    tree = README.split("## What lies where")[1].split("```")[1]
    section = re.split(r"^\S", tree.split(f"\n{package}/")[1], maxsplit=1, flags=re.MULTILINE)[0]
    listed = set(re.findall(r"^  (\w+\.py) ", section, flags=re.MULTILINE))
    modules = {path.name for path in (ROOT / package).glob("*.py")} - {"__init__.py"}
    assert listed == modules


def test_every_linked_file_exists() -> None:
    links = re.findall(r"\]\(([^)]+)\)", README)
    assert links
    assert all((ROOT / link).is_file() for link in links)


def test_every_configuration_named_exists() -> None:
    named = set(re.findall(r"sweep_configs/\w+\.yaml", README))
    assert named
    assert all((ROOT / name).is_file() for name in named)
