"""The live display of a run: one block on a terminal, plain lines elsewhere."""

import time
from collections import defaultdict
from statistics import mean
from typing import Any

from ray.tune.experiment import Trial
from rich.console import Console, Group
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from sweep.plan import Plan, TrialSpec
from sweep.recorder import Recorder, SessionCallback
from sweep.tables import TrialRecord

REFRESH_SECONDS = 0.5
PLAIN_LINE_SECONDS = 30.0


class ProgressDisplay(SessionCallback):
    """Shows cells done, trials by state, the best validation accuracy per cell, and time left."""

    def __init__(self, plan: Plan, recorder: Recorder, console: Console) -> None:
        self._plan = plan
        self._recorder = recorder
        self._console = console
        self._begun = time.monotonic()
        self._work_before = self._work_done()
        self._live = Live(console=console, auto_refresh=False) if console.is_terminal else None
        self._due = 0.0
        self._cells_shown = {cell for cell, left in self._left_per_cell().items() if not left}

    def start(self) -> None:
        """Begin to draw."""
        if self._live:
            self._live.start()

    def stop(self) -> None:
        """Draw the last state and leave it standing."""
        self._refresh()
        if self._live:
            self._live.stop()

    def on_step_end(self, iteration: int, trials: list[Trial], **info: Any) -> None:
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

    def _records(self) -> list[tuple[TrialSpec, TrialRecord]]:
        trials = self._recorder.record.trials
        return [(spec, trials[spec.trial_id]) for spec in self._plan.trials]

    def _left_per_cell(self) -> dict[str, int]:
        left: dict[str, int] = defaultdict(int)
        for spec, record in self._records():
            left[spec.cell.cell_id] += record.ended is None
        return left

    def _work_done(self) -> float:
        """Return the training texts of the trials that have ended: the measure of time left."""
        return sum(spec.cell.n_samples for spec, record in self._records() if record.ended)

    def summarise(self) -> str:
        """Return the counts in one line."""
        left = self._left_per_cell()
        cells_done = sum(not count for count in left.values())
        statuses: dict[str, int] = defaultdict(int)
        for _, record in self._records():
            statuses[record.ended["status"] if record.ended else "left"] += 1
        running = len(self._recorder.running)
        statuses["left"] -= running
        states = ", ".join(f"{count} {status}" for status, count in statuses.items() if count > 0)
        parts = [f"{cells_done} of {len(left)} cells", f"{running} running", states]
        return "; ".join(part for part in [*parts, self._time_left()] if part)

    def _time_left(self) -> str:
        total = sum(spec.cell.n_samples for spec in self._plan.trials)
        done = self._work_done()
        if done >= total:
            return f"took {_format_seconds(time.monotonic() - self._begun)}"
        if done <= self._work_before:
            return ""
        rate = (done - self._work_before) / (time.monotonic() - self._begun)
        return f"about {_format_seconds((total - done) / rate)} left"

    def render(self) -> Group:
        """Return the block: a bar, the counts, and the table of best accuracies."""
        trials = self._records()
        done = sum(record.ended is not None for _, record in trials)
        bar = ProgressBar(total=max(1, len(trials)), completed=done, width=60)
        block = Table.grid()
        block.add_row(bar)
        block.add_row(Text(self.summarise()))
        return Group(block, self._table())

    def _table(self) -> Table:
        best = self.best_per_cell()
        columns = list(dict.fromkeys((c.n_labels, c.n_samples) for c in self._plan.cells))
        table = Table(box=None)
        table.add_column("best validation accuracy so far")
        for k, n in columns:
            table.add_column(f"{k}x{n}", justify="right")
        for model in dict.fromkeys(cell.model for cell in self._plan.cells):
            cells = [
                [best[c.cell_id] for c in self._plan.cells
                 if (c.model, c.n_labels, c.n_samples) == (model, k, n) and c.cell_id in best]
                for k, n in columns
            ]  # fmt: skip
            table.add_row(model, *(f"{mean(values):.3f}" if values else "" for values in cells))
        return table

    def best_per_cell(self) -> dict[str, float]:
        """Return cell id -> highest validation accuracy of any epoch so far."""
        best: dict[str, float] = {}
        for spec, record in self._records():
            for epoch in record.epochs.values():
                value = epoch.get("val_accuracy")
                if value is not None:
                    best[spec.cell.cell_id] = max(value, best.get(spec.cell.cell_id, 0.0))
        return best

    def _print_finished_cells(self) -> None:
        left = self._left_per_cell()
        best = self.best_per_cell()
        for cell in self._plan.cells:
            if not left[cell.cell_id] and cell.cell_id not in self._cells_shown:
                self._cells_shown.add(cell.cell_id)
                value = best.get(cell.cell_id)
                shown = "no result" if value is None else f"validation accuracy {value:.3f}"
                self._console.print(
                    f"cell {len(self._cells_shown)} of {len(left)}: {cell.model}, "
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
