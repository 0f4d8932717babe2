"""What tells a killed run's folder from that of a run left alone: nothing, if all is well."""

import json
import math
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq

from sweep.storage.journal import JOURNAL_NAME
from sweep.storage.tables import HISTORY_NAME, PREDICTIONS_NAME, RESULTS_NAME

KEYS = {
    RESULTS_NAME: ("trial_id",),
    HISTORY_NAME: ("trial_id", "epoch"),
    PREDICTIONS_NAME: ("trial_id", "item"),
}
OF_THE_SESSION = ("host", "device", "versions", "git_commit", "peak_memory_bytes")
OF_THE_CLOCK = ("_seconds", "_at")
ROUNDING = 1e-5

Row = dict[str, Any]


def list_differences(expected: Path, found: Path) -> list[str]:
    """Return one sentence for each thing in the run folder ``found`` that is not as it is in
    ``expected``."""
    differences = list(_check_journal(expected, found))
    for name in KEYS:
        differences += _compare_tables(expected / name, found / name)
    return differences


def count_rows(folder: Path) -> int:
    """Return how many trials and baselines the results table has."""
    return int(pq.read_metadata(folder / RESULTS_NAME).num_rows)


def _check_journal(expected: Path, found: Path) -> Iterator[str]:
    planned = {e["trial"]["trial_id"] for e in _parse(expected) if e["event"] == "planned"}
    ended = Counter(e["trial_id"] for e in _parse(found) if e["event"] == "ended")
    for trial_id in sorted(planned - set(ended)):
        yield f"{JOURNAL_NAME}: trial {trial_id} is lost"
    for trial_id in sorted(set(ended) - planned):
        yield f"{JOURNAL_NAME}: trial {trial_id} was never planned"
    for trial_id, times in sorted(ended.items()):
        if times > 1:
            yield f"{JOURNAL_NAME}: trial {trial_id} ended {times} times"


def _parse(folder: Path) -> list[Row]:
    """Return the journal's lines; raise ValueError at one that is not whole."""
    text = (folder / JOURNAL_NAME).read_text(encoding="utf-8")
    if not text.endswith("\n"):
        raise ValueError(f"{folder / JOURNAL_NAME}: the last line is not whole")
    return [json.loads(line) for line in text.splitlines()]


def _compare_tables(expected: Path, found: Path) -> Iterator[str]:
    wanted, got = _read_rows(expected), _read_rows(found)
    for key in sorted(wanted.keys() ^ got.keys()):
        yield f"{found.name}: {key} is {'missing' if key in wanted else 'one too many'}"
    for key in sorted(wanted.keys() & got.keys()):
        for column, value in wanted[key].items():
            if _is_of_the_work(column) and not _equal(value, got[key][column]):
                yield f"{found.name}: {key}: {column} is {got[key][column]}, not {value}"


def _read_rows(path: Path) -> dict[tuple[Any, ...], Row]:
    """Return the table's rows by key; raise ValueError where two have the same."""
    rows: list[Row] = pq.read_table(path).to_pylist()
    keyed = {tuple(row[name] for name in KEYS[path.name]): row for row in rows}
    if len(keyed) < len(rows):
        raise ValueError(f"{path}: two rows have the same {' and '.join(KEYS[path.name])}")
    return keyed


def _is_of_the_work(column: str) -> bool:
    return column not in OF_THE_SESSION and not column.endswith(OF_THE_CLOCK)


def _equal(one: Any, other: Any) -> bool:
    if isinstance(one, float) and isinstance(other, float):
        return math.isclose(one, other, rel_tol=ROUNDING, abs_tol=ROUNDING)
    return bool(one == other)
