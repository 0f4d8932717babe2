"""What a resumed run holds that its configuration, data and weights do not ask for any more."""

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from sweep.storage.record import RunRecord, TrialRecord

LISTED = 10

Spec = Mapping[str, Any]
"""A trial as ``TrialSpec.to_dict()`` gives it."""


@dataclass(frozen=True)
class Stray:
    """A trial that is not in the plan, and what has changed since it was."""

    record: TrialRecord
    reason: str


def list_strays(planned: Iterable[Spec], record: RunRecord) -> list[Stray]:
    """Return the trials of ``record`` that are not among ``planned``, in the order they came."""
    specs = {spec["trial_id"]: spec for spec in planned}
    strays = [trial for trial_id, trial in record.trials.items() if trial_id not in specs]
    if not strays:
        return []
    cells = {_axes(spec): spec for spec in specs.values()}
    return [
        Stray(trial, _find_reason(trial.spec, cells.get(_axes(trial.spec)))) for trial in strays
    ]


def _axes(spec: Spec) -> tuple[Any, ...]:
    cell = spec["cell"]
    return cell["model"], cell["n_labels"], cell["n_samples"], cell["seed"]


def _find_reason(spec: Spec, now: Spec | None) -> str:
    """Return what differs between a trial and one that now stands in the same place of the grid."""
    if now is None:
        return "no longer in the grid"
    if _data(spec) != _data(now):
        return "with other data"
    if spec["model"]["revision"] != now["model"]["revision"]:
        return "with other weights"
    return "with other settings"


def _data(spec: Spec) -> tuple[str, tuple[str, ...]]:
    # The fingerprint counts classes; what they are called is part of the data too.
    return spec["data_fingerprint"], tuple(spec["cell"]["labels"])


def count_reasons(strays: Iterable[Stray]) -> str:
    """Return how many trials each change has left behind, in words: ``8 with other data``."""
    counts = Counter(stray.reason for stray in strays)
    return ", ".join(f"{count} {reason}" for reason, count in counts.most_common())


def describe_strays(planned: Iterable[Spec], record: RunRecord) -> list[str]:
    """Return lines that name the trials of ``record`` that are not among ``planned``; none if all
    are.

    Their rows stay in the tables: they are results, though not of this configuration.
    """
    strays = list_strays(planned, record)
    if not strays:
        return []
    one = len(strays) == 1
    which = "1 trial of this run does" if one else f"{len(strays)} trials of this run do"
    lines = [
        f"{which} not belong to the configuration any more ({count_reasons(strays)}); they are not "
        "run again, and the rows of those that ended stay in the tables, with in_plan false:"
    ]
    lines += [_describe(stray) for stray in strays[:LISTED]]
    if len(strays) > LISTED:
        lines.append(f"  and {len(strays) - LISTED} more")
    return lines


def _describe(stray: Stray) -> str:
    spec, ended = stray.record.spec, stray.record.ended
    cell, candidate = spec["cell"], spec["candidate"]
    status = ended["status"] if ended else "not ended"
    return (
        f"  {spec['trial_id']}  {cell['model']}, {cell['n_labels']} labels x "
        f"{cell['n_samples']} samples, seed {cell['seed']}, rank {candidate['lora_rank']}, "
        f"learning rate {candidate['learning_rate']:.3g}: {status} ({stray.reason})"
    )
