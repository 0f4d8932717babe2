"""README and docs tell the truth about the tree, and about each other."""

import re
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest

from sweep.__main__ import COMMANDS
from sweep.cli.run_options import build_parser

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")
PAGES = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/*.md")])
GUIDES = [ROOT / "README.md", *sorted(ROOT.glob("docs/*.md"))]
MOST_WORDS = 1_300
BRITISH = re.compile(
    r"\w*(?:[Cc]olour|[Bb]ehaviour|[Ff]avour|[Nn]eighbour|[Ll]abell(?!edby)|[Mm]odell|[Cc]ancell|"
    r"ormalis|ptimis(?!m|ti)|okenis|nitialis|erialis|ecognis|ummaris|aterialis|tilis|rganis(?!m)|"
    r"[Ll]icence|[Ll]earnt|[Aa]rtefact|[Cc]entre\b|[Dd]efence|[Gg]rey\b)\w*"
)
# The built-in corpus keeps its words: its texts are part of its trials' ids.
CODE = [
    file
    for folder in ("sweep", "analysis", "benchmarks", "tools", "tests", "clusters", "sweep_configs")
    for ending in ("py", "j2", "yaml")
    for file in sorted(ROOT.glob(f"{folder}/**/*.{ending}"))
    if file.name not in ("synthetic.py", "test_readme.py")
]


def find_packages() -> set[str]:
    """Return the packages in ``sweep/`` and ``analysis/``, such as ``sweep/training/packed``."""
    files = [*ROOT.glob("sweep/*/**/__init__.py"), *ROOT.glob("analysis/*/**/__init__.py")]
    return {file.parent.relative_to(ROOT).as_posix() for file in files}


def read_tree() -> Iterator[tuple[str, str]]:
    """Yield the path and the words of each line of the README's tree."""
    folders: list[str] = []
    for line in README.split("## What lies where")[1].split("```")[1].strip().splitlines():
        indent, name, words = re.fullmatch(r"( *)(\S+) +(.+)", line).groups()  # type: ignore[union-attr]
        folders[len(indent) // 2 :] = [name.rstrip("/")]
        yield "/".join(folders), words


def find_links(page: Path) -> list[str]:
    """Return what ``page`` links to or shows, web addresses aside."""
    links = re.findall(r"\]\(([^)\s]+)\)", page.read_text(encoding="utf-8"))
    return [link for link in links if "://" not in link]


def list_anchors(page: Path) -> set[str]:
    """Return the anchors of a page's headings, as GitHub makes them."""
    headings = re.findall(r"^#+ (.+)$", page.read_text(encoding="utf-8"), flags=re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def read_layers() -> list[set[str]]:
    """Return the packages of each layer that import-linter checks, from the top down."""
    tree = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    contracts = tree["tool"]["importlinter"]["contracts"]
    layers = next(each for each in contracts if each.get("containers") == ["sweep"])["layers"]
    return [set(re.findall(r"\w+", layer)) for layer in layers]


def test_every_package_has_its_line_in_the_tree() -> None:
    listed = {path for path, _ in read_tree() if path.startswith(("sweep/", "analysis/"))}
    assert listed == find_packages()


def test_everything_in_the_tree_exists() -> None:
    for path, words in read_tree():
        assert (ROOT / path).exists(), path
        for module in re.findall(r"\w+\.py\b", words):
            assert (ROOT / path / module).is_file(), f"{path}/{module}"


def test_readme_is_short() -> None:
    assert len(README.split()) <= MOST_WORDS


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_link_leads_somewhere(page: Path) -> None:
    for link in find_links(page):
        path, _, anchor = link.partition("#")
        target = (page.parent / path).resolve() if path else page
        assert target.exists(), link
        assert not anchor or anchor in list_anchors(target), link


def test_every_guide_is_linked_from_the_readme() -> None:
    linked = {link.partition("#")[0] for link in find_links(ROOT / "README.md")}
    assert {page.relative_to(ROOT).as_posix() for page in GUIDES[1:]} <= linked


@pytest.mark.parametrize("page", GUIDES, ids=lambda page: page.name)
def test_every_configuration_named_exists(page: Path) -> None:
    named = set(re.findall(r"sweep_configs/\w+\.yaml", page.read_text(encoding="utf-8")))
    assert page.name != "README.md" or named
    assert all((ROOT / name).is_file() for name in named)


@pytest.mark.parametrize("page", GUIDES, ids=lambda page: page.name)
def test_guides_are_in_american_english(page: Path) -> None:
    assert not BRITISH.findall(page.read_text(encoding="utf-8"))


def test_code_is_in_american_english() -> None:
    assert len(CODE) > 300
    found = {file.name: BRITISH.findall(file.read_text(encoding="utf-8")) for file in CODE}
    assert {name: words for name, words in found.items() if words} == {}


def test_architecture_says_which_way_imports_point() -> None:
    page = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
    order = page.split("## Which way imports point")[1].split("```")[1].strip().splitlines()
    assert [set(re.findall(r"\w+", line)) for line in order] == read_layers()


def test_architecture_has_a_line_for_every_package_of_the_sweep() -> None:
    page = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| (`.+?) \|", page, flags=re.MULTILINE)
    named = {name for row in rows for name in re.findall(r"`(\w+)`", row)}
    assert named == set().union(*read_layers())


def test_every_subcommand_has_a_row_and_none_is_invented() -> None:
    page = (ROOT / "docs" / "commands.md").read_text(encoding="utf-8")
    assert re.findall(r"^\| `sweep (\w+)", page, flags=re.MULTILINE) == list(COMMANDS)
    for guide in GUIDES:
        typed = re.findall(r"(?:^|`)sweep (\w+)", guide.read_text(encoding="utf-8"), re.MULTILINE)
        assert set(typed) <= set(COMMANDS), guide.name


def test_every_option_of_a_run_has_a_row() -> None:
    page = (ROOT / "docs" / "commands.md").read_text(encoding="utf-8")
    table = page.split("## Run")[1].split("### ")[0]
    actions = build_parser()._actions
    options = [action.option_strings[-1] for action in actions if action.option_strings]
    assert [option for option in options if option != "--help" and f"`{option}" not in table] == []
