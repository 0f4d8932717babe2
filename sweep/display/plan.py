"""The plan as text and as JSON; and its outline, without ids, for a dry run whose data or models
are unavailable."""

from collections.abc import Sequence
from dataclasses import asdict
from itertools import product
from typing import Any

from sweep.config import Config
from sweep.errors import format_line
from sweep.plan import Candidate, CellKey, Plan, draw_candidates

UNKNOWN = "unknown until the data and models are read"


def plan_to_dict(plan: Plan, done: frozenset[str] = frozenset()) -> dict[str, Any]:
    """Return the object that ``--dry-run --json`` prints (without the preflight)."""
    trials = [
        _trial_to_dict(trial.candidate, trial.trial_id, trial.cell.cell_id, trial.trial_id in done)
        for trial in plan.trials
    ]
    return {"cells": [asdict(cell) for cell in plan.cells], "trials": trials}


def outline_to_dict(config: Config) -> dict[str, Any]:
    """Return the object that ``plan_to_dict`` returns, with None for ids and labels."""
    cells = [
        {"cell_id": None, "model": model, "n_labels": k, "labels": None, "n_samples": n, "seed": s}
        for model, k, n, s in _list_axes(config)
    ]
    trials = [_trial_to_dict(candidate) for _ in cells for candidate in draw_candidates(config)]
    return {"cells": cells, "trials": trials}


def _trial_to_dict(
    candidate: Candidate,
    trial_id: str | None = None,
    cell_id: str | None = None,
    done: bool = False,
) -> dict[str, Any]:
    return {
        "trial_id": trial_id,
        "cell_id": cell_id,
        "lora_rank": candidate.lora_rank,
        "learning_rate": candidate.learning_rate,
        "done": done,
    }


def format_plan(plan: Plan, done: frozenset[str] = frozenset()) -> str:
    """Return the plan as text: counts, candidates, and a line per cell with its trial ids."""
    lines = _format_counts(len(plan.cells), plan.candidates)
    if done:
        lines[0] += f", {sum(trial.trial_id in done for trial in plan.trials)} done"
    names = {cell.labels: cell.n_labels for cell in plan.cells}
    lines += ["", "label sets:"]
    lines += [f"  {k:>3}: {format_line(', '.join(labels))}" for labels, k in names.items()]
    lines += ["", "cells (id, model, labels x samples, seed: trial ids in starting order):"]
    trials: dict[str, list[str]] = {}
    for trial in plan.trials:
        mark = "*" if trial.trial_id in done else ""
        trials.setdefault(trial.cell.cell_id, []).append(trial.trial_id + mark)
    axes = _format_axes([cell.axes for cell in plan.cells])
    lines += [
        f"  {cell.cell_id}  {text}: {' '.join(trials[cell.cell_id])}"
        for cell, text in zip(plan.cells, axes, strict=True)
    ]
    if done:
        lines.append("(* has a result already)")
    return "\n".join(lines)


def format_outline(config: Config) -> str:
    """Return the cells and candidates as text."""
    axes = _list_axes(config)
    lines = _format_counts(len(axes), draw_candidates(config))
    lines += ["", f"cells (model, labels x samples, seed; ids: {UNKNOWN}):"]
    return "\n".join([*lines, *(f"  {text}" for text in _format_axes(axes))])


def _format_counts(cells: int, candidates: Sequence[Candidate]) -> list[str]:
    """Return how many trials there are, and the candidates."""
    total = cells * len(candidates)
    return [
        f"{cells} cells x {len(candidates)} candidates = {total} trials",
        "",
        "candidates (the same in every cell):",
        *(
            f"  {c.index}: lora_rank {c.lora_rank:<3} learning_rate {c.learning_rate:<10g} "
            f"lora_alpha {c.lora_alpha:g}"
            for c in candidates
        ),
    ]


def _format_axes(axes: Sequence[CellKey]) -> list[str]:
    """Return the position of each cell in the grid, in columns."""
    width = max(len(model) for model, *_ in axes)
    return [f"{model:<{width}} {k:>3} x {n:<6} seed {seed}" for model, k, n, seed in axes]


def _list_axes(config: Config) -> list[CellKey]:
    grid = config.grid
    names = [model.name for model in grid.models]
    return list(product(names, grid.n_labels, grid.n_samples, grid.seeds))
