"""What an event of the journal may say, and the sentence about one that says something else."""

import json
from pathlib import Path
from typing import Any, get_args, get_type_hints

import pytest
from fake_run import write_fake_run

from sweep.errors import RunFolderError
from sweep.plan import Candidate, Cell, ModelRef, Plan, Recipe
from sweep.storage.event_reader import EventReader
from sweep.storage.events import KINDS
from sweep.storage.journal import JOURNAL_NAME, Journal
from sweep.storage.tables import HISTORY_COLUMNS, RESULT_COLUMNS

Event = dict[str, Any]

LABELS = ["joy", "fear"]
TEST_SET = {"event": "test_set", "time": 1, "labels": LABELS, "items": [4, 7], "truth": [0, 1]}
MARKED = TEST_SET | {"fingerprint": "f"}
EPOCH = {"event": "epoch", "time": 1, "trial_id": "t", "epoch": 1, "decision": "continue"}
ENDED = {"event": "ended", "time": 1, "trial_id": "t", "status": "finished", "val_accuracy": 0.5}
BASELINE = {
    "event": "baseline", "time": 1, "trial_id": "b", "cell_id": "b", "model": "majority",
    "n_labels": 2, "labels": LABELS, "n_samples": 8, "seed": 0, "predictions": [0, 0],
}  # fmt: skip


def read(*events: Any) -> list[Event]:
    reader = EventReader(Path("run/journal.jsonl"))
    lines = [each if isinstance(each, bytes) else json.dumps(each).encode() for each in events]
    return [reader.parse(line, number) for number, line in enumerate(lines, start=1)]


def test_every_line_of_a_real_journal_passes(tmp_path: Path) -> None:
    path = write_fake_run(tmp_path, counts=(2, 4)) / JOURNAL_NAME
    lines = path.read_bytes().splitlines(keepends=True)
    (tmp_path / "again").mkdir()
    with Journal(tmp_path / "again") as again:
        again.append_all([(event["event"], event) for event in read(*lines)])
    written = again.path.read_bytes().splitlines()
    assert list(map(json.loads, written)) == list(map(json.loads, lines))


def test_account_of_another_shape_is_damage() -> None:
    opened = {"event": "opened", "time": 1, "data": {"source": "files", "splits": "all"}}
    with pytest.raises(RunFolderError, match="'data' is not an account of the data's rows"):
        read(opened)


def test_what_the_plan_writes_passes(plan: Plan) -> None:
    planned = [{"event": "planned", "time": 1, "trial": s.to_dict()} for s in plan.trials]
    assert len(read(*planned)) == len(plan.trials)


def test_every_column_that_an_event_fills_has_a_check() -> None:
    columns = {name for name, *_ in [*RESULT_COLUMNS, *HISTORY_COLUMNS]}
    fields = {name for kind in KINDS.values() for name in get_type_hints(kind)}
    assert columns - fields == {"started_at", "ended_at", "in_plan", "method"}


@pytest.mark.parametrize("kind", [Cell, Candidate, ModelRef, Recipe])
def test_every_field_of_a_planned_trial_is_named_where_it_is_refused(kind: type) -> None:
    assert all(get_args(hint) for hint in get_type_hints(kind, include_extras=True).values())


def test_any_field_of_a_planned_trial_is_refused_where_it_is_no_value_of_its_kind(
    plan: Plan,
) -> None:
    for part in ("cell", "candidate", "model", "recipe"):
        for name in plan.trials[0].to_dict()[part]:
            spec = plan.trials[0].to_dict()
            spec[part][name] = {"no": "kind"}
            with pytest.raises(RunFolderError, match=f"'{name}' is not "):
                read({"event": "planned", "time": 1, "trial": spec})


def test_half_a_character_is_written_out_since_no_table_takes_it(tmp_path: Path) -> None:
    with Journal(tmp_path) as journal:
        journal.append("retried", trial_id="t", error="lost \ud800")
    (event,) = read((tmp_path / JOURNAL_NAME).read_bytes())
    assert event["error"] == "lost \\ud800"


def test_unknown_fields_of_a_planned_trial_and_of_a_forecast_pass(plan: Plan) -> None:
    spec = plan.trials[0].to_dict() | {"budget": 3}
    spec["cell"]["mood"] = spec["candidate"]["mood"] = "good"
    spec["model"]["mood"] = spec["recipe"]["mood"] = ["good"]
    planned = {"event": "planned", "time": 1, "trial": spec}
    opened = {"event": "opened", "time": 1, "predicted": {"watts": 3}, "pace": {"watts": 3}}
    assert read(planned, opened)[0]["trial"] == plan.trials[0]


def test_unknown_events_and_fields_pass() -> None:
    assert read({"event": "told", "time": 1, "by": ["whom"]}, EPOCH | {"mood": None})


@pytest.mark.parametrize(
    ("events", "problem"),
    [
        ([b"\n"], "line 1 is damaged .it is not JSON"),
        ([b"[" * 100_000], "line 1 is damaged .it is nested too deeply"),
        ([[]], "it is not an event"),
        ([{"event": 3}], "it is not an event"),
        ([EPOCH | {"time": None}], "'time' is missing"),
        ([EPOCH | {"time": 1e300}], "'time' is not a Unix time in seconds: 1e.300"),
        ([EPOCH | {"trial_id": []}], r"'trial_id' is not a text that is not empty: \[\]"),
        ([EPOCH | {"epoch": "1"}], "'epoch' is not a whole number from 1 to 1000000: '1'"),
        ([EPOCH | {"epoch": 10**6 + 1}], "'epoch' is not a whole number from 1 to 1000000"),
        ([EPOCH | {"epoch": True}], "'epoch' is not a whole number from 1 to 1000000: True"),
        ([EPOCH | {"val_accuracy": 1.5}], "'val_accuracy' is not a number from 0 to 1: 1.5"),
        ([EPOCH | {"val_loss": float("inf")}], "'val_loss' is not a finite number: inf"),
        ([EPOCH, {**ENDED, "val_accuracy": None}], "line 2 is damaged .'val_accuracy' is missing"),
        ([TEST_SET | {"truth": [0]}], "'items' and 'truth' differ in length"),
        ([TEST_SET | {"truth": [0, 2]}], "a class is out of range"),
        ([TEST_SET | {"labels": ["joy", "joy"]}], "'labels' is not a list of different names"),
        ([MARKED, BASELINE | {"predictions": [0], "test_set": "f"}], "a different number of texts"),
        ([MARKED, MARKED | {"items": [4], "truth": [0]}], "earlier line about this test set"),
        ([BASELINE | {"test_set": "f"}], "no earlier line defines its test set"),
        ([{"event": "replanned", "time": 1}], "'trials' is missing"),
        ([{"event": "replanned", "time": 1, "trials": ["t", "t"]}], "list of different names"),
        ([BASELINE | {"n_labels": 3}], "'n_labels' is not the number of 'labels'"),
        ([{"event": "planned", "time": 1, "trial": {}}], "'trial_id' is missing"),
        ([{"event": "planned", "time": 1, "trial": 5}], "'trial' is not an object"),
    ],
)
def test_another_shape_is_refused_with_line_and_remedy(events: list[Any], problem: str) -> None:
    with pytest.raises(RunFolderError, match=problem) as caught:
        read(*events)
    assert str(caught.value).startswith("run/journal.jsonl: line ")
    assert str(caught.value).endswith("or delete that line to run its trial again")


def test_test_set_of_another_size_for_the_same_labels_passes_once_the_data_changed() -> None:
    larger = TEST_SET | {"fingerprint": "g", "items": [1, 2, 3], "truth": [0, 1, 1]}
    result = BASELINE | {"predictions": [0, 1, 1], "test_set": "g"}
    assert len(read(TEST_SET, BASELINE, larger, result, BASELINE | {"predictions": [0]})) == 5


def test_cell_that_two_lines_tell_of_differently_is_refused(plan: Plan) -> None:
    one, other = plan.trials[0].to_dict(), plan.trials[0].to_dict()
    other["cell"]["n_samples"] += 8
    events = [{"event": "planned", "time": 1, "trial": tree} for tree in (one, other)]
    with pytest.raises(RunFolderError, match=r"line 2 is damaged .it contradicts an earlier line"):
        read(*events)


def test_prediction_of_an_unknown_label_is_refused(plan: Plan) -> None:
    spec = plan.trials[0].to_dict()
    planned = {"event": "planned", "time": 1, "trial": spec}
    ended = ENDED | {"trial_id": spec["trial_id"], "predictions": [0, spec["cell"]["n_labels"]]}
    with pytest.raises(RunFolderError, match=r"line 2 is damaged .a class is out of range"):
        read(planned, ended)


@pytest.mark.parametrize(
    "pace",
    [
        3,
        {"epoch_seconds": [1, 2]},
        {"epoch_seconds": {"c": [1]}},
        {"epoch_seconds": {"c": [1, -1]}},
        {"rungs": [[0, 0.5]]},
        {"rungs": [[1, 1.5]]},
        {"trials_at_a_time": 0},
    ],
)
def test_forecast_of_the_pace_that_makes_no_sense_is_named(pace: Any) -> None:
    with pytest.raises(RunFolderError, match="'pace' is not a forecast"):
        read({"event": "opened", "time": 1, "pace": pace})


@pytest.mark.parametrize("pace", [None, {}, {"epoch_seconds": {"c": [1, 0.5]}, "rungs": [[1, 1]]}])
def test_forecast_of_the_pace_may_lack_what_is_not_known(pace: Any) -> None:
    assert read({"event": "opened", "time": 1, "pace": pace})
