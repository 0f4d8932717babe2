"""Of what the verdicts speak, these trained models or the recipes, and what would settle more."""

import shlex
from dataclasses import dataclass
from itertools import count, islice
from pathlib import Path

import pandas as pd

from analysis.load import Run

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
    """Return what brings ``run`` to ENOUGH_SEEDS seeds; None if that many are planned."""
    seeds = [int(seed) for seed in run.plan["seed"].unique()]
    added = ENOUGH_SEEDS - len(seeds)
    if added <= 0:
        return None
    others = (seed for seed in count() if seed not in seeds)
    wanted = ",".join(map(str, [*seeds, *islice(others, added)]))
    words = ["python", "-m", "sweep.run", "--name", run.name, *_name_parent(run.folder), "--resume"]
    command = f'{shlex.join(words)} --set "grid.seeds=[{wanted}]"'
    return MoreSeeds(command, added, _foresee(run, added / len(seeds)))


def _name_parent(folder: Path) -> list[str]:
    parent = folder.parent if folder.name else folder.resolve().parent
    return [] if parent == Path("runs") else ["--out", str(parent)]


def _foresee(run: Run, times: float) -> float | None:
    """Return how many seconds ``times`` the planned cells take at the pace of those that ended."""
    pairs = zip(run.opened, run.ended, strict=True)
    elapsed = sum(max(0.0, end - event["time"]) for event, end in pairs)
    planned = set(run.plan["cell_id"])
    done = run.results.loc[run.results["cell_id"].isin(planned), "cell_id"].nunique()
    return elapsed * times * len(planned) / done if done and elapsed else None
