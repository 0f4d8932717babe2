"""The plan as text and as JSON; its outline, without ids, for a dry run whose data or models cannot
be had."""

from dataclasses import asdict
from itertools import islice, product
from typing import Any

from sweep.config import Config
from sweep.errors import format_line
from sweep.plan import Plan, draw_candidates

UNKNOWN = "unknown until the data and models are read"


def outline_to_dict(config: Config) -> dict[str, Any]:
    """Return the object that ``plan_to_dict`` returns, with None for ids and labels."""
    cells, trials = [], []
    for model, k, n, seed in _product(config):
        cells.append(
            {"cell_id": None, "model": model, "n_labels": k, "labels": None, "n_samples": n}
            | {"seed": seed}
        )
        trials += [
            {
                "trial_id": None,
                "cell_id": None,
                "lora_rank": candidate.lora_rank,
                "learning_rate": candidate.learning_rate,
                "done": False,
            }
            for candidate in draw_candidates(config)
        ]
    return {"cells": cells, "trials": trials}


def format_outline(config: Config) -> str:
    """Return the cells and candidates as text."""
    candidates, cells = draw_candidates(config), _product(config)
    total = len(cells) * len(candidates)
    lines = [f"{len(cells)} cells x {len(candidates)} candidates = {total} trials", ""]
    lines.append("candidates (the same in every cell):")
    lines += [
        f"  {c.index}: lora_rank {c.lora_rank:<3} learning_rate {c.learning_rate:<10g} "
        f"lora_alpha {c.lora_alpha:g}"
        for c in candidates
    ]
    lines += ["", f"cells (model, labels x samples, seed; ids: {UNKNOWN}):"]
    width = max(len(model) for model, *_ in cells)
    lines += [f"  {model:<{width}} {k:>3} x {n:<6} seed {seed}" for model, k, n, seed in cells]
    return "\n".join(lines)


def _product(config: Config) -> list[tuple[str, int, int, int]]:
    grid = config.grid
    names = [model.name for model in grid.models]
    return list(product(names, grid.n_labels, grid.n_samples, grid.seeds))


def plan_to_dict(plan: Plan, done: frozenset[str] = frozenset()) -> dict[str, Any]:
    """Return the object that ``--dry-run --json`` prints (without the preflight)."""
    return {
        "cells": [asdict(cell) for cell in plan.cells],
        "trials": [
            {
                "trial_id": trial.trial_id,
                "cell_id": trial.cell.cell_id,
                "lora_rank": trial.candidate.lora_rank,
                "learning_rate": trial.candidate.learning_rate,
                "done": trial.trial_id in done,
            }
            for trial in plan.trials
        ],
    }


def format_plan(plan: Plan, done: frozenset[str] = frozenset(), limit: int | None = None) -> str:
    """Return the plan as text: counts, candidates, and a line per cell with its trial ids."""
    lines = [
        f"{len(plan.cells)} cells x {len(plan.candidates)} candidates = {len(plan.trials)} trials"
        + (f", {sum(t.trial_id in done for t in plan.trials)} done" if done else ""),
        "",
        "candidates (the same in every cell):",
    ]
    lines += [
        f"  {c.index}: lora_rank {c.lora_rank:<3} learning_rate {c.learning_rate:<10g} "
        f"lora_alpha {c.lora_alpha:g}"
        for c in plan.candidates
    ]
    names = {cell.labels: cell.n_labels for cell in plan.cells}
    lines += ["", "label sets:"]
    lines += [f"  {k:>3}: {format_line(', '.join(labels))}" for labels, k in names.items()]
    lines += ["", "cells (id, model, labels x samples, seed: trial ids in starting order):"]
    trials: dict[str, list[str]] = {}
    for trial in plan.trials:
        mark = "*" if trial.trial_id in done else ""
        trials.setdefault(trial.cell.cell_id, []).append(trial.trial_id + mark)
    width = max(len(cell.model) for cell in plan.cells)
    for cell in islice(plan.cells, limit):
        lines.append(
            f"  {cell.cell_id}  {cell.model:<{width}} {cell.n_labels:>3} x {cell.n_samples:<6}"
            f" seed {cell.seed}: {' '.join(trials[cell.cell_id])}"
        )
    if done:
        lines.append("(* has a result already)")
    return "\n".join(lines)
