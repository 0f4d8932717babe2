"""The Parquet tables, made from events."""

import threading
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from sweep.plan import Plan
from sweep.storage.record import RunRecord, apply, choose_best, replay
from sweep.storage.tables import RESULT_COLUMNS, remove_unfinished, write_tables

Event = dict[str, Any]


def planned(plan: Plan) -> list[Event]:
    return [{"event": "planned", "time": 0.0, "trial": spec} for spec in plan.trials]


def epoch(trial_id: str, number: int, decision: str = "continue") -> Event:
    return {
        "event": "epoch", "time": 1.0, "trial_id": trial_id, "epoch": number,
        "val_accuracy": 0.5, "decision": decision,
    }  # fmt: skip


def ended(trial_id: str, accuracy: float, status: str = "finished", **more: Any) -> Event:
    return {
        "event": "ended", "time": 2.0, "trial_id": trial_id, "status": status,
        "val_accuracy": accuracy, "val_loss": 1.0, "predictions": [0, 1], **more,
    }  # fmt: skip


@pytest.fixture
def record(plan: Plan) -> RunRecord:
    cell = plan.cells[0]
    first, second = (spec.trial_id for spec in plan.trials if spec.cell == cell)
    test_set = {"event": "test_set", "time": 0.0, "labels": cell.labels, "items": [7, 9],
                "truth": [0, 0]}  # fmt: skip
    events = [
        *planned(plan),
        test_set,
        epoch(first, 1),
        epoch(first, 2, "done"),
        ended(first, 0.75),
        epoch(second, 1, "stop"),
        ended(second, 0.9, "stopped"),
    ]
    return replay(events)


def test_every_trial_that_ended_is_a_row(record: RunRecord, tmp_path: Path) -> None:
    write_tables(tmp_path, record)
    rows = pq.read_table(tmp_path / "results.parquet").to_pylist()
    assert [row["status"] for row in rows] == ["finished", "stopped"]
    assert rows[0]["lora_rank"] in (2, 4)
    assert rows[0]["labels"] == ["joy", "anger"]


def test_a_stopped_trial_does_not_stand_for_its_cell(record: RunRecord, tmp_path: Path) -> None:
    write_tables(tmp_path, record)
    rows = pq.read_table(tmp_path / "results.parquet").to_pylist()
    assert [row["best_of_cell"] for row in rows] == [True, False]


def test_equal_accuracies_are_decided_by_validation_loss(plan: Plan) -> None:
    first, second = (spec.trial_id for spec in plan.trials if spec.cell == plan.cells[0])
    events = [*planned(plan), ended(first, 0.8), ended(second, 0.8, val_loss=0.5)]
    assert choose_best(replay(events)) == {plan.cells[0].cell_id: second}


def test_history_has_a_row_per_epoch(record: RunRecord, tmp_path: Path) -> None:
    write_tables(tmp_path, record)
    rows = pq.read_table(tmp_path / "history.parquet").to_pylist()
    assert [(row["epoch"], row["decision"]) for row in rows] == [
        (1, "continue"), (2, "done"), (1, "stop"),
    ]  # fmt: skip


def test_predictions_are_those_of_the_trial_that_stands_for_the_cell(
    record: RunRecord, tmp_path: Path
) -> None:
    write_tables(tmp_path, record)
    rows = pq.read_table(tmp_path / "predictions.parquet").to_pylist()
    assert [(row["item"], row["label"], row["predicted"]) for row in rows] == [
        (7, "joy", "joy"), (9, "joy", "anger"),
    ]  # fmt: skip


def test_every_column_has_a_description_and_a_unit(tmp_path: Path) -> None:
    write_tables(tmp_path, RunRecord())
    for name in ("results", "history", "predictions"):
        schema = pq.read_schema(tmp_path / f"{name}.parquet")
        for field in schema:
            assert field.metadata[b"description"], field.name
            assert b"unit" in field.metadata, field.name
    assert len(RESULT_COLUMNS) == len({name for name, *_ in RESULT_COLUMNS})


def test_a_trial_is_taken_up_after_the_last_epoch_it_was_told_to_go_on(plan: Plan) -> None:
    trial = plan.trials[0].trial_id
    for decisions, expected in [
        ([], 0), (["continue"], 1), (["continue", "stop"], 1), (["continue", "done"], 1),
    ]:  # fmt: skip
        events = [epoch(trial, n, d) for n, d in enumerate(decisions, start=1)]
        record = replay([*planned(plan), *events])
        assert record.trials[trial].last_confirmed_epoch() == expected


def test_a_reader_always_finds_a_whole_table(record: RunRecord, tmp_path: Path) -> None:
    write_tables(tmp_path, record)
    stop = threading.Event()
    errors: list[Exception] = []

    def read() -> None:
        while not stop.is_set():
            try:
                assert pq.read_table(tmp_path / "results.parquet").num_rows == 2
            except Exception as error:
                errors.append(error)

    reader = threading.Thread(target=read)
    reader.start()
    for _ in range(30):
        write_tables(tmp_path, record)
    stop.set()
    reader.join()
    assert not errors
    assert not list(tmp_path.glob(".*"))


def test_only_the_best_trial_of_a_cell_stands_for_it(plan: Plan) -> None:
    first, second = (spec.trial_id for spec in plan.trials if spec.cell == plan.cells[0])
    for accuracies, keeper in [((0.8, 0.9), second), ((0.9, 0.8), first)]:
        events = [ended(t, a) for t, a in zip((first, second), accuracies, strict=True)]
        record = replay([*planned(plan), *events])
        assert set(choose_best(record).values()) == {keeper}


def test_a_trial_that_ends_again_and_worse_gives_up_its_place(plan: Plan) -> None:
    first, second = (spec.trial_id for spec in plan.trials if spec.cell == plan.cells[0])
    worse = ended(first, 0.0, "failed")
    record = replay([*planned(plan), ended(first, 0.9), worse, ended(second, 0.5)])
    assert set(choose_best(record).values()) == {second}


def test_epochs_arrive_in_the_order_of_the_events(plan: Plan) -> None:
    first, second = plan.trials[0].trial_id, plan.trials[1].trial_id
    events = [epoch(first, 1), epoch(second, 1), epoch(first, 2, "done"), epoch(second, 2)]
    repeated = [epoch(first, 1), epoch(first, 2, "done")]
    record = replay([*planned(plan), *events, *repeated])
    # The first epoch went on and stands; the last one came again.
    assert list(record.arrivals) == [(first, 1), (second, 1), (second, 2), (first, 2)]


def test_an_epoch_is_read_back_as_it_was_written(plan: Plan) -> None:
    trial = plan.trials[0].trial_id
    event = epoch(trial, 2) | {"rung": 1.0, "cutoff": None, "train_loss": float("nan")}
    record = replay([*planned(plan), event]).trials[trial]
    assert list(record.epochs) == [2]
    assert record.epochs[2].items() >= (event | {"train_loss": None}).items()
    assert 1 not in record.epochs


def test_specs_share_what_they_have_in_common(plan: Plan) -> None:
    record = replay(planned(plan))
    first, second = (record.trials[spec.trial_id].spec for spec in plan.trials[:2])
    assert first == plan.trials[0]
    assert first.cell is second.cell
    assert first.recipe is second.recipe


def test_a_reopened_trial_is_as_if_it_never_ran(plan: Plan) -> None:
    first, second = (spec.trial_id for spec in plan.trials if spec.cell == plan.cells[0])
    failed = [epoch(first, 1), epoch(first, 2), ended(first, 0.9)]
    again = [{"event": "reopened", "time": 3.0, "trial_id": first}, epoch(first, 1, "stop")]
    record = replay([*planned(plan), *failed, ended(second, 0.5), *again])
    assert record.done() == {second}
    assert list(record.arrivals) == [(first, 1)]
    assert list(record.trials[first].epochs) == [1]
    assert choose_best(record) == {plan.cells[0].cell_id: second}


def test_done_follows_every_event(plan: Plan) -> None:
    record, trial = replay(planned(plan)), plan.trials[0].trial_id
    assert record.done() == frozenset()
    apply(record, ended(trial, 0.5, "failed"))
    assert record.done() == {trial}
    apply(record, {"event": "reopened", "time": 3.0, "trial_id": trial})
    assert record.done() == frozenset()


def test_what_a_killed_driver_left_of_a_table_is_removed(tmp_path: Path) -> None:
    (tmp_path / ".results.parquet.4711").write_bytes(b"PAR1")
    (tmp_path / "results.parquet").write_bytes(b"PAR1")
    remove_unfinished(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["results.parquet"]


def marked_set(plan: Plan, fingerprint: str | None, truth: list[int]) -> Event:
    labels, items = plan.cells[0].labels, list(range(len(truth)))
    event = {"event": "test_set", "time": 0.0, "labels": labels, "items": items, "truth": truth}
    return event | {"fingerprint": fingerprint} if fingerprint else event


def read_right(folder: Path) -> dict[str, float]:
    """Return each trial's accuracy as its predictions give it."""
    frame = pq.read_table(folder / "predictions.parquet").to_pandas()
    right = frame["label"].eq(frame["predicted"]).groupby(frame["trial_id"]).mean()
    return {str(trial_id): float(value) for trial_id, value in right.items()}


def test_predictions_stand_beside_the_truth_that_their_result_names(
    plan: Plan, tmp_path: Path
) -> None:
    first, third = plan.trials[0].trial_id, plan.trials[2].trial_id
    assert plan.trials[0].cell.cell_id != plan.trials[2].cell.cell_id
    old, new = marked_set(plan, "old", [0, 1]), marked_set(plan, "new", [1, 1, 0])
    events = [
        *(old, ended(first, 0.5, test_accuracy=1.0, test_set="old")),
        *(new, ended(third, 0.5) | {"predictions": [1, 1, 1], "test_set": "new"}),
    ]
    write_tables(tmp_path, replay([*planned(plan), *events]))
    assert read_right(tmp_path) == {first: 1.0, third: pytest.approx(2 / 3)}


def test_predictions_of_an_older_journal_count_only_where_they_give_their_own_accuracy(
    plan: Plan, tmp_path: Path
) -> None:
    first, third = plan.trials[0].trial_id, plan.trials[2].trial_id
    events = [
        marked_set(plan, None, [0, 1]),
        ended(first, 0.5, test_accuracy=1.0),
        ended(third, 0.5, test_accuracy=0.5),
    ]
    write_tables(tmp_path, replay([*planned(plan), *events]))
    assert read_right(tmp_path) == {first: 1.0}


def test_a_trial_of_the_present_plan_stands_for_its_cell_before_a_better_one_of_an_earlier(
    plan: Plan, tmp_path: Path
) -> None:
    first, second = (spec.trial_id for spec in plan.trials if spec.cell == plan.cells[0])
    replanned = {"event": "replanned", "time": 3.0, "trials": [second]}
    events = [ended(first, 0.9), ended(second, 0.5), replanned]
    record = replay([*planned(plan), *events])
    write_tables(tmp_path, record)
    rows = pq.read_table(tmp_path / "results.parquet").to_pylist()
    assert choose_best(record) == {plan.cells[0].cell_id: second}
    assert [(row["trial_id"], row["in_plan"]) for row in rows] == [(first, False), (second, True)]


def test_a_renamed_model_has_its_new_name_in_every_row(plan: Plan, tmp_path: Path) -> None:
    trial = plan.trials[0]
    cell, model = replace(trial.cell, model="renamed"), replace(trial.model, name="renamed")
    again = {"event": "planned", "time": 1.0, "trial": replace(trial, cell=cell, model=model)}
    write_tables(tmp_path, replay([*planned(plan), ended(trial.trial_id, 0.5), again]))
    (row,) = pq.read_table(tmp_path / "results.parquet").to_pylist()
    assert row["model"] == "renamed"


def baseline(plan: Plan, name: str, **fields: Any) -> Event:
    cell, data = plan.cells[0], plan.trials[0].data_fingerprint
    axes = {"n_labels": cell.n_labels, "n_samples": cell.n_samples, "seed": cell.seed}
    named = {"trial_id": name, "cell_id": name, "model": name, "labels": list(cell.labels)}
    return {"event": "baseline", "time": 1.0, **named, **axes, "data_fingerprint": data,
            "predictions": [0], **fields}  # fmt: skip


def test_only_baselines_that_the_configuration_names_are_planned(plan: Plan) -> None:
    events = [*planned(plan), baseline(plan, "majority"), baseline(plan, "tf-idf")]
    opened = {"event": "opened", "time": 2.0}
    assert replay(events).planned_baselines() == {"majority", "tf-idf"}
    assert replay([*events, opened]).planned_baselines() == {"majority", "tf-idf"}
    named = [*events, opened | {"baselines": ["majority"]}]
    assert replay(named).planned_baselines() == {"majority"}
    assert replay([*events, opened | {"baselines": []}]).planned_baselines() == set()
