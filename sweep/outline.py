"""The plan's outline, for a dry run whose data or models cannot be had: cells without ids."""

from itertools import product
from typing import Any

from sweep.config.schema import Config
from sweep.plan import draw_candidates

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


def list_outline(config: Config) -> str:
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
