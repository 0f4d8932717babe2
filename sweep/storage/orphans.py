"""The trials of a resumed run that no longer follow from its configuration, data and weights."""

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass

from sweep.plan import TrialSpec, format_cell
from sweep.storage.record import RunRecord, TrialRecord

# Orphaned trials that are listed one by one.
MAX_LISTED = 10


@dataclass(frozen=True)
class OrphanedTrial:
    """A trial that is no longer in the plan, and what changed since it was."""

    record: TrialRecord
    reason: str


def list_orphaned_trials(planned: Iterable[TrialSpec], record: RunRecord) -> list[OrphanedTrial]:
    """Return the trials of ``record`` that are not among ``planned``, in the journal's order."""
    specs = {spec.trial_id: spec for spec in planned}
    orphans = [trial for trial_id, trial in record.trials.items() if trial_id not in specs]
    if not orphans:
        return []
    cells = {spec.cell.axes: spec for spec in specs.values()}
    return [
        OrphanedTrial(trial, _find_reason(trial.spec, cells.get(trial.spec.cell.axes)))
        for trial in orphans
    ]


def _find_reason(spec: TrialSpec, now: TrialSpec | None) -> str:
    """Return what differs between a trial and the one now at its position in the grid."""
    if now is None:
        return "no longer in the grid"
    if _data(spec) != _data(now):
        return "with other data"
    if spec.model.revision != now.model.revision:
        return "with other weights"
    return "with other settings"


def _data(spec: TrialSpec) -> tuple[str, tuple[str, ...]]:
    # The fingerprint knows classes by number only; their names are part of the data too.
    return spec.data_fingerprint, spec.cell.labels


def count_reasons(orphans: Iterable[OrphanedTrial]) -> str:
    """Return how many trials each change has orphaned, in words: ``8 with other data``."""
    counts = Counter(orphan.reason for orphan in orphans)
    return ", ".join(f"{count} {reason}" for reason, count in counts.most_common())


def describe_orphaned_trials(planned: Iterable[TrialSpec], record: RunRecord) -> list[str]:
    """Return lines that name the orphaned trials of ``record``; none if all are ``planned``.

    Their rows stay in the tables: they are results, though not of this configuration.
    """
    orphans = list_orphaned_trials(planned, record)
    if not orphans:
        return []
    one = len(orphans) == 1
    which = (
        "1 trial of this run no longer belongs"
        if one
        else f"{len(orphans)} trials of this run no longer belong"
    )
    lines = [
        f"{which} to the configuration ({count_reasons(orphans)}); such trials do not run again, "
        "and the rows of those that ended stay in the tables, with in_plan false:"
    ]
    lines += [_describe(orphan) for orphan in orphans[:MAX_LISTED]]
    if len(orphans) > MAX_LISTED:
        lines.append(f"  and {len(orphans) - MAX_LISTED} more")
    return lines


def _describe(orphan: OrphanedTrial) -> str:
    spec, ended = orphan.record.spec, orphan.record.ended
    status = ended["status"] if ended else "unfinished"
    rank = spec.candidate.lora_rank
    method = "all weights" if rank is None else f"rank {rank}"
    return (
        f"  {spec.trial_id}  {format_cell(*spec.cell.axes)}, {method}, "
        f"learning rate {spec.candidate.learning_rate:.3g}: {status} ({orphan.reason})"
    )
