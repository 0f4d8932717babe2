"""A journal, sorted by trial, and kept small: a run may have ten thousand trials."""

from array import array
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from sys import intern
from typing import Any

from sweep.events import Event
from sweep.history import History, TrialEpochs

SHARED_PARTS = ("cell", "candidate", "model", "recipe")
"""Parts of a spec that many trials have alike; each is kept once."""
LONG = 200
"""Texts of more characters than this are not looked for among the known ones."""

Key = tuple[float, ...]


@dataclass(slots=True)
class TrialRecord:
    """All that the journal says of one trial."""

    spec: dict[str, Any]
    epochs: TrialEpochs
    started: Event | None = None
    ended: Event | None = None
    """The result; ``predictions`` only where no trial of the cell was better so far."""
    retries: int = 0

    def settled_epoch(self) -> int:
        """Return the last epoch after which the trial was told to go on, all before it included;
        a trial without a result is taken up again from there."""
        epoch = 0
        while self.epochs.decision_of(epoch + 1) == "continue":
            epoch += 1
        return epoch


@dataclass
class RunRecord:
    """A journal, sorted by trial."""

    opened: list[Event] = field(default_factory=list)
    trials: dict[str, TrialRecord] = field(default_factory=dict)
    history: History = field(default_factory=History)
    test_sets: dict[tuple[str, ...], Event] = field(default_factory=dict)
    baselines: dict[str, Event] = field(default_factory=dict)
    ends: list[str] = field(default_factory=list)
    """Trial ids in the order in which results came; one that ended twice stands here twice."""
    _best: dict[str, str] = field(default_factory=dict)
    _shared: dict[str, dict[str, Any]] = field(default_factory=dict)
    _done: frozenset[str] | None = None

    @property
    def arrivals(self) -> Iterator[tuple[str, int]]:
        """Yield (trial id, epoch) in the order in which the epochs that count came; no clock can
        change it."""
        pairs = zip(self.history.trial_ids, self.history.epochs, strict=True)
        for row, (trial_id, epoch) in enumerate(pairs):
            if self.trials[trial_id].epochs.row_of(epoch) == row:
                yield trial_id, epoch

    def done(self) -> frozenset[str]:
        """Return the ids of the trials that have a result."""
        if self._done is None:
            self._done = frozenset(i for i, record in self.trials.items() if record.ended)
        return self._done


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
        _add_planned(run, event["trial"])
    elif kind == "test_set":
        run.test_sets[tuple(event["labels"])] = event
    elif kind == "baseline":
        run.baselines[event["trial_id"]] = _compact(event)
    elif kind == "reopened" and event["trial_id"] in run.baselines:
        del run.baselines[event["trial_id"]]
    elif kind == "epoch":
        _add_epoch(run, event)
    elif event.get("trial_id") in run.trials:
        _add_trial_event(run, run.trials[event["trial_id"]], event)


def _add_planned(run: RunRecord, spec: dict[str, Any]) -> None:
    if spec["trial_id"] not in run.trials:
        lean = _compact(spec)
        for name in SHARED_PARTS:
            lean[name] = run._shared.setdefault(repr(spec[name]), spec[name])
        run.trials[lean["trial_id"]] = TrialRecord(lean, TrialEpochs(run.history))


def _add_epoch(run: RunRecord, event: Event) -> None:
    """Take an epoch in. One that let its trial go on stands, since ASHA has compared it; one that
    was to be the last, but whose trial has no result, gives way to its repetition."""
    record = run.trials.get(event["trial_id"])
    if record is not None and record.epochs.decision_of(event["epoch"]) != "continue":
        row = run.history.add(record.spec["trial_id"], event)
        record.epochs.put(event["epoch"], row)


def _add_trial_event(run: RunRecord, record: TrialRecord, event: Event) -> None:
    if event["event"] == "started":
        record.started = record.started or _compact(event)
    elif event["event"] == "retried":
        record.retries += 1
    elif event["event"] == "reopened":
        _reopen(run, record)
    elif event["event"] == "ended":
        record.ended = _compact(event)
        run.ends.append(record.spec["trial_id"])
        run._done = None
        _forget_losers(run, record)


def _reopen(run: RunRecord, record: TrialRecord) -> None:
    """Take a trial for one that never ran."""
    record.started = record.ended = run._done = None
    record.epochs.clear()
    cell = record.spec["cell"]["cell_id"]
    if run._best.get(cell) == record.spec["trial_id"]:
        del run._best[cell]


def _forget_losers(run: RunRecord, record: TrialRecord) -> None:
    """Drop the predictions that will not stand for the cell: only its best trial's are shown."""
    cell, trial_id = record.spec["cell"]["cell_id"], record.spec["trial_id"]
    other = run._best.get(cell, trial_id)
    rival = run.trials[other]
    key, bar = rank_trial(record), rank_trial(rival)
    if key is not None and (other == trial_id or bar is None or key < bar):
        run._best[cell] = trial_id
        loser = rival if other != trial_id else None
    else:
        loser = record
    if loser is not None and loser.ended:
        loser.ended.pop("predictions", None)


def rank_trial(record: TrialRecord) -> Key | None:
    """Return what orders the trials of a cell, the best first; None for one that cannot stand for
    it. The highest validation accuracy of the finished ones leads; among equals the lower
    validation loss, then the lower candidate index."""
    ended = record.ended
    if not ended or ended["status"] != "finished":
        return None
    loss = ended.get("val_loss")
    index = record.spec["candidate"]["index"]
    return (-ended["val_accuracy"], float("inf") if loss is None else loss, index)


def choose_best(run: RunRecord) -> dict[str, str]:
    """Return cell id -> id of the trial that stands for it (see ``rank_trial``)."""
    best: dict[str, tuple[Key, str]] = {}
    for trial_id, record in run.trials.items():
        key = rank_trial(record)
        if key is not None:
            cell = record.spec["cell"]["cell_id"]
            if cell not in best or key < best[cell][0]:
                best[cell] = (key, trial_id)
    return {cell: trial_id for cell, (_, trial_id) in best.items()}


def _compact(tree: dict[str, Any]) -> dict[str, Any]:
    """Return ``tree`` with its keys and short texts shared and its predictions packed."""
    lean = {
        intern(key): intern(value) if type(value) is str and len(value) < LONG else value
        for key, value in tree.items()
    }
    if "predictions" in lean:
        lean["predictions"] = array("i", lean["predictions"])
    return lean
