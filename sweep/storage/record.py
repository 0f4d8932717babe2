"""A journal, sorted by trial, and kept small: a run may have ten thousand trials."""

from array import array
from collections.abc import Iterable, Iterator, Sequence, Set
from dataclasses import dataclass, field
from sys import intern
from typing import Any

from sweep.storage.events import Event
from sweep.storage.history import History, TrialEpochs
from sweep.storage.unmarked import Source, match_test_sets

SHARED_PARTS = ("cell", "candidate", "model", "recipe")
"""Parts of a spec that many trials have alike; each is kept once."""
LONG = 200
"""Texts of more characters than this are not looked for among the known ones."""

RETRIED = ("failed", "oom")
"""Statuses that a second try, with other means, may change."""

Key = tuple[float, ...]


@dataclass(slots=True)
class TrialRecord:
    """All that the journal says of one trial."""

    spec: dict[str, Any]
    epochs: TrialEpochs
    started: Event | None = None
    ended: Event | None = None
    """The result; its ``predictions`` in as few bytes as they take."""
    retries: int = 0

    def has_failed(self) -> bool:
        """Return whether the trial ended in a way that ``--retry-failed`` runs anew."""
        return self.ended is not None and self.ended["status"] in RETRIED

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
    test_sets: dict[str, Event] = field(default_factory=dict)
    """Fingerprint -> the test items; those without one by their labels."""
    plan: Set[str] | None = None
    """Ids of the trials that the present configuration asks for; None: the journal says nothing of
    it, and all count but those whose place in the grid other data or weights took over later."""
    baselines: dict[str, Event] = field(default_factory=dict)
    ends: list[str] = field(default_factory=list)
    """Trial ids in the order in which results came; one that ended twice stands here twice."""
    _newest: dict[tuple[Any, ...], tuple[Any, ...]] = field(default_factory=dict)
    """Axes -> data and weights of the cell that was planned there last."""
    _shared: dict[str, dict[str, Any]] = field(default_factory=dict)
    _done: frozenset[str] | None = None
    _matched: dict[Source, Event] | None = None
    """The test sets of results that name none, by their data."""

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

    def is_planned(self, trial_id: str) -> bool:
        """Return whether the present configuration asks for the trial."""
        if self.plan is not None:
            return trial_id in self.plan
        spec = self.trials[trial_id].spec
        return self._newest[_axes(spec["cell"])] == _content(spec)

    def planned_baselines(self) -> Set[str]:
        """Return the ids of the baselines that the present configuration asks for; one that names
        no data is among them."""
        names = self.opened[-1].get("baselines") if self.opened else None
        specs = [record.spec for record in self.planned().values()]
        asked = {(spec["data_fingerprint"], *spec["cell"]["labels"]) for spec in specs}
        return {
            trial_id
            for trial_id, event in self.baselines.items()
            if (names is None or event["model"] in names)
            and (
                "data_fingerprint" not in event
                or (event["data_fingerprint"], *event["labels"]) in asked
            )
        }

    def planned(self) -> dict[str, TrialRecord]:
        """Return the trials that the present configuration asks for, by id."""
        return {i: record for i, record in self.trials.items() if self.is_planned(i)}

    def find_test_set(self, result: Event) -> Event | None:
        """Return the test items that the predictions of ``result`` are of, in their order; None:
        they are not known. A result in an older journal names no test set; see ``unmarked``."""
        if result.get("test_set") is not None:
            return self.test_sets.get(result["test_set"])
        if self._matched is None:
            self._matched = match_test_sets(self.test_sets.values(), self._list_unmarked())
        return self._matched.get(self._source_of(result))

    def _list_unmarked(self) -> dict[Source, list[Event]]:
        """Return the results with predictions that name no test set, by their data."""
        found: dict[Source, list[Event]] = {}
        ends = [record.ended for record in self.trials.values() if record.ended]
        for result in (*ends, *self.baselines.values()):
            if result.get("predictions") is not None and result.get("test_set") is None:
                found.setdefault(self._source_of(result), []).append(result)
        return found

    def _source_of(self, result: Event) -> Source:
        record = self.trials.get(result["trial_id"])
        if record is None:
            return (result.get("data_fingerprint"), *result["labels"])
        return (record.spec["data_fingerprint"], *record.spec["cell"]["labels"])


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
    elif kind == "replanned":
        run.plan = frozenset(event["trials"])
    elif kind == "test_set":
        key = event.get("fingerprint") or _name_unmarked(event["labels"])
        run.test_sets.setdefault(key, event)
        run._matched = None
    elif kind == "baseline":
        run.baselines[event["trial_id"]] = _compact(event)
    elif kind == "reopened" and event["trial_id"] in run.baselines:
        del run.baselines[event["trial_id"]]
    elif kind == "epoch":
        _add_epoch(run, event)
    elif event.get("trial_id") in run.trials:
        _add_trial_event(run, run.trials[event["trial_id"]], event)


def _add_planned(run: RunRecord, spec: dict[str, Any]) -> None:
    lean = _compact(spec)
    for name in SHARED_PARTS:
        lean[name] = run._shared.setdefault(repr(spec[name]), spec[name])
    run._newest[_axes(lean["cell"])] = _content(lean)
    known = run.trials.get(lean["trial_id"])
    if known is None:
        run.trials[lean["trial_id"]] = TrialRecord(lean, TrialEpochs(run.history))
    else:
        known.spec = lean


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


def _reopen(run: RunRecord, record: TrialRecord) -> None:
    """Take a trial for one that never ran."""
    record.started = record.ended = run._done = None
    record.epochs.clear()


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
    """Return cell id -> id of the trial that stands for it (see ``rank_trial``).

    A trial of the present plan goes before one that the configuration asked for earlier.
    """
    best: dict[str, tuple[bool, Key, str]] = {}
    for trial_id, record in run.trials.items():
        key = rank_trial(record)
        if key is not None:
            cell = record.spec["cell"]["cell_id"]
            rank = (not run.is_planned(trial_id), key, trial_id)
            best[cell] = min(best.get(cell, rank), rank)
    return {cell: trial_id for cell, (*_, trial_id) in best.items()}


def choose_planned(run: RunRecord) -> dict[str, str]:
    """Return ``choose_best`` for the cells of the present plan alone."""
    return {cell: i for cell, i in choose_best(run).items() if run.is_planned(i)}


def _axes(cell: dict[str, Any]) -> tuple[Any, ...]:
    return cell["model"], cell["n_labels"], cell["n_samples"], cell["seed"]


def _content(spec: dict[str, Any]) -> tuple[Any, ...]:
    """Return what, beside its axes, makes a trial's cell: its data and its model's weights."""
    model = spec["model"]
    weights = (
        model["revision"],
        *(str(model.get(n)) for n in ("target_modules", "trust_remote_code")),
    )
    return (spec["data_fingerprint"], *spec["cell"]["labels"], *weights)


def _name_unmarked(labels: Sequence[str]) -> str:
    """Return the key of a test set without a fingerprint, which no fingerprint equals."""
    return "\t".join(["", *labels])


def _compact(tree: dict[str, Any]) -> dict[str, Any]:
    """Return ``tree`` with its keys and short texts shared and its predictions packed."""
    lean = {
        intern(key): intern(value) if type(value) is str and len(value) < LONG else value
        for key, value in tree.items()
    }
    if "predictions" in lean:
        values = lean["predictions"]
        lean["predictions"] = array("B" if max(values, default=0) < 256 else "i", values)
    return lean
