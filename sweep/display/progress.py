"""Shows a run's progress: one block on a terminal, plain lines elsewhere."""

import math
import time
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from statistics import mean

from rich.console import Console, Group
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from sweep.display.counts import ProgressCounts
from sweep.display.time_left import TimeLeft
from sweep.errors import format_duration, truncate
from sweep.plan import Plan, TrialSpec, extend_plan, format_cell
from sweep.storage.record import RunRecord

REFRESH_SECONDS = 0.5
PLAIN_LINE_SECONDS = 30.0
# Fraction of its time that a driver of thousands of trials may spend on estimating time left.
ESTIMATE_PART = 0.03
CHEAP_SECONDS = 0.005
# Characters that running trials may take in a log.
PLAIN_LINE_LENGTH = 160
BAR_WIDTH = 60
MODEL_WIDTH = 24
# Running trials that a terminal shows, one per line.
BLOCK_TRIALS = 4


def count_from_now() -> Callable[[], float]:
    """Return a clock that counts the seconds from now."""
    begun = time.monotonic()
    return lambda: time.monotonic() - begun


class Board:
    """Shows cells, trials and epochs done, the progress of each running trial, the best validation
    accuracy per cell, and the time left.

    ``record`` grows while it is shown; ``running`` maps each trial that a worker has to the time it
    was last heard of, by ``clock``. ``elapsed`` returns the seconds since the driver started.
    """

    def __init__(
        self,
        plan: Plan,
        record: RunRecord,
        running: Mapping[str, float],
        console: Console,
        clock: Callable[[], float] = time.monotonic,
        elapsed: Callable[[], float] | None = None,
    ) -> None:
        self._running = running
        self._record = record
        self._console = console
        self._clock = clock
        self._take_plan(plan)
        # A driver with nothing left to do has no duration worth reporting.
        self._reports_duration = elapsed is not None or self._counts.trials_left > 0
        self._elapsed = elapsed or count_from_now()
        self._live = Live(console=console, auto_refresh=False) if console.is_terminal else None
        self._due = -math.inf
        self._printed: list[str] = []
        self._estimate: float | None = None
        self._estimate_due = -math.inf
        self._cells_shown = len(self._counts.finished)

    def _take_plan(self, plan: Plan) -> None:
        self._plan = plan
        self._counts = ProgressCounts(plan, self._record)
        self._counts.catch_up()
        self._time_left = TimeLeft(self._counts, self._record)
        self._cell_ids: dict[tuple[str, int, int], list[str]] = defaultdict(list)
        for cell in plan.cells:
            self._cell_ids[cell.model, cell.n_labels, cell.n_samples].append(cell.cell_id)

    def extend(self, trials: Sequence[TrialSpec]) -> None:
        """Show further ``trials`` of the plan, too."""
        self._reports_duration = True
        self._take_plan(extend_plan(self._plan, trials))

    def start(self) -> None:
        """Start drawing."""
        if self._live:
            self._live.start()

    def stop(self) -> None:
        """Draw the final state and leave it on the screen."""
        self._refresh(last=True)
        if self._live:
            self._live.stop()

    def hide(self) -> None:
        """Stop drawing without an update."""
        if self._live:
            self._live.stop()

    def refresh(self) -> None:
        """Redraw if it is time."""
        self._time_left.observe(self._clock(), len(self._running), self._elapsed())
        self._counts.catch_up()
        if self._live is None:
            self._print_finished_cells()
        if time.monotonic() >= self._due:
            self._refresh()

    def _refresh(self, last: bool = False) -> None:
        if self._live:
            self._live.update(self.render(), refresh=True)
            self._due = time.monotonic() + REFRESH_SECONDS
            return
        self._counts.catch_up()
        self._print_finished_cells()
        lines = [self.summarize(), *self._format_running_line()]
        # The final state may just have been printed.
        if not last or lines != self._printed:
            for line in lines:
                self._print(line)
        self._printed = lines
        self._due = time.monotonic() + PLAIN_LINE_SECONDS

    def _print(self, line: str) -> None:
        self._console.print(Text(line), soft_wrap=True)

    def summarize(self) -> str:
        """Return the counts in one line."""
        counts = self._counts
        counts.catch_up()
        running = len(self._running)
        statuses = dict(counts.statuses) | {"left": counts.trials_left - running}
        states = ", ".join(f"{count} {status}" for status, count in statuses.items() if count > 0)
        cells = f"{len(counts.finished)} of {len(counts.left)} cells"
        epochs = f"{counts.epochs_done} of {counts.epochs_planned} epochs"
        parts = [cells, f"{running} running", states, epochs, self._describe_time()]
        return "; ".join(part for part in parts if part)

    def _describe_time(self) -> str:
        if not self._counts.trials_left:
            took = f"took {format_duration(self._elapsed(), rough=True)}"
            return took if self._reports_duration else ""
        begun = time.monotonic()
        if begun >= self._estimate_due:
            self._estimate = self.seconds_left()
            taken = time.monotonic() - begun
            self._estimate_due = begun + (taken / ESTIMATE_PART if taken > CHEAP_SECONDS else 0.0)
        left = self._estimate
        return "" if left is None else f"about {format_duration(left, rough=True)} left"

    def seconds_left(self) -> float | None:
        """Return how long the trials that are left will take; None if nothing is known yet."""
        now, elapsed = self._clock(), self._elapsed()
        self._time_left.observe(now, len(self._running), elapsed)
        return self._time_left.estimate(now, self._running, elapsed)

    def _describe_running(self) -> list[str]:
        """Return the progress of each running trial of the plan."""
        specs = (self._counts.specs.get(trial_id) for trial_id in self._running)
        return [self._describe(spec) for spec in specs if spec]

    def _describe(self, spec: TrialSpec) -> str:
        cell, reached = spec.cell, self._counts.reached(spec.trial_id)
        best = "" if reached.best is None else f", {reached.best:.3f}"
        return (
            f"{truncate(cell.model, 40)} {cell.n_labels}x{cell.n_samples} seed {cell.seed} "
            f"#{spec.candidate.index} epoch {reached.epoch} of {spec.recipe.max_epochs}{best}"
        )

    def _format_running_line(self) -> list[str]:
        """Return one line with as many running trials as fit, and how many more there are; none if
        nothing is running."""
        lines = self._describe_running()
        shown = 1
        while shown < len(lines) and len("; ".join(lines[: shown + 1])) <= PLAIN_LINE_LENGTH:
            shown += 1
        return [f"  running: {'; '.join(_cut_list(lines, shown))}"] if lines else []

    def render(self) -> Group:
        """Return the block: a bar, the counts, the running trials, and the table of best
        accuracies."""
        summary = Text(self.summarize())
        counts, width = self._counts, min(BAR_WIDTH, self._console.width)
        block = Table.grid()
        total = max(1, counts.epochs_planned)
        block.add_row(ProgressBar(total=total, completed=counts.epochs_done, width=width))
        block.add_row(summary)
        for line in _cut_list(self._describe_running(), BLOCK_TRIALS):
            block.add_row(Text(f"  {line}"))
        return Group(block, self._table())

    def _table(self) -> Group:
        models = list(dict.fromkeys(cell.model for cell in self._plan.cells))
        columns, more = self._choose_columns(max(map(len, models), default=0))
        table = Table(box=None)
        table.add_column("", overflow="crop", max_width=MODEL_WIDTH)
        for k, n in columns:
            table.add_column(f"{k}x{n}", justify="right", no_wrap=True)
        for model in models:
            table.add_row(Text(model), *(self._format_best(model, k, n) for k, n in columns))
        rest = f", {more} more columns do not fit" if more else ""
        return Group(Text(f"best validation accuracy so far{rest}"), table)

    def _choose_columns(self, name_width: int) -> tuple[list[tuple[int, int]], int]:
        """Return the label counts and sample sizes that fit beside the models' names, up to the
        newest with a value, and how many more there are."""
        columns = list(dict.fromkeys((c.n_labels, c.n_samples) for c in self._plan.cells))
        known = [c for c in self._plan.cells if c.cell_id in self._counts.best]
        newest = columns.index((known[-1].n_labels, known[-1].n_samples)) if known else 0
        room = self._console.width - min(name_width, MODEL_WIDTH) - 2
        fit = max(1, room // (2 + max((len(f"{k}x{n}") for k, n in columns), default=5)))
        first = max(0, min(newest + 1, len(columns)) - fit)
        return columns[first : first + fit], len(columns) - len(columns[first : first + fit])

    def _format_best(self, model: str, n_labels: int, n_samples: int) -> str:
        best, cells = self._counts.best, self._cell_ids.get((model, n_labels, n_samples), [])
        values = [best[cell] for cell in cells if cell in best]
        return f"{mean(values):.3f}" if values else ""

    def _print_finished_cells(self) -> None:
        counts = self._counts
        new = set(counts.finished[self._cells_shown :])
        if not new:
            return
        for cell in self._plan.cells:
            if cell.cell_id in new:
                self._cells_shown += 1
                value = counts.best.get(cell.cell_id)
                shown = "no result" if value is None else f"validation accuracy {value:.3f}"
                self._print(
                    f"cell {self._cells_shown} of {len(counts.left)}: {format_cell(*cell.axes)}: "
                    f"{shown}"
                )


def _cut_list(lines: list[str], most: int) -> list[str]:
    """Return the first ``most`` of ``lines``, and how many more there are."""
    more = len(lines) - most
    return lines[:most] + ([f"and {more} more"] if more > 0 else [])
