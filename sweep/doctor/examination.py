"""All checks of this machine and its packages, side by side."""

from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

from sweep.cli.run_options import check_address
from sweep.doctor.children import ask
from sweep.doctor.hub import check_hub
from sweep.doctor.machine import check_machine
from sweep.doctor.packages import check_packages, check_ray_version
from sweep.errors import Finding, SweepError, format_error
from sweep.startup.home import settle_home
from sweep.startup.namesake import DISTRIBUTION


def examine_machine(out: Path, address: str | None) -> list[Finding]:
    """Return the findings of all checks, in a fixed order; run folders will be in ``out``.

    Raises ConfigError if ``address`` or RAY_ADDRESS cannot be a cluster's address; whatever else
    is wrong is a finding.
    """
    check_address(address)
    findings = _attempt("disk", partial(_settle, out))
    checks: list[tuple[str, Callable[[], Iterable[Finding]]]] = [
        ("machine", partial(check_machine, out)),
        ("packages", check_packages),
        ("torch", partial(ask, "torch")),
        ("ray", check_ray_version),
        ("ray", partial(ask, "ray", [address] if address else [])),
        ("report", _check_report),
        ("hub", check_hub),
    ]
    with ThreadPoolExecutor(len(checks)) as pool:
        parts = pool.map(lambda check: _attempt(*check), checks)
        return [*findings, *(finding for part in parts for finding in part)]


def _settle(out: Path) -> list[Finding]:
    settle_home(out)
    return []


def _check_report() -> list[Finding]:
    """Return an error if the packages that a report needs cannot be imported."""
    from sweep.display.reporting import load_report

    load_report()
    return []


def _attempt(key: str, check: Callable[[], Iterable[Finding]]) -> list[Finding]:
    """Return what ``check`` finds; an error of its own is a finding too."""
    try:
        return list(check())
    except SweepError as error:
        return [Finding("error", key, str(error))]
    except Exception as error:  # whatever a broken package raises
        sentence = f"cannot be checked ({format_error(error)}); install {DISTRIBUTION} again"
        return [Finding("error", key, sentence)]
