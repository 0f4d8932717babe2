"""Chooses the trial to export: the best one of a cell, and the best cell of a run."""

import difflib
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from sweep.cli.program import format_command
from sweep.data import Subset
from sweep.errors import RunFolderError
from sweep.models.sources import COMMIT
from sweep.plan import TrialSpec
from sweep.storage.events import Ended
from sweep.storage.journal import read_events
from sweep.storage.record import RunRecord, choose_best, choose_planned, replay
from sweep.storage.run_folder import CONFIG_NAME


@dataclass(frozen=True)
class Winner:
    """The best trial of a cell, with what the run recorded about it."""

    spec: TrialSpec
    ended: Ended
    # Of the session that ran it, as far as the journal has them.
    versions: Mapping[str, str]
    git_commit: str | None
    # Test accuracy of the baselines on the same subsets, by name.
    baselines: dict[str, float]
    # Why this trial was chosen, in words for the card.
    reason: str
    # Row numbers that the test texts, in order, had in the journal's sessions.
    numberings: tuple[tuple[int, ...], ...] = ()


def has_hub_base(spec: TrialSpec) -> bool:
    """Return whether the base model is on the Hub, pinned to a commit."""
    return COMMIT.fullmatch(spec.model.revision) is not None


def find_winner(run_folder: Path, cell_id: str | None) -> Winner:
    """Return the best trial of the cell (None: of the best cell of the run).

    Raises RunFolderError if there is no such cell, or none has a result.
    """
    run = replay(read_events(run_folder))
    best = choose_best(run) if cell_id else choose_planned(run)
    if cell_id is None and not best:
        raise RunFolderError(f"{run_folder}: {_explain_absence(choose_best(run))}")
    if cell_id is not None and cell_id not in best:
        raise RunFolderError(_explain_cell(run_folder, run, cell_id))
    chosen = cell_id or max(best, key=lambda cell: _normalize(run, best[cell]))
    return _build_winner(run, best[chosen], len(best) if cell_id is None else 0)


def _build_winner(run: RunRecord, trial_id: str, rivals: int) -> Winner:
    record = run.trials[trial_id]
    ended = record.ended
    assert ended is not None  # it is among the best, which have ended
    reason = "the best of its cell by validation accuracy"
    if rivals:
        reason += f", and the cell the best of {rivals} by chance-normalized validation accuracy"
    spec = record.spec
    drivers = [event for event in run.opened if event["time"] <= ended["time"]]
    versions = (drivers[-1].get("versions") if drivers else None) or {}
    git_commit = drivers[-1].get("git_commit") if drivers else None
    numberings = tuple(
        tuple(each["items"])
        for each in run.test_sets.values()
        if each.get("fingerprint") and tuple(each["labels"]) == spec.cell.labels
    )
    baselines = _find_baselines(run, spec)
    return Winner(spec, ended, versions, git_commit, baselines, reason, numberings)


def list_recorded(winner: Winner, test: Subset) -> Iterator[list[str]]:
    """Yield the run's predictions for the texts of ``test``, in order; those of an older journal,
    which are in the order of the rows, also by each numbering of the rows."""
    recorded = [test.labels[index] for index in winner.ended["predictions"] or ()]
    yield recorded
    if winner.ended.get("test_set") is None:
        for items in (test.items, *winner.numberings):
            if len(items) == len(recorded):
                by_row = dict(zip(sorted(items), recorded, strict=True))
                yield [by_row[item] for item in items]


def _normalize(run: RunRecord, trial_id: str) -> float:
    """Return 0 for guessing and 1 for a perfect trial (Cohen's kappa if labels are balanced)."""
    record = run.trials[trial_id]
    chance = 1 / record.spec.cell.n_labels
    accuracy = record.ended["val_accuracy"] if record.ended else None
    return ((accuracy or 0.0) - chance) / (1 - chance)


def _find_baselines(run: RunRecord, spec: TrialSpec) -> dict[str, float]:
    cell = spec.cell
    wanted = (list(cell.labels), cell.n_samples, cell.seed)
    return {
        event["model"]: accuracy
        for event in run.baselines.values()
        if (list(event["labels"]), event["n_samples"], event["seed"]) == wanted
        and event.get("data_fingerprint", spec.data_fingerprint) == spec.data_fingerprint
        and (accuracy := event.get("test_accuracy")) is not None
    }


def _explain_absence(earlier: Mapping[str, str]) -> str:
    """Return why there is no best cell; ``earlier`` are cells that other settings planned."""
    remedy = "resume the run, or see in its report why trials failed"
    if not earlier:
        return f"no cell has a result yet; {remedy}"
    return (
        f"no cell of the run's current configuration has a result; {remedy}, or choose an "
        f"earlier cell, for example with --cell {next(iter(earlier))}"
    )


def _explain_cell(run_folder: Path, run: RunRecord, cell_id: str) -> str:
    own = [r for r in run.trials.values() if r.spec.cell.cell_id == cell_id]
    if own:
        states = Counter(r.ended["status"] if r.ended else "not ended" for r in own)
        listed = ", ".join(f"{count} {status}" for status, count in states.items())
        return (
            f"{run_folder}: cell {cell_id} has no finished trial ({listed}); resume the run, or "
            "choose another cell"
        )
    if any(event.get("cell_id") == cell_id for event in run.baselines.values()):
        return f"{run_folder}: cell {cell_id} belongs to a baseline; only models can be exported"
    known = sorted({r.spec.cell.cell_id for r in run.trials.values()})
    near = difflib.get_close_matches(cell_id, known, n=1, cutoff=0.0)
    hint = f"did you mean {near[0]}? " if near else ""
    return (
        f"{run_folder}: there is no cell {cell_id!r}; {hint}all are listed by "
        f"{format_command('sweep.run', str(run_folder / CONFIG_NAME), '--dry-run')}"
    )
