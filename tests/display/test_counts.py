"""Counts that are brought up to date, against counting everything again."""

import random
from collections import Counter
from typing import Any

import pytest

from sweep.display.counts import ProgressCounts
from sweep.plan import Plan
from sweep.storage.record import RunRecord, apply

STATUSES = ("finished", "stopped", "diverged", "failed")


def draw_event(plan: Plan, draw: random.Random) -> dict[str, Any]:
    """Return an epoch or a result of any trial; a trial may end twice."""
    shared = {"time": 1.0, "trial_id": draw.choice(plan.trials).trial_id}
    value = draw.choice([None, draw.random()])
    if draw.random() < 0.7:
        epoch = {"epoch": draw.randint(1, 3), "decision": "continue", "val_accuracy": value}
        return {"event": "epoch", **shared, **epoch}
    status = draw.choice(STATUSES)
    return {"event": "ended", **shared, "status": status, "val_accuracy": draw.random()}


def recount(plan: Plan, record: RunRecord) -> dict[str, Any]:
    pairs = [(spec, record.trials[spec.trial_id]) for spec in plan.trials]
    ended = [(spec, trial.ended) for spec, trial in pairs if trial.ended]
    best: dict[str, float] = {}
    for spec, trial in pairs:
        for epoch in trial.epochs.values():
            if epoch["val_accuracy"] is not None:
                known = best.get(spec.cell.cell_id, 0.0)
                best[spec.cell.cell_id] = max(known, epoch["val_accuracy"])
    left = Counter({cell.cell_id: 0 for cell in plan.cells})
    left.update(spec.cell.cell_id for spec, trial in pairs if not trial.ended)
    return {
        "left": dict(left),
        "finished": {cell for cell, count in left.items() if not count},
        "statuses": dict(Counter(end["status"] for _, end in ended)),
        "epochs_done": sum(max(trial.epochs, default=0) for _, trial in pairs),
        "epochs_planned": sum(
            max(trial.epochs, default=0) if trial.ended else spec.recipe.max_epochs
            for spec, trial in pairs
        ),
        "trials_left": len(pairs) - len(ended),
        "best": best,
    }


def read_counts(counts: ProgressCounts) -> dict[str, Any]:
    return {
        "left": dict(counts.left),
        "finished": set(counts.finished),
        "statuses": {status: count for status, count in counts.statuses.items() if count},
        "epochs_done": counts.epochs_done,
        "epochs_planned": counts.epochs_planned,
        "trials_left": counts.trials_left,
        "best": counts.best,
    }


@pytest.mark.parametrize("seed", range(5))
def test_caught_up_counts_equal_a_recount(plan: Plan, record: RunRecord, seed: int) -> None:
    draw, counts = random.Random(seed), ProgressCounts(plan, record)
    for _ in range(30):
        for _ in range(draw.randint(0, 3)):
            apply(record, draw_event(plan, draw))
        counts.catch_up()
        assert read_counts(counts) == recount(plan, record)


def test_cells_stand_in_the_order_in_which_they_finished(plan: Plan, record: RunRecord) -> None:
    counts = ProgressCounts(plan, record)
    for spec in reversed(plan.trials):
        end = {"event": "ended", "time": 1.0, "trial_id": spec.trial_id, "status": "failed"}
        apply(record, end)
    counts.catch_up()
    assert counts.finished == [cell.cell_id for cell in reversed(plan.cells)]


def test_trials_of_another_plan_do_not_count(plan: Plan, record: RunRecord) -> None:
    part = Plan(plan.cells[:1], plan.candidates, plan.trials[:2])
    counts = ProgressCounts(part, record)
    stranger = {"time": 1.0, "trial_id": plan.trials[-1].trial_id}
    apply(record, {"event": "epoch", **stranger, "epoch": 1, "val_accuracy": 0.9})
    apply(record, {"event": "ended", **stranger, "status": "stopped"})
    counts.catch_up()
    assert (len(counts.specs), counts.trials_left, counts.best) == (2, 2, {})
