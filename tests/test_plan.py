"""The plan: cells, candidates and ids."""

import json
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from pydantic import TypeAdapter

from sweep.config import load_config
from sweep.data import Corpus, Row, Subsets
from sweep.display.plan import format_plan, plan_to_dict
from sweep.errors import ConfigError
from sweep.plan import Plan, TrialSpec, build_plan, scored_at_once

WriteConfig = Callable[..., Path]
REVISIONS = {"tiny-llama": "llama-v1"}


def ids(plan: Plan) -> set[str]:
    return {trial.trial_id for trial in plan.trials}


def replan(
    write_config: WriteConfig, subsets: Subsets, *overrides: str, revision: str = ""
) -> Plan:
    revisions = {"tiny-llama": revision or "llama-v1", "other": "llama-v1"}
    return build_plan(load_config(write_config(), overrides), subsets, revisions)


def test_every_cell_of_the_grid_is_planned_once(plan: Plan) -> None:
    axes = [(cell.model, cell.n_labels, cell.n_samples, cell.seed) for cell in plan.cells]
    assert sorted(axes) == [("tiny-llama", k, n, 0) for k in (2, 4) for n in (16, 32)]


def test_every_cell_has_the_same_candidates(plan: Plan) -> None:
    for cell in plan.cells:
        own = {t.candidate for t in plan.trials if t.cell == cell}
        assert own == set(plan.candidates[cell.model])


def test_ids_are_distinct(plan: Plan) -> None:
    assert len(ids(plan)) == len(plan.trials)
    assert len({cell.cell_id for cell in plan.cells}) == len(plan.cells)


def test_ids_are_the_same_in_another_process() -> None:
    command = [sys.executable, "-m", "sweep.run", "--dry-run", "--json"]
    first, second = (
        subprocess.run(command, capture_output=True, check=True, env={"PYTHONHASHSEED": seed})
        for seed in ("1", "2")
    )
    one, other = json.loads(first.stdout), json.loads(second.stdout)
    assert (one["cells"], one["trials"]) == (other["cells"], other["trials"])
    assert len(one["trials"]) == 96


def test_ids_are_the_same_as_in_earlier_releases(plan: Plan) -> None:
    assert plan.trials[0].trial_id == "28f59739c965"


@pytest.mark.parametrize(
    "override",
    [
        "train.batch_size=4",
        "train.max_length=16",
        "train.dtype=float32",
        "train.warmup_ratio=0.2",
        "train.max_grad_norm=0.5",
        "train.patience=1",
        "asha.max_epochs=4",
        "tune.learning_rate=0.004",
        "tune.lora_rank=[8, 16]",
        "tune.lora_alpha_ratio=1",
        "tune.lora_dropout=0.1",
        "tune.weight_decay=0.1",
        "grid.seeds=[1]",
        "grid.models.0.target_modules=[q_proj]",
    ],
)
def test_what_changes_a_result_changes_every_id(
    plan: Plan, write_config: WriteConfig, subsets: Subsets, override: str
) -> None:
    assert not ids(plan) & ids(replan(write_config, subsets, override))


@pytest.mark.parametrize(
    "override",
    [
        "name=other",
        "grid.models.0.name=other",
        "train.eval_batch_size=7",
        "train.compile=true",
        "asha.grace_epochs=2",
        "asha.reduction_factor=4",
        "resources.cpus_per_trial=2",
        "resources.max_retries=0",
    ],
)
def test_what_changes_no_result_changes_no_id(
    plan: Plan, write_config: WriteConfig, subsets: Subsets, override: str
) -> None:
    assert ids(plan) == ids(replan(write_config, subsets, override))


def test_as_many_texts_are_scored_at_once_as_the_settings_say(
    write_config: WriteConfig, subsets: Subsets
) -> None:
    default = replan(write_config, subsets, "train.max_batch_tokens=512").trials[0].recipe
    assert [scored_at_once(default, on_gpu) for on_gpu in (False, True)] == [64, 512]
    told = replan(write_config, subsets, "train.eval_batch_size=7").trials[0].recipe
    assert [scored_at_once(told, on_gpu) for on_gpu in (False, True)] == [7, 7]


def test_other_weights_change_every_id(
    plan: Plan, write_config: WriteConfig, subsets: Subsets
) -> None:
    assert not ids(plan) & ids(replan(write_config, subsets, revision="llama-v2"))


def test_a_larger_grid_and_more_candidates_keep_the_old_ids(
    plan: Plan, write_config: WriteConfig, subsets: Subsets
) -> None:
    larger = replan(
        write_config, subsets, "grid.n_samples=[8,16,32]", "grid.seeds=[0,1]", "tune.candidates=2"
    )
    assert ids(plan) < ids(larger)


def test_one_other_training_text_changes_the_ids_of_the_cells_that_hold_it(
    plan: Plan, write_config: WriteConfig, corpus: Corpus
) -> None:
    rows = [replace(row, text=row.text + "!") for row in corpus.splits["train"]]
    changed = Subsets(Corpus({**corpus.splits, "train": rows}))
    assert not ids(plan) & ids(replan(write_config, changed))


def test_unused_rows_change_no_id(plan: Plan, write_config: WriteConfig, corpus: Corpus) -> None:
    rows = [Row("two at once", ("joy", "fear")), *corpus.splits["train"]]
    assert ids(plan) == ids(replan(write_config, Subsets(Corpus({**corpus.splits, "train": rows}))))


def test_candidates_start_in_another_order_in_another_cell(
    write_config: WriteConfig, subsets: Subsets
) -> None:
    plan = replan(write_config, subsets, "tune.candidates=8", "tune.lora_rank=[1,2,3,4,5,6,7,8]")
    orders = {
        tuple(t.candidate.index for t in plan.trials if t.cell == cell) for cell in plan.cells
    }
    assert len(orders) > 1


def test_more_candidates_than_there_are_is_refused(
    write_config: WriteConfig, subsets: Subsets
) -> None:
    with pytest.raises(ConfigError, match="allows only 2 different ones"):
        replan(write_config, subsets, "tune.candidates=3")


def test_a_trial_survives_the_way_through_json(plan: Plan) -> None:
    spec = plan.trials[0]
    assert TypeAdapter(TrialSpec).validate_json(json.dumps(spec.to_dict())) == spec


def test_listing_and_json_tell_which_trials_are_done(plan: Plan) -> None:
    done = frozenset({plan.trials[0].trial_id})
    assert f"{plan.trials[0].trial_id}*" in format_plan(plan, done)
    assert [trial["done"] for trial in plan_to_dict(plan, done)["trials"]].count(True) == 1


def test_planning_imports_neither_torch_nor_ray() -> None:
    code = (
        "import sys; from sweep.run import main; main(['--dry-run']); "
        "sys.exit(any(name in sys.modules for name in ('torch','ray','transformers','peft')))"
    )
    subprocess.run([sys.executable, "-c", code], check=True, capture_output=True)


def plan_methods(write_config: WriteConfig, subsets: Subsets, **full: Any) -> Plan:
    """Return the plan of a model by both methods, the second with other keys ``full``."""
    models = [
        {"name": "tiny-llama", "path": "tiny:llama"},
        {"name": "other", "path": "tiny:llama", "method": "full", **full},
    ]
    grid = {"models": models, "n_labels": [2], "n_samples": [16]}
    revisions = {"tiny-llama": "llama-v1", "other": "llama-v1"}
    return build_plan(load_config(write_config(grid=grid)), subsets, revisions)


def test_a_model_is_planned_once_per_method(write_config: WriteConfig, subsets: Subsets) -> None:
    plan = plan_methods(write_config, subsets, tune={"candidates": 3, "learning_rate": [1, 2, 3]})
    lora, full = plan.cells
    assert lora.cell_id != full.cell_id
    assert [len(plan.candidates[name]) for name in ("tiny-llama", "other")] == [2, 3]
    assert all(each.lora is None for each in plan.candidates["other"])
    assert {spec.model.method for spec in plan.trials if spec.cell == full} == {"full"}


def test_ids_of_lora_trials_do_not_depend_on_the_methods(
    write_config: WriteConfig, subsets: Subsets
) -> None:
    alone = replan(write_config, subsets, "grid.n_labels=[2]", "grid.n_samples=[16]")
    both = plan_methods(write_config, subsets, tune={"learning_rate": [1e-4, 1e-3]})
    assert ids(alone) < ids(both)


def test_an_override_of_one_model_changes_no_trial_of_another(
    write_config: WriteConfig, subsets: Subsets
) -> None:
    one = plan_methods(write_config, subsets, tune={"learning_rate": [1e-4, 1e-3]})
    two = plan_methods(write_config, subsets, tune={"learning_rate": [2e-4, 2e-3]})
    lora = {spec.trial_id for spec in one.trials if spec.model.method == "lora"}
    assert ids(one) & ids(two) == lora
