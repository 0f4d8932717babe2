"""Benchmarks run to their tables; nothing is timed that counts."""

import sys
from collections.abc import Callable

import pytest

from benchmarks import packs, rows

SHORT = ["--samples", "48", "--rounds", "1"]
RUNS: dict[str, tuple[Callable[[], None], list[str]]] = {
    "rows": (rows.main, [*SHORT, "--batches", "2"]),
    "packs": (packs.main, [*SHORT, "--steps", "1", "--sizes", "1,2"]),
}


@pytest.mark.parametrize("name", RUNS)
def test_every_tiny_family_has_its_rows(
    name: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    run, options = RUNS[name]
    monkeypatch.setattr(sys, "argv", ["benchmarks", *options])
    run()
    table = [line for line in capsys.readouterr().out.splitlines() if line.startswith("| tiny-")]
    assert len(table) == 8  # training and scoring, or ranks alike and mixed
