"""Whatever is in a journal: tables and report are made from it, or one sentence names the damaged
line."""

import json
import os
import re
import tempfile
from collections.abc import Iterator
from contextlib import redirect_stderr, redirect_stdout
from io import StringIO
from pathlib import Path
from typing import Any, get_type_hints
from unittest import mock

import pytest
from cases import REACHED, cases, check_sentence, untouched
from fake_run import write_fake_run
from hypothesis import strategies as st
from strategies import numbers, texts, trees

from analysis import report
from analysis.load import load_run
from sweep.errors import RunFolderError
from sweep.storage import journal
from sweep.storage.events import KINDS
from sweep.storage.journal import JOURNAL_NAME, read_events
from sweep.storage.record import replay
from sweep.storage.tables import write_tables

TABLES = ("results.parquet", "history.parquet", "predictions.parquet")


@pytest.fixture(scope="module", autouse=True)
def lines() -> Iterator[list[bytes]]:
    """Return the lines of a small run's journal, kept in ``LINES`` as well."""
    with tempfile.TemporaryDirectory() as name, quick_disk():
        write_fake_run(Path(name), models=("a", "b"), counts=(2,), samples=(800, 1600))
        LINES[:] = (Path(name) / JOURNAL_NAME).read_bytes().splitlines(keepends=True)
        yield LINES


LINES: list[bytes] = []


def quick_disk() -> Any:
    """Return a context in which nothing waits for the disk."""
    return mock.patch.object(os, "fsync", lambda descriptor: None)


def check_run(data: bytes, page: bool = False) -> None:
    """Check the tables, and optionally the report, of a journal that holds ``data``."""
    with tempfile.TemporaryDirectory() as parent:
        folder = Path(parent) / "run"
        folder.mkdir()
        (folder / JOURNAL_NAME).write_bytes(data)
        written = frozenset(f"run/{name}" for name in (*TABLES, "report.html"))
        with untouched(Path(parent), but=written):
            try:
                record = replay(read_events(folder))
                write_tables(folder, record)
                assert all((folder / name).is_file() for name in TABLES)
                REACHED["tables"] += 1
            except RunFolderError as error:
                check_line(check_sentence(error), data)
                return
            check_loading(folder)
            if page:
                check_report(folder)


def check_line(sentence: str, data: bytes) -> None:
    found = re.search(r"journal\.jsonl: line (\d+) is damaged \(.+\); restore the file", sentence)
    assert found, sentence
    assert 1 <= int(found[1]) <= data.count(b"\n")


def check_loading(folder: Path) -> None:
    try:
        load_run(folder)
    except RunFolderError as error:
        assert "names no planned trial" in check_sentence(error)


def check_report(folder: Path) -> None:
    out, errors = StringIO(), StringIO()
    with redirect_stdout(out), redirect_stderr(errors):
        code = report.main([str(folder)])
    if code == 2:
        assert errors.getvalue().startswith("error: ")
        check_sentence(errors.getvalue().removesuffix("\n"))
    else:
        assert code == 0
        REACHED["reports"] += 1
        assert (folder / "report.html").stat().st_size > 10_000


@cases(100, data=st.binary(max_size=120), tail=st.sampled_from([b"", b"\n"]))
def test_any_bytes(data: bytes, tail: bytes) -> None:
    check_run(data + tail)


FIELDS = {name for kind in KINDS.values() for name in get_type_hints(kind)}
kinds = st.sampled_from([*KINDS, "unknown", ""])
events = st.one_of(
    trees,
    st.dictionaries(st.sampled_from(sorted(FIELDS)), trees, max_size=6),
    st.builds(
        lambda kind, rest: {"event": kind, "time": 1.0, **rest},
        kinds,
        st.dictionaries(st.sampled_from(sorted(FIELDS - {"event", "time"})), trees, max_size=6),
    ),
)


@cases(150, given=st.lists(events, max_size=4))
def test_any_events(given: list[Any]) -> None:
    check_run(b"".join(json.dumps(event).encode() + b"\n" for event in given))


positions = st.integers(0, 10**6)


def list_paths(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """Return the path of every value inside ``value``, at most three per list."""
    items = value.items() if isinstance(value, dict) else ()
    items = enumerate(value[:3]) if isinstance(value, list) else items
    found = [path] if path else []
    return [*found, *(p for key, inner in items for p in list_paths(inner, (*path, key)))]


def change(event: Any, where: int, value: Any, drop: bool) -> Any:
    """Put ``value`` at one of the event's paths, or remove it."""
    paths = list_paths(event)
    *parents, last = paths[where % len(paths)]
    node = event
    for part in parents:
        node = node[part]
    if drop:
        del node[last]
    else:
        node[last] = value
    return event


def damage(at: int, where: int, value: Any, drop: bool) -> list[bytes]:
    """Return the real journal with one value of one line changed or removed."""
    changed = list(LINES)
    at %= len(changed)
    event = change(json.loads(changed[at]), where, value, drop)
    changed[at] = json.dumps(event).encode() + b"\n"
    return changed


near = st.one_of(trees, numbers, texts, st.lists(st.integers(-2, 400), max_size=4))
changes = {"at": positions, "where": positions, "value": near, "drop": st.booleans()}


@cases(150, **changes)
def test_one_value_of_a_real_journal_changed(at: int, where: int, value: Any, drop: bool) -> None:
    check_run(b"".join(damage(at, where, value, drop)))


@cases(25, **changes)
def test_the_report_of_a_changed_journal(at: int, where: int, value: Any, drop: bool) -> None:
    check_run(b"".join(damage(at, where, value, drop)), page=True)


moves = st.tuples(st.sampled_from(["delete", "repeat", "swap", "cut"]), positions, positions)


@cases(60, moves=st.lists(moves, max_size=6))
def test_lines_missing_repeated_or_in_another_order(moves: list[tuple[str, int, int]]) -> None:
    changed = list(LINES)
    for move, one, other in moves:
        one, other = one % len(changed), other % len(changed)
        if move == "delete" and len(changed) > 1:
            del changed[one]
        elif move == "repeat":
            changed.insert(other, changed[one])
        elif move == "swap":
            changed[one], changed[other] = changed[other], changed[one]
        elif move == "cut":
            changed[one] = changed[one][: other % (len(changed[one]) + 1)]
    check_run(b"".join(changed))


@cases(80, size=positions, junk=st.binary(max_size=5), whole=st.booleans())
def test_a_torn_tail_leaves_what_comes_before_it(size: int, junk: bytes, whole: bool) -> None:
    data = b"".join(LINES)
    size %= len(data) + 1
    kept = data[: data.rfind(b"\n", 0, size) + 1]
    torn = data[:size] + junk.replace(b"\n", b"")
    with tempfile.TemporaryDirectory() as name:
        path = Path(name) / JOURNAL_NAME
        path.write_bytes(kept)
        before = list(read_events(Path(name)))
        path.write_bytes(torn)
        if not (torn.endswith(b"\n")):
            assert list(read_events(Path(name))) == before
            with journal.Journal(Path(name)) as opened:
                assert opened.dropped_bytes == len(torn) - len(kept)
            assert path.read_bytes() == kept
    if whole:
        check_run(torn)


@cases(80, at=positions, junk=st.binary(min_size=1, max_size=6), length=st.integers(0, 6))
def test_a_damaged_stretch_of_bytes(at: int, junk: bytes, length: int) -> None:
    data = b"".join(LINES)
    at %= len(data)
    check_run(data[:at] + junk + data[at + length :])


@pytest.fixture(scope="module", autouse=True)
def unwaited_disk() -> Iterator[None]:
    """Do not wait for the disk."""
    with quick_disk():
        yield
