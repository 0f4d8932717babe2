"""The installed packages: whether each has a version that those which need it can work with."""

import shlex
import sys
import tomllib
from collections import deque
from collections.abc import Iterator
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path

from packaging.markers import Marker
from packaging.requirements import InvalidRequirement, Requirement
from packaging.utils import canonicalize_name

from sweep import __version__
from sweep.cluster.environment import check_ray
from sweep.errors import ClusterError, Finding
from sweep.startup.namesake import DISTRIBUTION

ROOT = Path(__file__).resolve().parents[2]
# Extras that studies can use, and the keys that need them.
EXTRAS = {
    "tensorboard": "trackers.tensorboard",
    "mlflow": "trackers.mlflow",
    "wandb": "trackers.wandb",
    "aws": "cluster.yaml on AWS",
}


def check_packages() -> Iterator[Finding]:
    """Yield what is wrong with the packages, or that they are all there, and the absent extras."""
    own = _read_requirements()
    needed = [requirement for requirement in own if _applies(requirement)]
    wrong = list(_find_unmet(needed))
    yield from (Finding("error", "packages", sentence) for sentence in wrong)
    if not wrong:
        sentence = f"{DISTRIBUTION} {__version__} in {ROOT}; all packages that it needs are there"
        yield Finding("note", "packages", sentence)
    yield from _check_extras(own)


def check_ray_version() -> Iterator[Finding]:
    """Yield an error if Ray has known security holes."""
    try:
        check_ray()
    except PackageNotFoundError:
        return  # told as a missing package
    except ClusterError as error:
        yield Finding("error", "ray", str(error))


def format_pip(*arguments: str) -> str:
    """Return a command that starts the pip of this Python."""
    return shlex.join([sys.executable, "-m", "pip", *arguments])


def _read_requirements() -> list[Requirement]:
    """Return what this package needs, by its pyproject.toml in a checkout, else as installed."""
    project = ROOT / "pyproject.toml"
    if project.is_file():
        tree = tomllib.loads(project.read_text(encoding="utf-8"))["project"]
        extras = tree["optional-dependencies"].items()
        return [
            *map(Requirement, tree["dependencies"]),
            *(_require_for(extra, package) for extra, packages in extras for package in packages),
        ]
    return [Requirement(line) for line in distribution(DISTRIBUTION).requires or []]


def _require_for(extra: str, package: str) -> Requirement:
    requirement = Requirement(package)
    asked = f'extra == "{extra}"'
    marker = f"({requirement.marker}) and {asked}" if requirement.marker else asked
    requirement.marker = Marker(marker)
    return requirement


def _applies(requirement: Requirement, extra: str = "") -> bool:
    return requirement.marker is None or requirement.marker.evaluate({"extra": extra})


def _find_unmet(needed: list[Requirement]) -> Iterator[str]:
    """Yield a sentence for each requirement of ``needed``, or of what these need, that is not met;
    one for each package."""
    waiting = deque((DISTRIBUTION, requirement) for requirement in needed)
    seen: set[tuple[str, str]] = set()
    told: set[str] = set()
    while waiting:
        by, requirement = waiting.popleft()
        name = canonicalize_name(requirement.name)
        sentence = _explain_unmet(by, requirement)
        if sentence and name not in told:
            told.add(name)
            yield sentence
        if sentence:
            continue
        for extra in ("", *sorted(requirement.extras)):
            if (name, extra) not in seen:
                seen.add((name, extra))
                waiting.extend((requirement.name, each) for each in _list_needs(name, extra))


def _list_needs(name: str, extra: str) -> Iterator[Requirement]:
    """Yield what the installed package ``name`` needs by itself, or with ``extra`` on top."""
    for line in distribution(name).requires or []:
        try:
            requirement = Requirement(line)
        except InvalidRequirement:
            continue  # of a release older than the standard; pip ignores it too
        if _applies(requirement, extra) and not (extra and _applies(requirement)):
            yield requirement


def _explain_unmet(by: str, requirement: Requirement) -> str:
    """Return what is wrong with the installed version, and the remedy; empty if it will do."""
    wanted = f"{requirement.name}{requirement.specifier}"
    remedy = f"run {format_pip('install', wanted)}"
    try:
        found = distribution(requirement.name).version
    except PackageNotFoundError:
        return f"{by} needs {wanted}, which is not installed; {remedy}"
    if requirement.specifier.contains(found, prereleases=True):
        return ""
    return f"{by} needs {wanted}, but {requirement.name} {found} is installed; {remedy}"


def _check_extras(own: list[Requirement]) -> Iterator[Finding]:
    absent = [extra for extra in EXTRAS if not _has_extra(own, extra)]
    if not absent:
        return
    uses = ", ".join(f"{extra} (for {EXTRAS[extra]})" for extra in absent)
    packages = [str(each).partition(";")[0] for each in _list_extra(own, absent[0])]
    command = format_pip("install", *packages)
    sentence = f"not installed: {uses}; should you need {absent[0]}, run {command}"
    yield Finding("note", "extras", sentence)


def _has_extra(own: list[Requirement], extra: str) -> bool:
    needed = _list_extra(own, extra)
    return not any(_explain_unmet(DISTRIBUTION, requirement) for requirement in needed)


def _list_extra(own: list[Requirement], extra: str) -> list[Requirement]:
    return [each for each in own if not _applies(each) and _applies(each, extra)]
