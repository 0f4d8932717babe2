"""The Parquet tables of a run, made from its journal at any time."""

import json
import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from sweep.journal import Event, read_events

RESULTS_NAME = "results.parquet"
HISTORY_NAME = "history.parquet"
PREDICTIONS_NAME = "predictions.parquet"

Column = tuple[str, pa.DataType, str, str]
"""Name, type, unit ('' where there is none) and description."""

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
    ("labels", pa.list_(TEXT), "", "names of the label set, in class order"),
    ("candidate", WHOLE, "", "index of the candidate in the sweep's list"),
    ("lora_rank", WHOLE, "", "rank of the LoRA adapter"),
    ("lora_alpha", REAL, "", "LoRA's alpha; the adapter's output is scaled by alpha / rank"),
    ("lora_dropout", REAL, "", "dropout before the adapter"),
    ("learning_rate", REAL, "", "peak learning rate of AdamW"),
    ("weight_decay", REAL, "", "decoupled weight decay"),
    ("batch_size", WHOLE, "texts", "training texts per optimiser step"),
    ("max_length", WHOLE, "tokens", "longer texts are cut to this many tokens"),
    ("max_epochs", WHOLE, "epochs", "epochs of the learning-rate schedule"),
    ("status", TEXT, "", "finished, stopped (by ASHA), diverged, oom or failed"),
    ("error", TEXT, "", "why the trial failed; null where it did not"),
    ("best_of_cell", FLAG, "", "whether validation chose this trial to stand for its cell"),
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
    ("trainable_parameters", WHOLE, "", "parameters of adapter and head"),
    ("total_parameters", WHOLE, "", "parameters of base model, adapter and head"),
    ("device", TEXT, "", "processor that trained"),
    ("dtype", TEXT, "", "number format of the base model"),
    ("host", TEXT, "", "machine that trained"),
    ("model_path", TEXT, "", "Hub id, folder or family of the base model"),
    ("model_revision", TEXT, "", "commit of the base model, or a hash of its files"),
    ("data_fingerprint", TEXT, "", "hash of the cell's training, validation and test texts"),
    ("versions", TEXT, "", "JSON object: release of each package that matters"),
    ("git_commit", TEXT, "", "commit of the working copy; null outside one"),
    ("started_at", REAL, "s", "Unix time at which a worker took the trial"),
    ("ended_at", REAL, "s", "Unix time at which the result was written down"),
]
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
    ("cutoff", REAL, "fraction", "best validation accuracy so far that the rung asked for"),
    ("ended_at", REAL, "s", "Unix time at which the epoch was written down"),
]
PREDICTION_COLUMNS: list[Column] = [
    *CELL_COLUMNS,
    ("item", WHOLE, "", "row number of the text in the test split, counted from 0"),
    ("label", TEXT, "", "true label"),
    ("predicted", TEXT, "", "label predicted by the trial that stands for the cell"),
]


@dataclass
class TrialRecord:
    """All that the journal says of one trial."""

    spec: dict[str, Any]
    started: Event | None = None
    epochs: dict[int, Event] = field(default_factory=dict)
    ended: Event | None = None
    retries: int = 0

    def settled_epoch(self) -> int:
        """Return the last epoch after which the trial was told to go on, all before it included;
        a trial without a result is taken up again from there."""
        epoch = 0
        while self.epochs.get(epoch + 1, {}).get("decision") == "continue":
            epoch += 1
        return epoch


@dataclass
class RunRecord:
    """A journal, sorted by trial."""

    opened: list[Event] = field(default_factory=list)
    trials: dict[str, TrialRecord] = field(default_factory=dict)
    arrivals: dict[tuple[str, int], None] = field(default_factory=dict)
    """(trial id, epoch) of the epochs that count, in the order of their arrival."""
    test_sets: dict[tuple[str, ...], Event] = field(default_factory=dict)
    baselines: dict[str, Event] = field(default_factory=dict)

    def done(self) -> frozenset[str]:
        """Return the ids of the trials that have a result."""
        return frozenset(i for i, record in self.trials.items() if record.ended)


def sort_events(events: Iterable[Event]) -> RunRecord:
    """Return the record that ``events`` add up to."""
    run = RunRecord()
    for event in events:
        add_event(run, event)
    return run


def add_event(run: RunRecord, event: Event) -> None:
    """Take one more event into ``run``."""
    kind = event["event"]
    if kind == "opened":
        run.opened.append(event)
    elif kind == "planned":
        spec = event["trial"]
        run.trials.setdefault(spec["trial_id"], TrialRecord(spec))
    elif kind == "test_set":
        run.test_sets[tuple(event["labels"])] = event
    elif kind == "baseline":
        run.baselines[event["trial_id"]] = event
    elif kind == "epoch":
        _add_epoch(run, event)
    elif event.get("trial_id") in run.trials:
        _add_trial_event(run.trials[event["trial_id"]], event)


def _add_epoch(run: RunRecord, event: Event) -> None:
    """Take an epoch in. One that let its trial go on stands, since ASHA has compared it; one that
    was to be the last, but whose trial has no result, gives way to its repetition."""
    trial_id, epoch = event["trial_id"], event["epoch"]
    record = run.trials.get(trial_id)
    if record is None or record.epochs.get(epoch, {}).get("decision") == "continue":
        return
    record.epochs[epoch] = event
    run.arrivals.pop((trial_id, epoch), None)
    run.arrivals[trial_id, epoch] = None


def _add_trial_event(record: TrialRecord, event: Event) -> None:
    if event["event"] == "started":
        record.started = record.started or event
    elif event["event"] == "retried":
        record.retries += 1
    elif event["event"] == "reopened":
        record.started = record.ended = None
        record.epochs.clear()
    elif event["event"] == "ended":
        record.ended = event


def choose_best(run: RunRecord) -> dict[str, str]:
    """Return cell id -> id of the trial that stands for it: the finished one with the highest
    validation accuracy; among equals the lower validation loss, then the lower candidate index."""
    best: dict[str, tuple[tuple[float, ...], str]] = {}
    for trial_id, record in run.trials.items():
        if record.ended and record.ended["status"] == "finished":
            loss = record.ended.get("val_loss")
            key = (
                -record.ended["val_accuracy"],
                float("inf") if loss is None else loss,
                record.spec["candidate"]["index"],
            )
            cell = record.spec["cell"]["cell_id"]
            if cell not in best or key < best[cell][0]:
                best[cell] = (key, trial_id)
    return {cell: trial_id for cell, (_, trial_id) in best.items()}


def write_tables(folder: Path, run: RunRecord | None = None) -> None:
    """Write the three tables of ``folder``; a reader always finds either the old or the new."""
    run = run or sort_events(read_events(folder))
    best = choose_best(run)
    write_table(folder / RESULTS_NAME, RESULT_COLUMNS, list(_result_rows(run, best)))
    write_table(folder / HISTORY_NAME, HISTORY_COLUMNS, list(_history_rows(run)))
    write_table(folder / PREDICTIONS_NAME, PREDICTION_COLUMNS, list(_prediction_rows(run, best)))


def write_table(path: Path, columns: list[Column], rows: list[dict[str, Any]]) -> None:
    """Write ``rows`` beside ``path`` and rename the file into place."""
    schema = pa.schema(
        [
            pa.field(name, kind, metadata={"unit": unit, "description": text})
            for name, kind, unit, text in columns
        ]
    )
    table = pa.Table.from_pylist(rows, schema=schema)
    beside = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        with beside.open("wb") as file:
            pq.write_table(table, file, compression="zstd")
            file.flush()
            os.fsync(file.fileno())
        beside.replace(path)
    finally:
        beside.unlink(missing_ok=True)


def _cell_values(record: TrialRecord) -> dict[str, Any]:
    cell = record.spec["cell"]
    names = ("cell_id", "model", "n_labels", "n_samples", "seed")
    return {"trial_id": record.spec["trial_id"], **{name: cell[name] for name in names}}


def _result_rows(run: RunRecord, best: dict[str, str]) -> Iterator[dict[str, Any]]:
    opened = run.opened[-1] if run.opened else {}
    known = {name for name, *_ in RESULT_COLUMNS}
    for trial_id, record in run.trials.items():
        if record.ended is None:
            continue
        spec, started = record.spec, record.started or {}
        values: dict[str, Any] = {
            "kind": "model",
            "candidate": spec["candidate"]["index"],
            "model_path": spec["model"]["path"],
            "model_revision": spec["model"]["revision"],
            "data_fingerprint": spec["data_fingerprint"],
            "labels": spec["cell"]["labels"],
            "best_of_cell": best.get(spec["cell"]["cell_id"]) == trial_id,
            "versions": json.dumps(opened.get("versions", {})),
            "git_commit": opened.get("git_commit"),
            "started_at": started.get("time"),
            "ended_at": record.ended["time"],
        }
        sources = (spec["recipe"], spec["candidate"], started, record.ended)
        merged = {key: value for source in sources for key, value in source.items() if key in known}
        yield {**merged, **values, **_cell_values(record)}
    for event in run.baselines.values():
        row = {key: value for key, value in event.items() if key in known}
        shared = {"kind": "baseline", "status": "finished", "best_of_cell": True}
        yield {**row, **shared, "ended_at": event["time"]}


def _history_rows(run: RunRecord) -> Iterator[dict[str, Any]]:
    for record in run.trials.values():
        for _, event in sorted(record.epochs.items()):
            yield {**event, **_cell_values(record), "ended_at": event["time"]}


def _prediction_rows(run: RunRecord, best: dict[str, str]) -> Iterator[dict[str, Any]]:
    for trial_id in best.values():
        record = run.trials[trial_id]
        labels = record.spec["cell"]["labels"]
        predictions = (record.ended or {}).get("predictions", [])
        yield from _list_predictions(run, _cell_values(record), labels, predictions)
    cell_names = [name for name, *_ in CELL_COLUMNS]
    for event in run.baselines.values():
        values = {name: event[name] for name in cell_names}
        yield from _list_predictions(run, values, event["labels"], event["predictions"])


def _list_predictions(
    run: RunRecord, values: dict[str, Any], labels: list[str], predictions: list[int]
) -> Iterator[dict[str, Any]]:
    test_set = run.test_sets.get(tuple(labels))
    if test_set is None:
        return
    for item, truth, predicted in zip(
        test_set["items"], test_set["truth"], predictions, strict=True
    ):
        yield {**values, "item": item, "label": labels[truth], "predicted": labels[predicted]}
