"""Gives out the repeats: trials that train a cell's best candidate again with another seed."""

from collections import Counter, defaultdict
from collections.abc import Mapping
from typing import NamedTuple

from sweep.config import Config
from sweep.plan import Plan, SubsetFacts, TrialSpec, build_repeat
from sweep.repeats.contests import (
    Point,
    Rights,
    collect_rights,
    count_trials_to,
    find_leader,
    pair_rivals,
)
from sweep.storage.events import TrialStatus
from sweep.storage.record import Key, RunRecord, TrialRecord, rank_trial
from sweep.verdicts import SCHEDULE, Contest, Judgment, State, judge_contests, next_look

# A baseline that needs no comparison: it ignores the text.
MAJORITY = "majority"
SEEDS = 2**32


class Repeat(NamedTuple):
    """A trial that repeats the tuned trial ``of`` with another seed."""

    spec: TrialSpec
    of: TrialSpec


class RepeatSchedule:
    """Which repeats a run needs, given what its record says.

    A cell is settled once all its tuned trials have ended; the best of them is then repeated with
    the seeds that follow its own. With a number of seeds each settled cell gets that many. With
    ``auto``, a label count and sample size whose cells are all settled is looked at: first every
    cell gets the seeds of the first look, later those rivals whose comparison with the best one is
    still open, up to the next look. Under a budget nothing is repeated before all cells are
    settled, and seeds are given out in turn, so that no cell takes what another needs.
    """

    def __init__(self, config: Config, plan: Plan, data: SubsetFacts, record: RunRecord) -> None:
        self._repeat = config.repeat
        self._smallest = config.verdict.smallest
        self._baselines = [name for name in config.baseline_names if name != MAJORITY]
        self._data, self._record = data, record
        self._seen = len(record.ends)
        self._cells: dict[str, list[TrialSpec]] = defaultdict(list)
        for spec in plan.trials:
            self._cells[spec.cell.cell_id].append(spec)
        self._points: dict[Point, list[str]] = defaultdict(list)
        for cell in plan.cells:
            self._points[cell.n_labels, cell.n_samples].append(cell.cell_id)
        done = record.done()
        # Cell id -> tuned trials without a result.
        self._left = Counter(spec.cell.cell_id for spec in plan.trials if spec.trial_id not in done)
        # Settled cell id -> its best trial; None if none of the cell's trials finished.
        self._tuned: dict[str, TrialSpec | None] = {}
        # Cell id -> its repeats, in the order of their seeds.
        self._given: dict[str, list[TrialSpec]] = {cell: [] for cell in self._cells}
        # Those among them that were planned by an earlier driver and not yet returned.
        self._adopted: list[Repeat] = []
        # Point -> the number of repeats there when it was last looked at.
        self._looked: dict[Point, int] = {}
        # Point -> the most accurate rival at the last look.
        self._leaders: dict[Point, str] = {}
        self.unaffordable = 0
        """How many repeats the last look wanted that the budget does not allow."""
        self.judgments: list[Judgment] = []
        """How the comparisons stood at the last look."""
        self.waits_for_baselines = False
        """Whether a look needs baselines that have no result yet."""
        for cell_id in self._cells:
            if not self._left[cell_id]:
                self._settle(cell_id)
        self._adopted.clear()

    @property
    def known(self) -> list[Repeat]:
        """All repeats given out so far, by this driver or an earlier one."""
        pairs = ((self._tuned.get(cell), own) for cell, own in self._given.items())
        return [Repeat(spec, tuned) for tuned, own in pairs if tuned for spec in own]

    @property
    def is_settled(self) -> bool:
        """Whether every cell is settled."""
        return len(self._tuned) == len(self._cells)

    def catch_up(self) -> bool:
        """Settle the cells whose last trial has ended since; return whether any trial ended."""
        ends = self._record.ends[self._seen :]
        self._seen += len(ends)
        for trial_id in ends:
            cell = self._record.trials[trial_id].spec.cell.cell_id
            if cell in self._cells and cell not in self._tuned:
                self._left[cell] -= 1
                if not self._left[cell]:
                    self._settle(cell)
        return bool(ends)

    def _settle(self, cell: str) -> None:
        """Choose the best trial of a cell whose trials have ended, and take over its repeats."""
        ranked: list[tuple[Key, TrialSpec]] = []
        for spec in self._cells[cell]:
            key = rank_trial(self._record.trials[spec.trial_id])
            if key is not None:
                ranked.append((key, spec))
        tuned = min(ranked, key=lambda pair: pair[0])[1] if ranked else None
        self._tuned[cell] = tuned
        if tuned is not None and self._repeat.seeds:
            self._adopt(cell, tuned)

    def _adopt(self, cell: str, tuned: TrialSpec) -> None:
        """Take over the repeats that the record knows: those that ended by themselves (one that
        an earlier grid had may have been stopped), and those that the configuration still wants.
        """
        given = self._given[cell]
        while True:
            spec = self._build(tuned, len(given) + 1)
            trial = self._record.trials.get(spec.trial_id)
            wanted = trial and trial.repeat_of and len(given) < self._repeat.most_seeds
            if trial is None or not (_ended_itself(trial) or wanted):
                return
            given.append(spec)
            self._adopted.append(Repeat(spec, tuned))

    def _build(self, tuned: TrialSpec, index: int) -> TrialSpec:
        return build_repeat(tuned, (tuned.cell.seed + index) % SEEDS, self._data)

    def take_due(self) -> list[Repeat]:
        """Return the repeats that are due by now; each is returned once."""
        due, self._adopted = self._adopted, []
        if not self._repeat.seeds or (self._repeat.budget and not self.is_settled):
            return due
        wanted = self._want_by_look() if self._repeat.seeds == "auto" else self._want_fixed()
        return due if wanted is None else due + self._give(wanted)

    def _want_fixed(self) -> dict[str, int]:
        return {cell: self._repeat.most_seeds for cell, tuned in self._tuned.items() if tuned}

    def _want_by_look(self) -> dict[str, int] | None:
        """Return cell id -> the number of repeats that its next look needs; None if nothing has
        changed since the last look."""
        known = {(e["model"], e.get("data_fingerprint")) for e in self._record.baselines.values()}
        ready, self.waits_for_baselines = [], False
        for point in self._points:
            if self._has_ended(point):
                specs = self._list_awaited(point)
                complete = all(
                    (name, spec.data_fingerprint) in known
                    for spec in specs
                    for name in self._baselines
                )
                self.waits_for_baselines |= not complete
                ready += [point] if complete else []
        sizes = {point: len(self._list_given(point)) for point in ready}
        if all(self._looked.get(point) == size for point, size in sizes.items()):
            return None
        self._looked |= sizes
        rights = {point: self._collect(point) for point in self._points}
        contests: list[Contest] = []
        for point, own in rights.items():
            models = [self._cells[cell][0].cell.model for cell in self._points[point]]
            rivals = [*models, *self._baselines]
            contests += pair_rivals(point, rivals, own, self._tuned_seed(point))
        self.judgments = judge_contests(contests, SCHEDULE, self._smallest)
        self._leaders = {
            point: find_leader(own, self._tuned_seed(point)) for point, own in rights.items() if own
        }
        wanted: dict[str, int] = {}
        for point in ready:
            wanted |= self._want_at(point, rights[point])
        return wanted

    def _has_ended(self, point: Point) -> bool:
        """Return whether the cells of ``point`` are settled and their repeats have ended."""
        if any(cell not in self._tuned for cell in self._points[point]):
            return False
        ended = (self._record.trials[spec.trial_id].ended for spec in self._list_given(point))
        return None not in ended

    def _list_awaited(self, point: Point) -> list[TrialSpec]:
        """Return the trials whose baselines a look needs: the repeats or, where baselines are a
        single contender's only rivals, the tuned trial."""
        tuned = [spec for cell in self._points[point] if (spec := self._tuned[cell])]
        return self._list_given(point) or (tuned if len(tuned) == 1 else [])

    def _list_given(self, point: Point) -> list[TrialSpec]:
        return [spec for cell in self._points[point] for spec in self._given[cell]]

    def _want_at(self, point: Point, rights: Mapping[str, Rights]) -> dict[str, int]:
        cells = {
            tuned.cell.model: cell for cell in self._points[point] if (tuned := self._tuned[cell])
        }
        first = next_look(0)
        if len(rights) < 2 or first > self._repeat.most:
            return {}
        wanted = {cell: first for cell in cells.values() if len(self._given[cell]) < first}
        if wanted:
            return wanted
        for each in self._compare_best(point):
            if each.state != State.OPEN:
                continue
            own = [cells[name] for name in (each.contest.a, each.contest.b) if name in cells]
            failed = {index for cell in own for index in self._list_failed(cell, rights)}
            size = count_trials_to(next_look(each.seeds), failed)
            for cell in own:
                if size <= self._repeat.most:
                    wanted[cell] = max(size, wanted.get(cell, 0))
        return wanted

    def _list_failed(self, cell: str, rights: Mapping[str, Rights]) -> list[int]:
        """Return the positions (from 1) of the cell's repeats that have no test result."""
        given = enumerate(self._given[cell], 1)
        return [i for i, spec in given if spec.cell.seed not in rights.get(spec.cell.model, {})]

    def list_with_best(self) -> list[Judgment]:
        """Return how each comparison with the best rival of its label count and sample size stood
        at the last look."""
        return [each for point in self._points for each in self._compare_best(point)]

    def _compare_best(self, point: Point) -> list[Judgment]:
        leader = self._leaders.get(point)
        return [
            each
            for each in self.judgments
            if (each.contest.n_labels, each.contest.n_samples) == point
            and leader in (each.contest.a, each.contest.b)
        ]

    def _collect(self, point: Point) -> dict[str, Rights]:
        tuned = [spec for cell in self._points[point] if (spec := self._tuned.get(cell))]
        trials = [*tuned, *self._list_given(point)]
        ended = [spec for spec in trials if self._record.trials[spec.trial_id].ended]
        return collect_rights(self._record, ended, self._baselines)

    def _tuned_seed(self, point: Point) -> int:
        return self._cells[self._points[point][0]][0].cell.seed

    def _give(self, wanted: Mapping[str, int]) -> list[Repeat]:
        """Give out repeats up to the number ``wanted`` of each cell, in turn, within the budget."""
        due: list[Repeat] = []
        self.unaffordable, left = 0, self._seconds_left()
        for index in range(1, max(wanted.values(), default=0) + 1):
            for cell, number in wanted.items():
                tuned, given = self._tuned[cell], self._given[cell]
                if tuned is None or not len(given) < index <= number:
                    continue
                seconds = self._measure(tuned)
                if left is not None and (seconds > left or len(given) + 1 < index):
                    self.unaffordable += 1
                    continue
                left = left if left is None else left - seconds
                due.append(Repeat(self._build(tuned, index), tuned))
                given.append(due[-1].spec)
        return due

    def _seconds_left(self) -> float | None:
        """Return what is left of the budget; None if there is no limit."""
        budget = self._repeat.budget_seconds
        if budget is None:
            return None
        # A repeat that runs is expected to take what the tuned trial took.
        return budget - sum(self._measure(spec) or self._measure(of) for spec, of in self.known)

    def _measure(self, spec: TrialSpec) -> float:
        """Return the seconds that a trial took; 0 if it has not ended."""
        trial = self._record.trials.get(spec.trial_id)
        ended = trial.ended if trial else None
        return (ended.get("wall_seconds") or 0.0) if ended else 0.0


def _ended_itself(trial: TrialRecord) -> bool:
    return trial.ended is not None and trial.ended["status"] != TrialStatus.STOPPED
