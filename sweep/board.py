"""What a run's progress looks like: one block on a terminal, plain lines elsewhere."""

import time
from collections import defaultdict
from collections.abc import Callable, Sized
from statistics import mean

from rich.console import Console, Group
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from sweep.plan import Plan
from sweep.record import RunRecord
from sweep.tally import Tally

REFRESH_SECONDS = 0.5
PLAIN_LINE_SECONDS = 30.0


def count_from_now() -> Callable[[], float]:
    """Return a clock that tells the seconds from now on."""
    begun = time.monotonic()
    return lambda: time.monotonic() - begun


class Board:
    """Shows cells done, trials by state, the best validation accuracy per cell, and time left.

    ``record`` grows while it shows it; ``running`` holds the trials that workers have. The time
    left follows from the ``elapsed`` seconds and the work done in them: ``work_before`` training
    texts were passed earlier (None: all that is done by now).
    """

    def __init__(
        self,
        plan: Plan,
        record: RunRecord,
        running: Sized,
        console: Console,
        elapsed: Callable[[], float] | None = None,
        work_before: int | None = None,
    ) -> None:
        self._plan = plan
        self._running = running
        self._console = console
        self._elapsed = elapsed or count_from_now()
        self._tally = Tally(plan, record)
        self._tally.catch_up()
        self._work_before = self._tally.work_done if work_before is None else work_before
        self._live = Live(console=console, auto_refresh=False) if console.is_terminal else None
        self._due = 0.0
        self._cells_shown = len(self._tally.finished)
        self._places: dict[tuple[str, int, int], list[str]] = defaultdict(list)
        for cell in plan.cells:
            self._places[cell.model, cell.n_labels, cell.n_samples].append(cell.cell_id)

    def start(self) -> None:
        """Begin to draw."""
        if self._live:
            self._live.start()

    def stop(self) -> None:
        """Draw the last state and leave it standing."""
        self._refresh()
        if self._live:
            self._live.stop()

    def hide(self) -> None:
        """Leave what was drawn last, and draw no more."""
        if self._live:
            self._live.stop()

    def refresh(self) -> None:
        """Draw again if it is time."""
        if time.monotonic() >= self._due:
            self._refresh()

    def _refresh(self) -> None:
        if self._live:
            self._live.update(self.render(), refresh=True)
            self._due = time.monotonic() + REFRESH_SECONDS
            return
        self._print_finished_cells()
        if time.monotonic() >= self._due + PLAIN_LINE_SECONDS - REFRESH_SECONDS:
            self._console.print(self.summarise(), highlight=False, soft_wrap=True)
            self._due = time.monotonic() + REFRESH_SECONDS

    def summarise(self) -> str:
        """Return the counts in one line."""
        tally = self._tally
        tally.catch_up()
        running = len(self._running)
        statuses = dict(tally.statuses) | {"left": tally.trials_left - running}
        states = ", ".join(f"{count} {status}" for status, count in statuses.items() if count > 0)
        cells = f"{len(tally.finished)} of {len(tally.left)} cells"
        parts = [cells, f"{running} running", states, self._time_left()]
        return "; ".join(part for part in parts if part)

    def _time_left(self) -> str:
        total, done = self._tally.work, self._tally.work_done
        if done >= total:
            return f"took {_format_seconds(self._elapsed())}"
        if done <= self._work_before:
            return ""
        rate = (done - self._work_before) / self._elapsed()
        return f"about {_format_seconds((total - done) / rate)} left"

    def render(self) -> Group:
        """Return the block: a bar, the counts, and the table of best accuracies."""
        counts = Text(self.summarise())
        trials = self._tally.trials
        done = trials - self._tally.trials_left
        block = Table.grid()
        block.add_row(ProgressBar(total=max(1, trials), completed=done, width=60))
        block.add_row(counts)
        return Group(block, self._table())

    def _table(self) -> Table:
        columns = list(dict.fromkeys((c.n_labels, c.n_samples) for c in self._plan.cells))
        table = Table(box=None)
        table.add_column("best validation accuracy so far")
        for k, n in columns:
            table.add_column(f"{k}x{n}", justify="right")
        for model in dict.fromkeys(cell.model for cell in self._plan.cells):
            table.add_row(model, *(self._show_best(model, k, n) for k, n in columns))
        return table

    def _show_best(self, model: str, n_labels: int, n_samples: int) -> str:
        best, cells = self._tally.best, self._places.get((model, n_labels, n_samples), [])
        values = [best[cell] for cell in cells if cell in best]
        return f"{mean(values):.3f}" if values else ""

    def _print_finished_cells(self) -> None:
        tally = self._tally
        tally.catch_up()
        new = set(tally.finished[self._cells_shown :])
        if not new:
            return
        for cell in self._plan.cells:
            if cell.cell_id in new:
                self._cells_shown += 1
                value = tally.best.get(cell.cell_id)
                shown = "no result" if value is None else f"validation accuracy {value:.3f}"
                self._console.print(
                    f"cell {self._cells_shown} of {len(tally.left)}: {cell.model}, "
                    f"{cell.n_labels} labels x {cell.n_samples} samples, seed {cell.seed}: {shown}",
                    highlight=False,
                    soft_wrap=True,
                )


def _format_seconds(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    if hours:
        return f"{hours} h {minutes:02} min"
    return f"{minutes} min {rest:02} s" if minutes else f"{rest} s"
