"""The journal: one writer, whole lines, nothing lost."""

import json
import subprocess
import sys
import time
from pathlib import Path

import pytest

from sweep.errors import RunFolderError, StorageError
from sweep.storage.journal import JOURNAL_NAME, Journal, read_events


def test_events_come_back_in_order(tmp_path: Path) -> None:
    with Journal(tmp_path) as journal:
        journal.append("opened", host="a")
        journal.append_all([("closed", {"trials_left": 2}), ("closed", {"trials_left": 1})])
    assert [e.get("trials_left") for e in read_events(tmp_path)] == [None, 2, 1]


def test_event_is_on_disk_before_append_returns(tmp_path: Path) -> None:
    with Journal(tmp_path) as journal:
        journal.append("opened", host="a")
        assert len(list(read_events(tmp_path))) == 1


def test_loss_that_is_no_number_is_null(tmp_path: Path) -> None:
    with Journal(tmp_path) as journal:
        journal.append("closed", train_loss=float("nan"), more={"x": [float("inf"), 1.5]})
    (event,) = read_events(tmp_path)
    assert event["train_loss"] is None
    assert event["more"] == {"x": [None, 1.5]}


def test_text_of_any_kind_survives(tmp_path: Path) -> None:
    text = 'new\nline "quote" \u2028 \U0001f600 </script>'
    with Journal(tmp_path) as journal:
        journal.append("noted", trial_id="t", text=text)
    assert next(read_events(tmp_path))["text"] == text


def test_second_driver_is_refused(tmp_path: Path) -> None:
    with Journal(tmp_path), pytest.raises(RunFolderError, match="another sweep is running"):
        Journal(tmp_path)


def test_lock_of_a_dead_driver_does_not_stand_in_the_way(tmp_path: Path) -> None:
    code = (
        "import os, sys; from pathlib import Path; from sweep.storage.journal import Journal; "
        "Journal(Path(sys.argv[1])).append('opened'); os._exit(9)"
    )
    subprocess.run([sys.executable, "-c", code, str(tmp_path)], check=False)
    with Journal(tmp_path) as journal:
        journal.append("opened")
    assert len(list(read_events(tmp_path))) == 2


def test_full_disk_is_told_and_leaves_whole_lines(tmp_path: Path) -> None:
    resource = pytest.importorskip("resource")
    with Journal(tmp_path) as journal:
        journal.append("opened", host="a")
        size = journal.path.stat().st_size
        limits = resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.setrlimit(resource.RLIMIT_FSIZE, (size + 100, limits[1]))
        try:
            with pytest.raises(StorageError, match=r"journal\.jsonl: cannot be written .*--resume"):
                journal.append("ended", text="x" * 1000)
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        assert journal.path.stat().st_size == size
        journal.append("closed")
    assert [event["event"] for event in read_events(tmp_path)] == ["opened", "closed"]


def test_clock_that_jumps_back_changes_no_duration(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with Journal(tmp_path) as journal:
        first = journal.append("started")
        monkeypatch.setattr(time, "time", lambda: 1000.0)
        second = journal.append("ended")
    assert 0 <= second["time"] - first["time"] < 5


def test_torn_last_line_is_dropped_and_told(tmp_path: Path) -> None:
    whole = json.dumps({"event": "opened", "time": 1.0}) + "\n"
    (tmp_path / JOURNAL_NAME).write_text(whole + '{"event": "ep')
    assert len(list(read_events(tmp_path))) == 1
    with Journal(tmp_path) as journal:
        assert journal.dropped_bytes == 13
        journal.append("closed")
    assert [e["event"] for e in read_events(tmp_path)] == ["opened", "closed"]


@pytest.mark.parametrize(
    "line", ["{torn", "[]", '{"no": "event"}', '{"event": 3}', '{"event": "closed"}']
)
def test_damaged_line_inside_is_an_error_with_its_number(tmp_path: Path, line: str) -> None:
    whole = '{"event": "opened", "time": 1.0}'
    (tmp_path / JOURNAL_NAME).write_text(f"{whole}\n{line}\n{whole}\n")
    with pytest.raises(RunFolderError, match="line 2 is damaged"):
        list(read_events(tmp_path))


def test_folder_without_a_journal_is_named(tmp_path: Path) -> None:
    with pytest.raises(RunFolderError, match=r"no journal.jsonl here"):
        list(read_events(tmp_path))
