"""Baselines on features: computed once for all cells, and recorded like the others."""

import os
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import ray
import torch
from ray_runs import ONE_WORKER

from analysis.load import load_run
from sweep.config import ResourcesConfig
from sweep.data import Subsets
from sweep.plan import FeaturesRef, ModelRef, Plan, build_repeat, extend_plan
from sweep.run import main
from sweep.storage.journal import Journal, read_events
from sweep.storage.record import RunRecord, apply, replay
from sweep.training.text_features import TextFeatures
from sweep.tuning import baselines
from sweep.tuning.baselines import (
    BaselineTasks,
    identify_baseline,
    identify_features,
    list_baselines,
    list_replaced,
)
from sweep.tuning.recorder import Recorder
from sweep.tuning.resume import reopen_failed
from sweep.tuning.scheduler import CellASHA

NAME = "features-gpt2"
NAMES = ["majority", NAME]
RESULT = {"val_accuracy": 0.5, "test_accuracy": 0.5, "predictions": []}


@pytest.fixture
def planned(plan: Plan) -> Plan:
    """Return a plan of four subsets, with the features of a tiny model."""
    model = ModelRef(NAME, "tiny:gpt2", "gpt2-v1")
    ref = FeaturesRef(model, "auto", False, plan.trials[0].recipe)
    return replace(plan, features=(ref,))


def change(plan: Plan, **changes: Any) -> Plan:
    return replace(plan, features=(replace(plan.features[0], **changes),))


def build_record(plan: Plan, **outcome: Any) -> RunRecord:
    """Return the record of a run in which all baselines of ``plan`` ended."""
    run = RunRecord()
    for trial in plan.trials:
        apply(run, {"event": "planned", "time": 0.0, "trial": trial})
    for spec in list_baselines(NAMES, plan):
        fields = spec.to_fields() | {"val_accuracy": 0.5} | outcome
        apply(run, {"event": "baseline", "time": 0.0, **fields})  # type: ignore[typeddict-item]
    return run


def test_ids_of_the_other_baselines_are_those_of_earlier_releases() -> None:
    assert identify_baseline("majority", "a") == "895c77ed546d"
    assert identify_baseline("tf-idf", "a") == "8186da9af824"


def test_id_changes_with_all_that_changes_the_features(planned: Plan) -> None:
    (ref,) = planned.features
    others = [
        replace(ref, pooling="mean"),
        replace(ref, normalized=True),
        replace(ref, recipe=replace(ref.recipe, max_length=9)),
        replace(ref, model=replace(ref.model, revision="gpt2-v2")),
    ]
    ids = {identify_features(each, data) for each in [ref, *others] for data in ("a", "b")}
    assert len(ids) == 10


def test_id_stays_if_only_the_batches_or_the_name_change(planned: Plan) -> None:
    (ref,) = planned.features
    other = replace(ref, recipe=replace(ref.recipe, eval_batch_size=1, max_batch_tokens=64))
    other = replace(other, model=replace(ref.model, name="x", path="/elsewhere"))
    assert identify_features(other, "a") == identify_features(ref, "a")


def test_baselines_on_features_come_last(planned: Plan) -> None:
    assert [spec.name for spec in list_baselines(NAMES[::-1], planned)] == [
        name for name in NAMES for _ in range(4)
    ]


def find_missing(plan: Plan, record: RunRecord, names: list[str], folder: Path) -> list[str]:
    with Journal(folder) as journal:
        recorder = Recorder(journal, record, CellASHA(3, 1, 2))
        return [spec.name for spec in BaselineTasks(names, plan, None, recorder).missing]  # type: ignore[arg-type]


def test_finished_ones_do_not_run_again(planned: Plan, tmp_path: Path) -> None:
    assert find_missing(planned, build_record(planned), NAMES, tmp_path) == []


def test_renamed_one_runs_again(planned: Plan, tmp_path: Path) -> None:
    other = change(planned, model=replace(planned.features[0].model, name="other"))
    assert find_missing(other, build_record(planned), ["other"], tmp_path) == ["other"] * 4


def test_results_of_other_features_under_the_name_are_replaced(planned: Plan) -> None:
    record = build_record(planned)
    assert list_replaced(NAMES, planned, record) == []
    replaced = list_replaced(NAMES, change(planned, pooling="mean"), record)
    assert replaced == [s.baseline_id for s in list_baselines(NAMES, planned) if s.name == NAME]


def test_failed_ones_are_retried_when_told_to(planned: Plan, tmp_path: Path) -> None:
    record = build_record(planned, status="failed", error="odd")
    assert find_missing(planned, record, NAMES, tmp_path) == []
    with Journal(tmp_path) as journal:
        reopen_failed(planned, Recorder(journal, record, CellASHA(3, 1, 2)), NAMES)
    assert Counter(find_missing(planned, record, NAMES, tmp_path)) == dict.fromkeys(NAMES, 4)


def test_failed_ones_on_the_seeds_of_repeats_are_retried_too(
    planned: Plan, subsets: Subsets, tmp_path: Path
) -> None:
    tuned = planned.trials[0]
    repeat = build_repeat(tuned, 1, subsets)
    entire = extend_plan(planned, [repeat])
    record = build_record(entire, status="failed", error="odd")
    event = {"event": "planned", "time": 1.0, "trial": repeat, "repeat_of": tuned.trial_id}
    apply(record, event)  # type: ignore[arg-type]
    with Journal(tmp_path) as journal:
        reopen_failed(planned, Recorder(journal, record, CellASHA(3, 1, 2)), NAMES)
    assert Counter(find_missing(entire, record, NAMES, tmp_path)) == dict.fromkeys(NAMES, 5)


@pytest.mark.parametrize(("share", "threads"), [(0.0, 1), (0.5, 3), (1.0, 6)])
def test_features_are_computed_on_a_share_of_the_cpus(
    planned: Plan, subsets: Subsets, monkeypatch: pytest.MonkeyPatch, share: float, threads: int
) -> None:
    used: list[int] = []
    monkeypatch.setattr(baselines, "_count_cpus", lambda: 6)
    monkeypatch.setattr(torch, "set_num_threads", used.append)
    computed = baselines._compute_on_worker(planned.features[0], subsets, [(2, 16, 0)], share)
    assert isinstance(computed, TextFeatures)
    assert len(computed.positions) == 16 + 2 * 16
    assert used == [threads]


@pytest.fixture(scope="module")
def cluster() -> Iterator[None]:
    ray.init(address="local", num_cpus=2, include_dashboard=False, log_to_driver=False)
    # No worker can import a test.
    ray.cloudpickle.register_pickle_by_value(sys.modules[__name__])
    yield
    ray.cloudpickle.unregister_pickle_by_value(sys.modules[__name__])
    ray.shutdown()


Run = Callable[..., tuple[RunRecord, list[str]]]


@pytest.fixture
def run_baselines(
    cluster: None, tmp_path: Path, planned: Plan, subsets: Subsets, monkeypatch: pytest.MonkeyPatch
) -> Run:
    """Return a function that runs the baselines of four subsets, after calling ``before`` in the
    worker that computes features; it returns the record and what the user is told."""
    usual, usual_run = baselines._compute_on_worker, baselines._run_on_worker

    def run_on_worker(name: str, *rest: Any) -> Any:
        # Importing what scores takes longer than a baseline is allowed here.
        return usual_run(name, *rest) if name == NAME else RESULT

    def run(before: Callable[[], None], **resources: float) -> tuple[RunRecord, list[str]]:
        def compute(*arguments: Any) -> Any:
            before()
            return usual(*arguments)

        monkeypatch.setattr(baselines, "_compute_on_worker", compute)
        monkeypatch.setattr(baselines, "_run_on_worker", run_on_worker)
        monkeypatch.setattr(baselines, "START_SECONDS", 10.0)
        told: list[str] = []
        with Journal(tmp_path) as journal:
            recorder = Recorder(journal, RunRecord(), CellASHA(3, 1, 2))
            limits = ResourcesConfig(max_retries=1, **resources)
            tasks = BaselineTasks(NAMES, planned, subsets, recorder, limits, told.append)
            tasks.start()
            tasks.finish()
        return replay(read_events(tmp_path)), told

    return run


def errors_of(record: RunRecord, name: str) -> list[str]:
    events = record.baselines.values()
    return [event.get("error", "") for event in events if event["model"] == name]


def test_features_of_all_cells_are_computed_once(run_baselines: Run, tmp_path: Path) -> None:
    def count() -> None:
        with (tmp_path / "computed").open("a") as file:
            file.write("x")

    record, told = run_baselines(count)
    assert (tmp_path / "computed").read_text() == "x"
    assert told == []
    rows = [event for event in record.baselines.values() if event["model"] == NAME]
    assert len(rows) == 4
    assert all(len(event["predictions"]) == event["n_test"] for event in rows)
    assert all(event["wall_seconds"] > event["train_seconds"] > 0 for event in rows)


def fail() -> None:
    raise ValueError("damaged weights")


def end_worker() -> None:
    os._exit(1)


def hang() -> None:
    time.sleep(600)


@pytest.mark.parametrize(
    ("before", "reason"),
    [
        (fail, "ValueError: damaged weights"),
        (end_worker, "its worker was lost"),
        (hang, "no result within 0.01 minutes (resources.max_epoch_minutes)"),
    ],
)
def test_without_features_each_cell_has_the_reason_which_is_told_once(
    run_baselines: Run, before: Callable[[], None], reason: str
) -> None:
    record, told = run_baselines(before, **({"max_epoch_minutes": 0.01} if before is hang else {}))
    errors = errors_of(record, NAME)
    assert len(errors) == 4
    assert all(reason in error for error in errors)
    assert errors_of(record, "majority") == [""] * 4
    assert len(told) == 1
    assert told[0].startswith(f"baseline {NAME}, 2 labels x 16 samples, seed 0: failed (")


def test_worker_that_is_lost_once_is_forgiven(run_baselines: Run, tmp_path: Path) -> None:
    def end_first_time() -> None:
        try:
            (tmp_path / "ended").mkdir()
        except FileExistsError:
            return
        os._exit(1)

    record, _ = run_baselines(end_first_time)
    assert errors_of(record, NAME) == [""] * 4


def test_sweep_has_a_row_for_each_cell_also_after_a_change(
    tmp_path: Path, write_config: Callable[..., Path]
) -> None:
    ray.shutdown()
    entry = {"features": "tiny:gpt2", "name": NAME}
    config = write_config(
        asha={"max_epochs": 1}, baselines=["majority", entry], data={"max_eval_per_label": 6}
    )
    arguments = [str(config), "--out", str(tmp_path), "--set", "tune.candidates=1", *ONE_WORKER]
    arguments += ["--set", "grid.n_labels=[2]"]
    folder = tmp_path / "small"

    def list_rows() -> list[tuple[str, int, int, str]]:
        rows = load_run(folder).results.query("kind == 'baseline'")
        return sorted(zip(rows.model, rows.n_labels, rows.n_samples, rows.status, strict=True))

    assert main(arguments) == 0
    expected = [(name, 2, n, "finished") for name in sorted(NAMES) for n in (16, 32)]
    assert list_rows() == expected
    before = [event for event in read_events(folder) if event["event"] == "baseline"]
    assert main([*arguments, "--resume", "--set", "baselines.1.pooling=mean"]) == 0
    assert list_rows() == expected
    after = [event for event in read_events(folder) if event["event"] == "baseline"]
    assert Counter(event["model"] for event in after[len(before) :]) == {NAME: 2}
    assert NAME in (folder / "report.html").read_text()
