"""What `make faults` would see: the comparison of a killed run with one left alone can fail."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from fake_run import write_fake_run

from sweep.storage.tables import write_tables
from tests.faults.comparison import list_differences

Event = dict[str, Any]


@pytest.fixture(scope="module")
def expected(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("left-alone")
    return write_fake_run(folder, counts=(2,), samples=(800,), baselines=False)


@pytest.fixture
def change(expected: Path, tmp_path: Path) -> Callable[[Callable[[list[Event]], None]], list[str]]:
    """Return a function that changes the journal of a copy and lists the differences."""

    def apply(edit: Callable[[list[Event]], None]) -> list[str]:
        found = tmp_path / "killed"
        shutil.copytree(expected, found)
        journal = found / "journal.jsonl"
        events = [json.loads(line) for line in journal.read_text().splitlines()]
        edit(events)
        journal.write_text("".join(json.dumps(event) + "\n" for event in events))
        write_tables(found)
        return list_differences(expected, found)

    return apply


def first(events: list[Event], kind: str) -> Event:
    return next(event for event in events if event["event"] == kind)


def test_copy_is_not_different(change: Any) -> None:
    assert change(lambda events: None) == []


def test_other_times_make_no_difference(change: Any) -> None:
    assert change(lambda events: first(events, "ended").update(time=1.0, wall_seconds=9.0)) == []


def test_rounding_makes_no_difference(change: Any) -> None:
    def nudge(events: list[Event]) -> None:
        first(events, "epoch")["val_loss"] *= 1 + 1e-6

    assert change(nudge) == []


def test_lost_trial_is_seen(change: Any) -> None:
    found = change(lambda events: events.remove(first(events, "ended")))
    assert any("is lost" in sentence for sentence in found)
    assert any("results.parquet" in s and "missing" in s for s in found)


def test_trial_that_ended_twice_is_seen(change: Any) -> None:
    found = change(lambda events: events.append(first(events, "ended")))
    assert [sentence for sentence in found if "ended 2 times" in sentence]


def test_changed_score_is_seen(change: Any) -> None:
    found = change(lambda events: first(events, "ended").update(val_loss=9.0))
    assert any("val_loss is 9.0" in sentence for sentence in found)


def test_changed_decision_is_seen(change: Any) -> None:
    found = change(lambda events: first(events, "epoch").update(cutoff=0.123))
    assert any("history.parquet" in s and "cutoff is 0.123" in s for s in found)


def test_changed_prediction_is_seen(change: Any) -> None:
    def flip(events: list[Event]) -> None:
        for event in events:
            if "predictions" in event:
                event["predictions"][0] = 1 - event["predictions"][0]

    assert any("predictions.parquet" in sentence for sentence in change(flip))


def test_torn_line_is_seen(expected: Path, tmp_path: Path) -> None:
    found = shutil.copytree(expected, tmp_path / "killed")
    with (found / "journal.jsonl").open("a") as journal:
        journal.write('{"event":"ep')
    with pytest.raises(ValueError, match="last line is not whole"):
        list_differences(expected, found)
