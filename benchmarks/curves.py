"""Validation accuracies by epoch: from a journal, or drawn at random."""

import math
import random

from sweep.plan import TrialSpec
from sweep.storage.record import RunRecord

# Standard deviation of a drawn accuracy: the standard error of 0.8 on 1,600 texts.
NOISE = 0.01


def draw_curve(spec: TrialSpec, epochs: int, seed: int) -> tuple[float, ...]:
    """Return random accuracies after 1 to ``epochs`` epochs, the same for equal trial and seed.

    They rise from chance to a final accuracy, at the candidate's own pace and with noise: curves of
    a cell cross, as real ones do.
    """
    drawn = random.Random(f"{seed} {spec.trial_id}")
    chance = 1.0 / spec.cell.n_labels
    final = chance + (1.0 - chance) * drawn.betavariate(6.0, 3.0)
    pace = drawn.uniform(0.4, 1.5)
    return tuple(
        min(1.0, max(0.0, final - (final - chance) * math.exp(-pace * e) + drawn.gauss(0, NOISE)))
        for e in range(1, epochs + 1)
    )


def read_curve(record: RunRecord, trial_id: str) -> tuple[float, ...]:
    """Return the accuracies of a trial in the journal, from the first epoch; may be empty."""
    epochs = record.trials[trial_id].epochs
    values = [epochs[epoch]["val_accuracy"] for epoch in sorted(epochs)]
    return tuple(value for value in values if value is not None)
