"""Runs the count of the cases last, and prints it."""

from typing import Any

import pytest
from cases import RAN, REACHED


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Move the count after everything that it counts."""
    items.sort(key=lambda item: item.path.name == "test_total.py")


def pytest_sessionfinish(session: pytest.Session) -> None:
    """Pass the counts on if this is one of several workers."""
    if hasattr(session.config, "workeroutput"):
        session.config.workeroutput["cases"] = [dict(RAN), dict(REACHED)]


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node: Any) -> None:
    """Add the counts of a worker."""
    ran, reached = getattr(node, "workeroutput", {}).get("cases", ({}, {}))
    RAN.update(ran)
    REACHED.update(reached)


def pytest_terminal_summary(terminalreporter: Any) -> None:
    """Say how many cases ran."""
    if RAN:
        terminalreporter.write_line(f"property tests: {sum(RAN.values())} cases")
        reached = ", ".join(f"{count} {name}" for name, count in sorted(REACHED.items()))
        terminalreporter.write_line(f"of these came through: {reached}")
