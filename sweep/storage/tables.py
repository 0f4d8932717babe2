"""The Parquet tables of a run; they can be rebuilt from its journal at any time."""

import json
from array import array
from collections.abc import Iterator, Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from sweep.plan import Candidate, Recipe
from sweep.storage.atomic import replace_file
from sweep.storage.events import Ended, Result, ServingFacts, TrialStatus
from sweep.storage.journal import read_events
from sweep.storage.record import RunRecord, TrialRecord, choose_best, replay

RESULTS_NAME = "results.parquet"
HISTORY_NAME = "history.parquet"
PREDICTIONS_NAME = "predictions.parquet"

# Name, type, unit ('' if none) and description.
Column = tuple[str, pa.DataType, str, str]
Row = dict[str, Any]
# Column name -> one value per row.
Lists = dict[str, Any]

TEXT, WHOLE, REAL, FLAG = pa.string(), pa.int64(), pa.float64(), pa.bool_()

CELL_COLUMNS: list[Column] = [
    ("trial_id", TEXT, "", "hash of everything that changes the trial's result"),
    ("cell_id", TEXT, "", "hash of model, labels, sample size, seed and data"),
    ("model", TEXT, "", "the model's name in the configuration"),
    ("n_labels", WHOLE, "labels", "size of the label set"),
    ("n_samples", WHOLE, "texts", "training texts, balanced over the labels"),
    ("seed", WHOLE, "", "seed of the training subset, the adapter and the data order"),
]
RESULT_COLUMNS: list[Column] = [
    *CELL_COLUMNS,
    ("kind", TEXT, "", "'model' for a fine-tuned model, 'baseline' for a reference method"),
    ("method", TEXT, "", "how the model is fine-tuned: lora or full; null for a reference"),
    ("labels", pa.list_(TEXT), "", "names of the label set, in class order"),
    ("candidate", WHOLE, "", "index of the candidate in the sweep's list"),
    ("lora_rank", WHOLE, "", "rank of the LoRA adapter; null where all weights are trained"),
    ("lora_alpha", REAL, "", "LoRA's alpha; the adapter's output is scaled by alpha / rank"),
    ("lora_dropout", REAL, "", "dropout before the adapter"),
    ("learning_rate", REAL, "", "peak learning rate of AdamW"),
    ("weight_decay", REAL, "", "decoupled weight decay"),
    ("batch_size", WHOLE, "texts", "training texts per optimizer step"),
    ("max_length", WHOLE, "tokens", "longer texts are cut to this many tokens"),
    ("max_epochs", WHOLE, "epochs", "epochs of the learning-rate schedule"),
    ("status", TEXT, "", "finished, stopped (by ASHA), diverged, oom or failed"),
    ("error", TEXT, "", "why the trial failed; null where it did not"),
    ("best_of_cell", FLAG, "", "whether validation chose this trial as its cell's best"),
    (
        "in_plan",
        FLAG,
        "",
        "false if the trial belongs to an earlier configuration, data or weights",
    ),
    (
        "repeat_of",
        TEXT,
        "",
        "the tuned trial whose candidate this one trains again; null if it is tuned itself",
    ),
    ("epochs_run", WHOLE, "epochs", "epochs trained"),
    ("best_epoch", WHOLE, "", "epoch with the highest validation accuracy, counted from 1"),
    ("val_accuracy", REAL, "fraction", "validation accuracy at the best epoch"),
    ("val_macro_f1", REAL, "fraction", "validation macro-F1 at the best epoch"),
    ("val_loss", REAL, "nats", "validation cross-entropy at the best epoch"),
    ("test_accuracy", REAL, "fraction", "test accuracy of the best epoch; null unless finished"),
    ("test_macro_f1", REAL, "fraction", "test macro-F1 of the best epoch; null unless finished"),
    ("n_validation", WHOLE, "texts", "validation texts"),
    ("n_test", WHOLE, "texts", "test texts"),
    ("train_tokens", WHOLE, "tokens", "real tokens trained on, all epochs"),
    ("padded_tokens", WHOLE, "tokens", "tokens trained on with padding, all epochs"),
    ("truncated_texts", WHOLE, "texts", "training texts cut to max_length"),
    ("load_seconds", REAL, "s", "time to make model, adapter and batches ready"),
    ("train_seconds", REAL, "s", "time in training steps"),
    ("eval_seconds", REAL, "s", "time in validation and test"),
    ("wall_seconds", REAL, "s", "time from the trial's start to its end, on its worker"),
    ("peak_memory_bytes", WHOLE, "B", "highest memory: allocated on a GPU, resident on a CPU"),
    ("trainable_parameters", WHOLE, "", "parameters that are trained, the head included"),
    ("total_parameters", WHOLE, "", "parameters of base model, adapter and head"),
    ("device", TEXT, "", "processor that trained"),
    ("dtype", TEXT, "", "number format of the base model"),
    ("compiled", TEXT, "", "whether blocks were compiled, yes or no, and why; null in packs"),
    ("host", TEXT, "", "machine that trained"),
    ("gpus", REAL, "GPUs", "GPUs, or the part of one, reserved for the trial"),
    ("cpus", REAL, "CPUs", "CPUs reserved for the trial"),
    ("node_type", TEXT, "", "the machine's type, if its cluster says so"),
    ("market", TEXT, "", "spot or on-demand, if the machine's cluster says so"),
    ("serving_texts_per_second", REAL, "texts/s", "speed of scoring in batches, after the sweep"),
    ("serving_batch", WHOLE, "texts", "texts scored at once for that speed"),
    ("latency_p50_seconds", REAL, "s", "median time to score one text alone"),
    ("latency_p95_seconds", REAL, "s", "time within which 95 of 100 single texts are scored"),
    (
        "serving_memory_bytes",
        WHOLE,
        "B",
        "highest memory while scoring: allocated on a GPU, else resident, libraries included",
    ),
    ("serving_size_bytes", WHOLE, "B", "size on disk of all that scoring needs but the libraries"),
    ("serving_device", TEXT, "", "processor that scored"),
    ("serving_host", TEXT, "", "machine that scored"),
    ("serving_cpus", REAL, "CPUs", "CPUs that scoring had: 1 for majority and TF-IDF"),
    ("serving_node_type", TEXT, "", "type of the machine that scored, if its cluster says so"),
    ("serving_market", TEXT, "", "spot or on-demand, if that machine's cluster says so"),
    ("serving_error", TEXT, "", "why nothing was measured in use; null where it was"),
    ("model_path", TEXT, "", "Hub id, folder or family of the base model"),
    ("model_revision", TEXT, "", "commit of the base model, or a hash of its files"),
    ("data_fingerprint", TEXT, "", "hash of the cell's training, validation and test texts"),
    ("versions", TEXT, "", "JSON object: release of each package that matters"),
    ("git_commit", TEXT, "", "commit of the working copy; null outside one"),
    ("started_at", REAL, "s", "Unix time at which a worker took the trial"),
    ("ended_at", REAL, "s", "Unix time at which the result was written down"),
]
CELL_NAMES = frozenset(name for name, *_ in CELL_COLUMNS)
RESULT_NAMES = frozenset(name for name, *_ in RESULT_COLUMNS)
RECIPE_NAMES = [part.name for part in fields(Recipe) if part.name in RESULT_NAMES]
CANDIDATE_NAMES = [part.name for part in fields(Candidate) if part.name in RESULT_NAMES]
SERVING_NAMES = frozenset(ServingFacts.__annotations__)
HISTORY_COLUMNS: list[Column] = [
    *CELL_COLUMNS,
    ("epoch", WHOLE, "", "counted from 1"),
    ("train_loss", REAL, "nats", "mean cross-entropy over the epoch's training texts"),
    ("val_loss", REAL, "nats", "validation cross-entropy"),
    ("val_accuracy", REAL, "fraction", "validation accuracy"),
    ("val_macro_f1", REAL, "fraction", "validation macro-F1"),
    ("train_seconds", REAL, "s", "time in this epoch's training steps"),
    ("eval_seconds", REAL, "s", "time in this epoch's validation"),
    ("decision", TEXT, "", "continue, stop (by ASHA), or done (the trial ended itself)"),
    ("rung", REAL, "epochs", "ASHA rung at which the trial was compared; null if none"),
    ("cutoff", REAL, "fraction", "best validation accuracy so far that the rung required"),
    ("ended_at", REAL, "s", "Unix time at which the epoch was written down"),
]
PREDICTION_COLUMNS: list[Column] = [
    *CELL_COLUMNS,
    ("item", WHOLE, "", "row number of the text in the test split, counted from 0"),
    ("label", TEXT, "", "true label"),
    ("predicted", TEXT, "", "label predicted by the cell's best trial"),
]


def write_tables(folder: Path, run: RunRecord | None = None) -> None:
    """Write the three tables of ``folder``; a reader always finds the old one or the new one."""
    run = run or replay(read_events(folder))
    best = choose_best(run)
    write_table(folder / RESULTS_NAME, RESULT_COLUMNS, list(_result_rows(run, best)))
    write_table(folder / HISTORY_NAME, HISTORY_COLUMNS, _build_history(run))
    write_table(folder / PREDICTIONS_NAME, PREDICTION_COLUMNS, _build_predictions(run, best))


def remove_unfinished(folder: Path) -> None:
    """Remove a killed driver's half-written tables; only the holder of the journal may do so."""
    for beside in folder.glob(".*.parquet.*"):
        beside.unlink(missing_ok=True)


def write_table(path: Path, columns: list[Column], content: list[Row] | Lists) -> None:
    """Replace the table at ``path`` by ``content``: rows, or one list per column."""
    schema = pa.schema(
        [
            pa.field(name, kind, metadata={"unit": unit, "description": text})
            for name, kind, unit, text in columns
        ]
    )
    build = pa.Table.from_pydict if isinstance(content, dict) else pa.Table.from_pylist
    table = build(content, schema=schema)
    with replace_file(path) as file:
        pq.write_table(table, file, compression="zstd")


def _cell_values(record: TrialRecord) -> Row:
    cell = record.spec.cell
    return {
        "trial_id": record.spec.trial_id,
        "cell_id": cell.cell_id,
        "model": cell.model,
        "n_labels": cell.n_labels,
        "n_samples": cell.n_samples,
        "seed": cell.seed,
    }


def _result_rows(run: RunRecord, best: dict[str, str]) -> Iterator[Row]:
    opened = run.newest_opened
    shared = {
        "kind": "model",
        "versions": json.dumps(opened.get("versions", {}) if opened else {}),
        "git_commit": opened.get("git_commit") if opened else None,
    }
    for record in run.trials.values():
        if record.ended is not None:
            planned = run.is_planned(record.spec.trial_id)
            values = _describe_trial(record, record.ended, best)
            yield shared | values | {"in_plan": planned} | _describe_use(run, record.spec.trial_id)
    asked = run.planned_baselines()
    for trial_id, event in run.baselines.items():
        row: Row = {key: value for key, value in event.items() if key in RESULT_NAMES}
        status = event.get("status") or TrialStatus.FINISHED
        best_of_cell = status == TrialStatus.FINISHED
        fixed = {"kind": "baseline", "status": status, "best_of_cell": best_of_cell}
        row |= {**fixed, "ended_at": event["time"], "in_plan": trial_id in asked}
        yield row | _describe_use(run, trial_id)


def _describe_use(run: RunRecord, trial_id: str) -> Row:
    served = run.served.get(trial_id)
    return {key: value for key, value in (served or {}).items() if key in SERVING_NAMES}


def _describe_trial(record: TrialRecord, ended: Ended, best: dict[str, str]) -> Row:
    spec, started = record.spec, record.started
    row: Row = {name: getattr(spec.recipe, name) for name in RECIPE_NAMES}
    row |= {name: getattr(spec.candidate, name) for name in CANDIDATE_NAMES}
    for event in (started, ended) if started else (ended,):
        row |= {key: value for key, value in event.items() if key in RESULT_NAMES}
    return row | {
        "candidate": spec.candidate.index,
        "method": spec.model.method,
        "model_path": spec.model.path,
        "model_revision": spec.model.revision,
        "data_fingerprint": spec.data_fingerprint,
        "labels": spec.cell.labels,
        "best_of_cell": best.get(spec.cell.cell_id) == spec.trial_id,
        "repeat_of": record.repeat_of,
        "started_at": started["time"] if started else None,
        "ended_at": ended["time"],
        **_cell_values(record),
    }


def _build_history(run: RunRecord) -> Lists:
    """Return the columns of all epochs: trials in the order of the plan, epochs by number."""
    lists: Lists = {name: [] for name, *_ in CELL_COLUMNS}
    rows = array("l")
    for record in run.trials.values():
        own = list(record.epochs.rows())
        _repeat(lists, _cell_values(record), len(own))
        rows.extend(own)
    lists["epoch"] = [run.history.epochs[row] for row in rows]
    lists["decision"] = [run.history.decisions[row] for row in rows]
    index = np.asarray(rows)
    for name, column in run.history.reals.items():
        # NaN marks a missing value.
        lists[name] = pa.array(np.asarray(column)[index], REAL, from_pandas=True)
    lists["ended_at"] = lists["time"]
    return {name: lists[name] for name, *_ in HISTORY_COLUMNS}


def _build_predictions(run: RunRecord, best: dict[str, str]) -> Lists:
    """Return the columns of the test predictions of each cell's best trial and each baseline."""
    lists: Lists = {name: [] for name, *_ in PREDICTION_COLUMNS}
    for trial_id in best.values():
        record = run.trials[trial_id]
        if record.ended is not None:
            values, labels = _cell_values(record), record.spec.cell.labels
            _add_predictions(lists, run, values, labels, record.ended)
    for event in run.baselines.values():
        values = {name: value for name, value in event.items() if name in CELL_NAMES}
        _add_predictions(lists, run, values, event["labels"], event)
    return lists


def _add_predictions(
    lists: Lists, run: RunRecord, values: Row, labels: Sequence[str], result: Result
) -> None:
    predictions = result.get("predictions")
    test_set = run.find_test_set(result) if predictions else None
    if test_set is None or not predictions:
        return
    pairs = zip(test_set["truth"], predictions, strict=True)
    _repeat(lists, values, len(predictions))
    lists["item"] += test_set["items"]
    for truth, predicted in pairs:
        lists["label"].append(labels[truth])
        lists["predicted"].append(labels[predicted])


def _repeat(lists: Lists, values: Row, count: int) -> None:
    for name, value in values.items():
        lists[name] += [value] * count
