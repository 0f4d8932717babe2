"""Prints what simulated comparisons show of the report's verdicts.

    python -m benchmarks.verdicts

Both recipes of a comparison are right on the share of texts that their seed's accuracy says;
accuracies differ between seeds by a standard deviation of 2.5 points. A text is easy or hard for
both recipes alike, and may suit one more than the other. Equal recipes should be called different
in 5 % at most; in a grid, that holds for any two of them.
"""

import argparse
import math
from collections.abc import Callable, Iterable
from dataclasses import replace
from itertools import product

from benchmarks.verdicts.grids import Grid
from benchmarks.verdicts.means import measure_alarms, measure_found
from benchmarks.verdicts.pairs import estimate_error, print_equal, print_power
from benchmarks.verdicts.play import (
    Rule,
    follow_leaders,
    follow_states,
    go_on_while_uncalled,
    measure_stopped_alarms,
    measure_yield,
    stop_at_first,
)
from sweep.verdicts import SCHEDULE
from sweep.verdicts.holm import LEVEL

GRIDS = (Grid(1, 4), Grid(3, 5), Grid(9, 8))
SEEDS = (2, 3, 5, 8)
VARIANCES = {
    "all alike": {},
    "log-normal by recipe": {"scheme": "by recipe"},
    "log-normal by cell": {"scheme": "by cell"},
    "one recipe three times the others": {"scheme": "one wild", "factor": 3.0},
    "the same, seeds correlated over the grid": {
        "scheme": "one wild",
        "factor": 3.0,
        "correlation": 0.9,
    },
}
RULES = {
    "`auto`": follow_states,
    "stop everything at the first difference": stop_at_first,
    "go on with all that is not called": go_on_while_uncalled,
}
MOST = 12
GAPS = (0.02, 0.05, 0.1)
# A grid in which the first recipe alone may be ahead; and two as they may be found.
ONE_AHEAD = Grid(9, 8)
FEW = Grid(1, 5, gaps=(0.0, 0.0, -0.05, -0.1, -0.2))
LADDER = Grid(9, 8, gaps=(0.0, -0.01, -0.01, -0.02, -0.03, -0.05, -0.08, -0.12))


def print_rows(head: Iterable[str], rows: Iterable[Iterable[str]], words: int = 1) -> None:
    """Print a table whose first ``words`` columns are words, each row once it is known."""
    head = list(head)
    print("|", " | ".join(head), "|\n|" + "---|" * words + "---:|" * (len(head) - words))
    for row in rows:
        print("|", " | ".join(row), "|", flush=True)


def format_share(value: float) -> str:
    return f"{100 * value:.1f}"


def print_alarms(draws: int) -> None:
    error = format_share(estimate_error(LEVEL, draws))
    print(
        f"\nGrids of equal recipes with any false alarm, % ({draws} draws; error {error} at 5 %)\n"
    )

    def measure(name: str, grid: Grid) -> list[str]:
        grid = replace(grid, **VARIANCES[name])
        shares = [measure_alarms(grid, seeds, draws) for seeds in SEEDS]
        shares.append(measure_alarms(grid, MOST, draws, SCHEDULE))
        return [name, str(grid.pairs), *map(format_share, shares)]

    print_rows(
        ["seeds' variances", "pairs", *(f"{n} seeds" for n in SEEDS), "any look up to 12"],
        (measure(*each) for each in product(VARIANCES, GRIDS)),
    )


def print_stopping(draws: int) -> None:
    print(f"\nThe same with texts, looks up to 12 seeds, and seeds by a rule, % ({draws} draws)\n")

    def measure(name: str) -> list[str]:
        grids = [replace(GRIDS[0], texts=300, own=0.0, **facts) for facts in VARIANCES.values()]
        alarms = [measure_stopped_alarms(grid, RULES[name], MOST, draws) for grid in grids]
        return [name, *map(format_share, alarms)]

    print_rows(["rule", *VARIANCES], (measure(name) for name in RULES))


def print_found(draws: int) -> None:
    """Print what moderation finds in a grid, and what the same test finds without it."""
    print(f"\nOne of eight recipes ahead in a grid of 252 pairs: found, % ({draws} draws)\n")
    seeds = (*SEEDS, MOST)

    def measure(gap: float, name: str, moderated: bool) -> list[str]:
        grid = replace(ONE_AHEAD, gaps=(gap,), **VARIANCES[name])
        shares = [measure_found(grid, count, draws, moderated) for count in seeds]
        test = "moderated" if moderated else "each pair's own"
        return [f"{100 * gap:.0f} points, {name}", test, *(f"{100 * s:.0f}" for s in shares)]

    print_rows(
        ["gap, seeds' variances", "variance", *(f"{count} seeds" for count in seeds)],
        (measure(*each) for each in product(GAPS, list(VARIANCES)[:2], (False, True))),
        words=2,
    )


def print_yield(draws: int) -> None:
    """Print what ``auto`` saves."""
    print(f"\nWhat seeds bring ({draws} draws, of the large grid {max(2, draws // 6)})\n")
    plans = [("fixed", None, most) for most in (*SEEDS[1:], MOST)]
    plans += [("`auto`, at most", follow_states, most) for most in (8, MOST)]
    plans += [("`auto` for the best's pairs, at most", follow_leaders, most) for most in (8, MOST)]

    def measure(grid: Grid, name: str, rule: Rule | None, most: int) -> list[str]:
        # A large grid takes long, and its shares are over more comparisons.
        found = measure_yield(grid, most, draws if grid is FEW else max(2, draws // 6), rule)
        shares = found.found, found.found_best, found.wrong
        return [
            str(grid.pairs),
            f"{name} {most}",
            f"{found.trials:.0f}",
            *map(format_share, shares),
        ]

    print_rows(
        ["pairs", "seeds", "trials", "found, %", "with the best, %", "grids with a false alarm, %"],
        (measure(grid, *plan) for grid in (FEW, LADDER) for plan in plans),
        words=2,
    )


TABLES: dict[str, tuple[Callable[[int], None], int]] = {
    "equal": (print_equal, 2000),
    "power": (print_power, 2000),
    "alarms": (print_alarms, 400),
    "stopping": (print_stopping, 200),
    "found": (print_found, 40),
    "yield": (print_yield, 60),
}


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.verdicts", description=__doc__)
    parser.add_argument("--draws", type=float, default=1.0, help="factor for all numbers of draws")
    parser.add_argument("--tables", default=",".join(TABLES), help="names of tables: %(default)s")
    options = parser.parse_args()
    for name in options.tables.split(","):
        print_table, draws = TABLES[name]
        print_table(max(2, math.ceil(options.draws * draws)))


if __name__ == "__main__":
    main()
