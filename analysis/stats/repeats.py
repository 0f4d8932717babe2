"""Which seeds speak for a recipe: fresh ones, with which a cell's winner was only repeated.

The winner of a cell was chosen with the cell's own seed, by chance somewhat too lucky there; a
repeat was chosen by nothing.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

import pandas as pd

from sweep.storage.events import Opened
from sweep.verdicts import SCHEDULE, SMALLEST, Looks, list_looks

# Label count, sample size and model.
GridPoint = tuple[int, int, str]


@dataclass(frozen=True)
class TunedSeeds:
    """The seeds with which candidates competed, by contender and for all of them together."""

    contenders: Mapping[GridPoint, frozenset[int]] = field(default_factory=dict)
    combined: Mapping[tuple[int, int], frozenset[int]] = field(default_factory=dict)

    def at(self, point: GridPoint) -> frozenset[int]:
        """Return the tuned seeds of a contender; of a baseline, which has every seed, those of any
        contender."""
        n_labels, n_samples, _ = point
        return self.contenders.get(point) or self.combined.get((n_labels, n_samples), frozenset())


def find_tuned(plan: pd.DataFrame) -> TunedSeeds:
    """Return the tuned seeds of ``plan`` (``analysis.load.list_planned``)."""
    tuned = plan[plan["repeat_of"].isna()]
    columns = ["n_labels", "n_samples", "model", "seed"]
    contenders: dict[GridPoint, frozenset[int]] = {}
    combined: dict[tuple[int, int], frozenset[int]] = {}
    for k, n, model, seed in tuned[columns].drop_duplicates().itertuples(index=False):
        contenders[k, n, model] = contenders.get((k, n, model), frozenset()) | {seed}
        combined[k, n] = combined.get((k, n), frozenset()) | {seed}
    return TunedSeeds(contenders, combined)


def select_tuned(results: pd.DataFrame, plan: pd.DataFrame) -> pd.DataFrame:
    """Return the rows of ``results`` whose seed was tuned with."""
    return results[~_mark_fresh(results, find_tuned(plan))]


def select_speaking(results: pd.DataFrame, plan: pd.DataFrame) -> pd.DataFrame:
    """Return the rows of ``results``, one per cell, whose seeds speak for their recipe.

    Those are the fresh seeds of a model, label count and sample size that has any, else the tuned
    ones; of a baseline the seeds that are fresh for some contender, if there are any.
    """
    fresh = _mark_fresh(results, find_tuned(plan))
    places = results[["n_labels", "n_samples", "seed"]].apply(tuple, axis=1)
    repeated = set(places[fresh & results["kind"].eq("model")])
    speaking = fresh & places.isin(repeated)
    points = [results[name] for name in ("n_labels", "n_samples", "model")]
    return results[speaking | (~fresh & ~speaking.groupby(points).transform("any"))]


def _mark_fresh(results: pd.DataFrame, tuned: TunedSeeds) -> pd.Series:
    columns = ["n_labels", "n_samples", "model", "seed"]
    rows = results[columns].itertuples(index=False)
    return pd.Series(
        [seed not in tuned.at((k, n, model)) for k, n, model, seed in rows],
        index=results.index,
        dtype=bool,
    )


def find_looks(opened: Iterable[Opened]) -> Looks:
    """Return at which numbers of seeds a run was looked at.

    With ``auto`` it was the driver, at every look of the schedule; with fixed numbers whoever read
    the report of one and then asked for another.
    """
    asked = {str(event.get("repeat_seeds") or 0) for event in opened}
    return SCHEDULE if "auto" in asked else list_looks(int(n) for n in asked if n.isdecimal())


def find_smallest(opened: Iterable[Opened]) -> float:
    """Return the smallest difference that matters, as the run was last asked (fraction)."""
    known = [value for event in opened if (value := event.get("smallest")) is not None]
    return float(known[-1]) if known else SMALLEST
