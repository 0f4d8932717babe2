"""How many texts a model needs: each of its sample sizes against the next and the largest one."""

from itertools import pairwise

import pandas as pd

from analysis.stats.pairs import NO_TUNING, STEP_COLUMNS, Correct, measure_steps
from analysis.stats.repeats import TunedSeeds
from sweep.verdicts import ONE_LOOK, Looks
from sweep.verdicts.holm import adjust_holm, judge

SIZE_COLUMNS = ["model", *STEP_COLUMNS]


def compare_sample_sizes(
    right: Correct, models: list[str], tuned: TunedSeeds = NO_TUNING, looks: Looks = ONE_LOOK
) -> pd.DataFrame:
    """Return what more texts bring each of ``models``, one row per label count and pair of sizes.

    The pairs are each size with the next one and each with the largest one that the model has.
    ``tuned``, ``looks`` and the columns are those of ``measure_steps``, for this model alone, with
    ``model``. ``p_holm`` is adjusted for a family of all rows, so that it also holds for a model
    picked after looking.
    """
    steps = [
        measure_steps(
            {(k, n, model): right[k, n, model] for n in pair}, [model], tuned, looks
        ).assign(model=model)
        for model in models
        for k in sorted({k for k, _, name in right if name == model})
        for pair in _pair_sizes(sorted(n for c, n, name in right if (c, name) == (k, model)))
    ]
    if not steps:
        return pd.DataFrame(columns=SIZE_COLUMNS)
    frame = pd.concat(steps, ignore_index=True)[SIZE_COLUMNS]
    frame["p_holm"] = adjust_holm(frame["p"].to_numpy(dtype=float))
    pairs = zip(frame["gain"], frame["p_holm"], strict=True)
    return frame.assign(verdict=[judge(gain, p) for gain, p in pairs])


def _pair_sizes(sizes: list[int]) -> list[tuple[int, int]]:
    return sorted({*pairwise(sizes), *((size, sizes[-1]) for size in sizes[:-1])})
