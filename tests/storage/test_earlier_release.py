"""A run that release 0.1 began, and that was killed with 16 trials planned, goes on."""

import shutil
from dataclasses import replace
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from sweep.config import load_config
from sweep.data import build_subsets
from sweep.models.sources import resolve_revision
from sweep.plan import Plan, build_plan, scored_at_once
from sweep.storage.journal import JOURNAL_NAME, read_events
from sweep.storage.record import RunRecord, replay
from sweep.storage.tables import RESULTS_NAME, write_tables

ROOT = Path(__file__).parents[2]
RECORDED = ROOT / "tests" / "recorded" / "killed_under_0_1.jsonl"
OVERRIDES = (
    "grid.n_labels=[2,4]",
    "grid.n_samples=[800]",
    "asha.grace_epochs=4",
    "asha.max_epochs=4",
    "train.dtype=float32",
)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("killed")
    shutil.copy(RECORDED, folder / JOURNAL_NAME)
    return folder


@pytest.fixture(scope="module")
def record(folder: Path) -> RunRecord:
    return replay(read_events(folder))


@pytest.fixture(scope="module")
def plan() -> Plan:
    config = load_config(ROOT / "sweep_configs" / "quickstart.yaml", OVERRIDES)
    revisions = {model.name: resolve_revision(model) for model in config.grid.models}
    return build_plan(config, build_subsets(config), revisions)


def test_its_trials_are_those_of_todays_plan(record: RunRecord, plan: Plan) -> None:
    # Then 64 was the default, which "auto" still means on a CPU.
    today = [
        replace(spec, recipe=replace(spec.recipe, eval_batch_size=scored_at_once(spec.recipe)))
        for spec in plan.trials
    ]
    assert [trial.spec for trial in record.trials.values()] == today


def test_its_results_count_and_all_else_is_still_to_run(record: RunRecord, plan: Plan) -> None:
    left = {spec.trial_id for spec in plan.trials} - record.done()
    assert (len(record.done()), len(left)) == (6, 10)
    confirmed = sorted(record.trials[trial_id].last_confirmed_epoch() for trial_id in left)
    assert confirmed == [0] * 8 + [1, 1]


def test_its_epochs_are_compared_in_the_order_in_which_they_came(record: RunRecord) -> None:
    arrivals = list(record.arrivals)
    assert len(arrivals) == sum(len(trial.epochs) for trial in record.trials.values())
    assert [epoch for trial_id, epoch in arrivals if trial_id == arrivals[0][0]] == [1, 2, 3, 4]


def test_its_tables_have_every_result(record: RunRecord, folder: Path) -> None:
    write_tables(folder, record)
    results = pq.read_table(folder / RESULTS_NAME).to_pandas()
    trials = results[results["kind"] == "model"]
    assert set(trials["trial_id"]) == record.done()
    assert trials["test_accuracy"].between(0.5, 1).all()
    assert results["in_plan"].all()
