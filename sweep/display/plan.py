"""The plan as text and as JSON; and its outline, without ids, for a dry run whose data or models
are unavailable."""

from collections import Counter
from collections.abc import Mapping, Sequence
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
    own = draw_all(config)
    trials = [_trial_to_dict(each) for cell in cells for each in own[str(cell["model"])]]
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
    models = Counter(cell.model for cell in plan.cells)
    lines = _format_counts(models, plan.candidates)
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
    lines = _format_counts(Counter(model for model, *_ in axes), draw_all(config))
    lines += ["", f"cells (model, labels x samples, seed; ids: {UNKNOWN}):"]
    return "\n".join([*lines, *(f"  {text}" for text in _format_axes(axes))])


def draw_all(config: Config) -> dict[str, tuple[Candidate, ...]]:
    """Return the candidates of each model, by its name."""
    return {model.name: draw_candidates(config, model) for model in config.grid.models}


def _format_counts(
    cells: Mapping[str, int], candidates: Mapping[str, tuple[Candidate, ...]]
) -> list[str]:
    """Return how many trials there are, and the candidates; ``cells`` counts those of each
    model."""
    groups: dict[tuple[Candidate, ...], list[str]] = {}
    for model in cells:
        groups.setdefault(candidates[model], []).append(model)
    terms = [(sum(cells[name] for name in names), len(own)) for own, names in groups.items()]
    total = sum(count * own for count, own in terms)
    counts = " + ".join(f"{count} cells x {own} candidates" for count, own in terms)
    lines = [f"{counts} = {total} trials"]
    for own, names in groups.items():
        whose = "the same in every cell" if len(groups) == 1 else f"of {', '.join(names)}"
        lines += ["", f"candidates ({whose}):", *map(_format_candidate, own)]
    return lines


def _format_candidate(candidate: Candidate) -> str:
    rate = f"learning_rate {candidate.learning_rate:<10g}"
    if candidate.lora_rank is None:
        return f"  {candidate.index}: {rate} weight_decay {candidate.weight_decay:g}"
    rank = f"lora_rank {candidate.lora_rank:<3}"
    return f"  {candidate.index}: {rank} {rate} lora_alpha {candidate.lora_alpha:g}"


def _format_axes(axes: Sequence[CellKey]) -> list[str]:
    """Return the position of each cell in the grid, in columns."""
    width = max(len(model) for model, *_ in axes)
    return [f"{model:<{width}} {k:>3} x {n:<6} seed {seed}" for model, k, n, seed in axes]


def _list_axes(config: Config) -> list[CellKey]:
    grid = config.grid
    names = [model.name for model in grid.models]
    return list(product(names, grid.n_labels, grid.n_samples, grid.seeds))
