"""A journal sorted by trial, kept small in memory: a run may have ten thousand trials."""

from array import array
from collections.abc import Iterable, Iterator, Sequence, Set
from dataclasses import dataclass, field, replace
from sys import intern
from typing import Any, TypeVar, cast

from sweep.plan import CellKey, TrialSpec
from sweep.storage.events import (
    Baseline,
    Decision,
    Ended,
    EpochDone,
    Event,
    Opened,
    Result,
    Retried,
    Served,
    Started,
    TestSet,
    TrialStatus,
)
from sweep.storage.forecast import Forecast, PaceForecast
from sweep.storage.history import History, TrialEpochs
from sweep.storage.unmarked import Source, match_test_sets

# Texts with more characters than this are not interned.
LONG = 200
# Statuses that a second try under other conditions may change.
RETRIED = (TrialStatus.FAILED, TrialStatus.OUT_OF_MEMORY)

Key = tuple[float, ...]
AnyEvent = TypeVar("AnyEvent", Started, Ended, Baseline)


@dataclass(slots=True)
class TrialRecord:
    """Everything the journal says about one trial."""

    spec: TrialSpec
    epochs: TrialEpochs
    started: Started | None = None
    ended: Ended | None = None
    """The result; its ``predictions`` are packed into as few bytes as possible."""
    retries: int = 0
    repeat_of: str | None = None
    """The tuned trial whose candidate this one trains again with another seed; None: it is tuned
    itself."""

    def has_failed(self) -> bool:
        """Return whether the trial ended in a way that ``--retry-failed`` runs again."""
        return self.ended is not None and self.ended["status"] in RETRIED

    def last_confirmed_epoch(self) -> int:
        """Return the last epoch after which, as after all before it, ASHA let the trial continue;
        a trial without a result resumes from there."""
        epoch = 0
        while self.epochs.decision_of(epoch + 1) == Decision.CONTINUE:
            epoch += 1
        return epoch


@dataclass
class RunRecord:
    """A journal sorted by trial."""

    opened: list[Opened] = field(default_factory=list)
    trials: dict[str, TrialRecord] = field(default_factory=dict)
    history: History = field(default_factory=History)
    test_sets: dict[str, TestSet] = field(default_factory=dict)
    """Fingerprint -> test items; those without a fingerprint are keyed by their labels."""
    plan: Set[str] | None = None
    """Ids of the trials that the current configuration plans. None if the journal does not say:
    then all count but those whose position in the grid was later taken by other data or weights."""
    baselines: dict[str, Baseline] = field(default_factory=dict)
    served: dict[str, Served] = field(default_factory=dict)
    """Trial id -> what was measured of it in use."""
    ends: list[str] = field(default_factory=list)
    """Trial ids in the order of their results; a trial that ended twice is listed twice."""
    _newest: dict[CellKey, tuple[Any, ...]] = field(default_factory=dict)
    """Axes -> data and weights of the cell that was planned there last."""
    _shared: dict[Any, Any] = field(default_factory=dict)
    """Parts of specs that many trials have in common; each is kept once."""
    _done: frozenset[str] | None = None
    _matched: dict[Source, TestSet] | None = None
    """The test sets of results that name none, keyed by their data."""

    @property
    def arrivals(self) -> Iterator[tuple[str, int]]:
        """Yield (trial id, epoch) of the epochs that count, in the order of the journal, whatever
        the clock said."""
        pairs = zip(self.history.trial_ids, self.history.epochs, strict=True)
        for row, (trial_id, epoch) in enumerate(pairs):
            if self.trials[trial_id].epochs.row_of(epoch) == row:
                yield trial_id, epoch

    @property
    def newest_opened(self) -> Opened | None:
        """The newest driver's first event; None before the first driver."""
        return self.opened[-1] if self.opened else None

    def list_forecasts(self) -> list[tuple[Forecast, PaceForecast]]:
        """Return what each driver's preflight expected, oldest first; empty forecasts for those
        that the journal does not give."""
        return [
            (event.get("predicted") or Forecast(), event.get("pace") or PaceForecast())
            for event in self.opened
        ]

    def done(self) -> frozenset[str]:
        """Return the ids of the trials that have a result."""
        if self._done is None:
            self._done = frozenset(i for i, record in self.trials.items() if record.ended)
        return self._done

    def is_planned(self, trial_id: str) -> bool:
        """Return whether the trial is in the current configuration's plan."""
        if self.plan is not None:
            return trial_id in self.plan
        spec = self.trials[trial_id].spec
        return self._newest[spec.cell.axes] == _content(spec)

    def planned_baselines(self) -> Set[str]:
        """Return the ids of the baselines that the current configuration requests; one that names
        no data is among them."""
        names = self.newest_opened.get("baselines") if self.newest_opened else None
        specs = [record.spec for record in self.planned().values()]
        asked = {(spec.data_fingerprint, *spec.cell.labels) for spec in specs}
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
        """Return the trials in the current configuration's plan, by id."""
        return {i: record for i, record in self.trials.items() if self.is_planned(i)}

    def find_test_set(self, result: Result) -> TestSet | None:
        """Return the test items that ``result`` predicts, in the order of its predictions; None if
        they are unknown. A result in an older journal names no test set; see ``unmarked``."""
        fingerprint = result.get("test_set")
        if fingerprint is not None:
            return self.test_sets.get(fingerprint)
        if self._matched is None:
            self._matched = match_test_sets(self.test_sets.values(), self._group_unmarked())
        return self._matched.get(self._source_of(result))

    def _group_unmarked(self) -> dict[Source, list[Result]]:
        """Return the results with predictions that name no test set, by their data."""
        found: dict[Source, list[Result]] = {}
        ends: list[Result] = [record.ended for record in self.trials.values() if record.ended]
        for result in [*ends, *self.baselines.values()]:
            if result.get("predictions") is not None and result.get("test_set") is None:
                found.setdefault(self._source_of(result), []).append(result)
        return found

    def _source_of(self, result: Result) -> Source:
        if result["event"] == "baseline":
            return (result.get("data_fingerprint"), *result["labels"])
        spec = self.trials[result["trial_id"]].spec
        return (spec.data_fingerprint, *spec.cell.labels)


def replay(events: Iterable[Event]) -> RunRecord:
    """Return the record that ``events`` add up to."""
    run = RunRecord()
    for event in events:
        apply(run, event)
    return run


def apply(run: RunRecord, event: Event) -> None:
    """Update ``run`` with one more event."""
    if event["event"] == "opened":
        run.opened.append(event)
    elif event["event"] == "planned":
        _add_planned(run, event["trial"], event.get("repeat_of"))
    elif event["event"] == "replanned":
        run.plan = frozenset(event["trials"])
    elif event["event"] == "test_set":
        key = event.get("fingerprint") or _name_unmarked(event["labels"])
        run.test_sets.setdefault(key, event)
        run._matched = None
    elif event["event"] == "baseline":
        run.baselines[event["trial_id"]] = _compact(event)
    elif event["event"] == "served":
        run.served[event["trial_id"]] = event
    elif event["event"] == "reopened":
        run.served.pop(event["trial_id"], None)
        if run.baselines.pop(event["trial_id"], None) is None:
            _reopen(run, run.trials.get(event["trial_id"]))
    elif event["event"] == "epoch":
        _add_epoch(run, event)
    elif event["event"] in ("started", "retried", "ended"):
        record = run.trials.get(event["trial_id"])
        if record is not None:
            _add_trial_event(run, record, event)


def _add_planned(run: RunRecord, spec: TrialSpec, repeat_of: str | None) -> None:
    lean = replace(
        spec,
        trial_id=intern(spec.trial_id),
        cell=run._shared.setdefault(spec.cell, spec.cell),
        candidate=run._shared.setdefault(spec.candidate, spec.candidate),
        model=run._shared.setdefault(spec.model, spec.model),
        recipe=run._shared.setdefault(spec.recipe, spec.recipe),
        data_fingerprint=intern(spec.data_fingerprint),
    )
    run._newest[lean.cell.axes] = _content(lean)
    known = run.trials.get(lean.trial_id)
    if known is None:
        known = run.trials[lean.trial_id] = TrialRecord(lean, TrialEpochs(run.history))
    known.spec = lean
    known.repeat_of = intern(repeat_of) if repeat_of else None
    if repeat_of and run.plan is not None:
        run.plan = run.plan | {lean.trial_id}


def _add_epoch(run: RunRecord, event: EpochDone) -> None:
    """Add an epoch. One after which its trial continued stays, since ASHA has compared it; one that
    should have been the last, but whose trial has no result, is replaced by its repetition."""
    record = run.trials.get(event["trial_id"])
    if record is not None and record.epochs.decision_of(event["epoch"]) != Decision.CONTINUE:
        row = run.history.add(record.spec.trial_id, event)
        record.epochs.put(event["epoch"], row)


def _add_trial_event(run: RunRecord, record: TrialRecord, event: Started | Retried | Ended) -> None:
    if event["event"] == "started":
        record.started = record.started or _compact(event)
    elif event["event"] == "retried":
        record.retries += 1
    elif event["event"] == "ended":
        record.ended = _compact(event)
        run.ends.append(record.spec.trial_id)
        run._done = None


def _reopen(run: RunRecord, record: TrialRecord | None) -> None:
    """Reset a trial to one that never ran."""
    if record is not None:
        record.started = record.ended = run._done = None
        record.epochs.clear()


def rank_trial(record: TrialRecord) -> Key | None:
    """Return the sort key of a trial in its cell, the best first; None if it is not finished. The
    highest validation accuracy comes first, then the lower validation loss, then the lower
    candidate index."""
    ended = record.ended
    if not ended or ended["status"] != TrialStatus.FINISHED:
        return None
    loss = ended.get("val_loss")
    accuracy = ended["val_accuracy"] or 0.0
    index = record.spec.candidate.index
    return (-accuracy, float("inf") if loss is None else loss, index)


def choose_best(run: RunRecord) -> dict[str, str]:
    """Return cell id -> id of its best trial (see ``rank_trial``).

    A trial of the current plan takes precedence over one of an earlier plan.
    """
    best: dict[str, tuple[bool, Key, str]] = {}
    for trial_id, record in run.trials.items():
        key = rank_trial(record)
        if key is not None:
            cell = record.spec.cell.cell_id
            rank = (not run.is_planned(trial_id), key, trial_id)
            best[cell] = min(best.get(cell, rank), rank)
    return {cell: trial_id for cell, (*_, trial_id) in best.items()}


def choose_planned(run: RunRecord) -> dict[str, str]:
    """Return ``choose_best`` for the cells of the current plan alone."""
    return {cell: i for cell, i in choose_best(run).items() if run.is_planned(i)}


def _content(spec: TrialSpec) -> tuple[Any, ...]:
    """Return what identifies a trial's cell besides its axes: its data and its model's weights."""
    model = spec.model
    weights = (model.revision, model.target_modules, model.trust_remote_code)
    return (spec.data_fingerprint, *spec.cell.labels, *weights)


def _name_unmarked(labels: Sequence[str]) -> str:
    """Return the key of a test set without a fingerprint; no fingerprint equals it."""
    return "\t".join(["", *labels])


def _compact(event: AnyEvent) -> AnyEvent:
    """Return ``event`` with its keys and short texts interned and its predictions packed."""
    lean: dict[str, Any] = {
        intern(key): intern(value) if type(value) is str and len(value) < LONG else value
        for key, value in event.items()
    }
    if lean.get("predictions") is not None:
        values = lean["predictions"]
        lean["predictions"] = array("B" if max(values, default=0) < 256 else "i", values)
    return cast(AnyEvent, lean)
