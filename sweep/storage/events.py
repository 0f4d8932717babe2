"""The journal's events, checked as they are read: what every later step relies on."""

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from sweep.errors import RunFolderError, format_names, format_value
from sweep.storage.fields import FIELDS, ID, REQUIRED, SPEC, TEXT, Check

Event = dict[str, Any]

FAILED = "failed"
"""Status of a baseline that has an error and no scores."""
FINISHED = ("val_accuracy",)
"""What the result of a finished trial cannot do without: its cell's choice rests on it."""


class EventReader:
    """Reads the lines of one journal, and knows from the earlier ones what a later one may say."""

    def __init__(self, path: Path) -> None:
        """Read lines of ``path``, which errors name."""
        self._path = path
        self._labels: dict[str, tuple[str, ...]] = {}
        self._cells: dict[str, tuple[Any, ...]] = {}
        self._sizes: dict[str, int] = {}

    def read(self, line: bytes, number: int) -> Event:
        """Return the event on ``line``, the journal's line ``number`` (from 1).

        Raises RunFolderError that says what is wrong with it and what to do.
        """
        try:
            event = json.loads(line)
            if b"\\ud" in line or b"\\uD" in line:
                event = _mend_halves(event)
            problem = self._find_problem(event)
        except RecursionError:
            problem = "it nests too deep"
        except ValueError:
            problem = "it is not JSON"
        if problem:
            raise RunFolderError(
                f"{self._path}: line {number} is damaged ({problem}); restore the file from a "
                "copy, or delete that line to run its trial again"
            )
        return event  # type: ignore[no-any-return]

    def _find_problem(self, event: Any) -> str:
        """Return what is wrong with ``event``; empty if nothing is."""
        if type(event) is not dict or type(event.get("event")) is not str:
            return "it is not an event"
        kind = event["event"]
        problem = find_missing(event, ("time", *REQUIRED.get(kind, ())))
        problem = problem or find_misfit(event, FIELDS)
        related = self._relations.get(kind)
        return problem or (related(self, event) if related else "")

    def _check_planned(self, event: Event) -> str:
        spec = event["trial"]
        problem = find_spec_problem(spec)
        if problem:
            return problem
        cell = spec["cell"]
        labels = tuple(cell["labels"])
        # Not the model's name: it may change from one session to the next.
        axes = labels, cell["n_samples"], cell["seed"]
        if len(labels) != cell["n_labels"]:
            return "'n_labels' does not count 'labels'"
        if self._cells.setdefault(cell["cell_id"], axes) != axes:
            return "an earlier line says otherwise of its cell"
        self._labels.setdefault(spec["trial_id"], labels)
        return ""

    def _check_test_set(self, event: Event) -> str:
        labels = tuple(event["labels"])
        if len(event["items"]) != len(event["truth"]):
            return "'items' and 'truth' differ in length"
        fingerprint = event.get("fingerprint")
        if fingerprint and self._sizes.setdefault(fingerprint, len(event["truth"])) != len(
            event["truth"]
        ):
            return "an earlier line says otherwise of this test set"
        return _check_range(labels, event["truth"])

    def _check_baseline(self, event: Event) -> str:
        if len(event["labels"]) != event["n_labels"]:
            return "'n_labels' does not count 'labels'"
        if event.get("status") == FAILED:
            return find_missing(event, ("error",))
        problem = find_missing(event, ("predictions",))
        return problem or self._check_predictions(tuple(event["labels"]), event)

    def _check_ended(self, event: Event) -> str:
        if event["status"] == "finished":
            problem = find_missing(event, FINISHED)
            if problem:
                return problem
        labels = self._labels.get(event["trial_id"])
        if labels is None or event.get("predictions") is None:
            return ""
        return self._check_predictions(labels, event)

    def _check_predictions(self, labels: tuple[str, ...], event: Event) -> str:
        """Check predicted classes: of known labels, as many as their test set has texts."""
        fingerprint, predictions = event.get("test_set"), event["predictions"]
        if fingerprint is not None:
            if fingerprint not in self._sizes:
                return "no earlier line holds its test set"
            if self._sizes[fingerprint] != len(predictions):
                return "its test set has another number of texts"
        return _check_range(labels, predictions)

    _relations: Mapping[str, Callable[["EventReader", Event], str]] = {
        "planned": _check_planned,
        "test_set": _check_test_set,
        "baseline": _check_baseline,
        "ended": _check_ended,
    }


def _check_range(labels: tuple[str, ...], classes: list[int]) -> str:
    return "a class is out of range" if classes and max(classes) >= len(labels) else ""


def find_missing(tree: Mapping[str, Any], names: tuple[str, ...]) -> str:
    """Return which of ``names`` is not in ``tree``, or null there; empty if none is."""
    for name in names:
        if tree.get(name) is None:
            return f"{name!r} is missing"
    return ""


def find_misfit(tree: Mapping[str, Any], checks: Mapping[str, Check]) -> str:
    """Return which field of ``tree`` is not what its check asks for; empty if none is."""
    for name, value in tree.items():
        check = checks.get(name)
        if check is not None and value is not None and not check.test(value):
            return f"{format_names([name])!r} is not {check.words}: {format_value(value)}"
    return ""


def find_spec_problem(spec: Any) -> str:
    """Return what keeps ``spec`` from being a trial's; empty if nothing does."""
    if type(spec) is not dict:
        return "'trial' is not an object"
    problem = find_missing(spec, ("trial_id", "data_fingerprint", *SPEC))
    problem = problem or find_misfit(spec, {"trial_id": ID, "data_fingerprint": TEXT})
    for part, checks in SPEC.items():
        if not problem and type(spec[part]) is not dict:
            problem = f"{part!r} is not an object"
        problem = problem or find_missing(spec[part], tuple(checks))
        problem = problem or find_misfit(spec[part], checks)
    return problem


def _mend_halves(value: Any) -> Any:
    """Return ``value`` with half characters, which no table takes, written out: ``\\ud800``."""
    if isinstance(value, str):
        return value.encode("utf-8", "backslashreplace").decode()
    if isinstance(value, list):
        return [_mend_halves(item) for item in value]
    if isinstance(value, dict):
        return {_mend_halves(key): _mend_halves(item) for key, item in value.items()}
    return value
