"""Of what the verdicts speak, these trained models or the recipes, and what would settle more."""

import shlex
from dataclasses import dataclass
from itertools import count, islice
from pathlib import Path

import pandas as pd

from analysis.load import Run
from analysis.stats.cells import AXES

# With fewer seeds most differences of five points are missed: `python -m benchmarks.verdicts`.
ENOUGH_SEEDS = 5


@dataclass(frozen=True)
class Scope:
    """How many of some pairs share one seed and how many seeds the others share."""

    pairs: int
    # Pairs whose verdict speaks of two trained models, since they share one seed alone.
    single: int
    # Over the other pairs, whose verdicts speak of recipes; 0 if there is none.
    fewest: int
    most: int

    @property
    def few(self) -> bool:
        """Whether more seeds would settle more."""
        return self.pairs > 0 and (self.single > 0 or self.fewest < ENOUGH_SEEDS)


@dataclass(frozen=True)
class MoreSeeds:
    """What adds seeds to a run."""

    command: str
    # How many it adds.
    added: int
    # How long that takes, as this run went; None if nothing has ended yet.
    seconds: float | None


def find_scope(pairs: pd.DataFrame) -> Scope:
    """Return the scope of ``pairs``, or of steps: any frame with their ``seeds``."""
    seeds = pairs["seeds"].astype(int)
    several = seeds[seeds.gt(1)]
    low, high = (several.min(), several.max()) if len(several) else (0, 0)
    return Scope(len(seeds), int(seeds.eq(1).sum()), int(low), int(high))


def suggest_seeds(run: Run) -> MoreSeeds | None:
    """Return what trains each cell's winner again with ENOUGH_SEEDS fresh seeds or, if the grid
    has several seeds, adds seeds to it up to that number; None if the run has as many seeds, fresh
    or tuned, or gives them out itself."""
    asked = {str(event.get("repeat_seeds") or 0) for event in run.opened[-1:]}
    repeats = run.plan["repeat_of"].notna()
    known = [int(run.plan.loc[rows, "seed"].nunique()) for rows in (repeats, ~repeats)]
    added = ENOUGH_SEEDS - (known[0] if repeats.any() else 0)
    if "auto" in asked or max(known) >= ENOUGH_SEEDS:
        return None
    words = ["python", "-m", "sweep.run", "--name", run.name, *_name_parent(run.folder), "--resume"]
    tuned = sorted(int(seed) for seed in run.plan.loc[~repeats, "seed"].unique())
    if len(tuned) < 2:
        command = f"{shlex.join(words)} --set repeat.seeds={ENOUGH_SEEDS}"
        return MoreSeeds(command, added, _foresee(run, added))
    # Repeats are for grids with a single seed.
    added = ENOUGH_SEEDS - len(tuned)
    free = (seed for seed in count() if seed not in tuned)
    seeds = ",".join(map(str, [*tuned, *islice(free, added)]))
    command = shlex.join([*words, "--set", f"grid.seeds=[{seeds}]"])
    return MoreSeeds(command, added, _foresee_tuning(run, added / len(tuned)))


def _name_parent(folder: Path) -> list[str]:
    parent = folder.parent if folder.name else folder.resolve().parent
    return [] if parent == Path("runs") else ["--out", str(parent)]


def _foresee(run: Run, times: int) -> float | None:
    """Return how many seconds training each planned cell's best trial ``times`` again takes, at the
    pace of the trials that ended."""
    elapsed = _measure_elapsed(run)
    trials = run.results[run.results["kind"].eq("model")]
    best = trials[trials["best_of_cell"].eq(True)].drop_duplicates(AXES)
    spent = float(trials["wall_seconds"].sum())
    if not spent or not elapsed or best.empty:
        return None
    cells = len(run.plan[AXES].drop_duplicates())
    return float(elapsed * times * best["wall_seconds"].sum() / spent * cells / len(best))


def _foresee_tuning(run: Run, times: float) -> float | None:
    """Return the same for training all planned trials ``times`` again."""
    elapsed, ended = _measure_elapsed(run), int(run.results["kind"].eq("model").sum())
    return elapsed * times * len(run.plan) / ended if elapsed and ended else None


def _measure_elapsed(run: Run) -> float:
    pairs = zip(run.opened, run.ended, strict=True)
    return float(sum(max(0.0, end - event["time"]) for event, end in pairs))
