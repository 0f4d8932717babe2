"""The plan as a Ray Tune search space: grid axes, with the candidates inside each cell."""

from collections.abc import Iterator, Mapping
from copy import copy
from itertools import groupby
from typing import Any

from ray import tune
from ray.tune.experiment import Experiment, Trial
from ray.tune.search.basic_variant import BasicVariantGenerator

from sweep.config import Config
from sweep.plan import Plan, TrialSpec
from sweep.storage.record import RunRecord
from sweep.tuning.repeats import RepeatFeed

Key = tuple[str, int, int, int, int]
AXES = ("model", "n_labels", "n_samples", "seed", "candidate")
# Coordinates on the axes -> position in the plan, and the trial.
CellTrials = dict[Key, tuple[int, TrialSpec]]


def key_of(spec: TrialSpec) -> Key:
    """Return a trial's coordinates on the axes."""
    cell = spec.cell
    return (cell.model, cell.n_labels, cell.n_samples, cell.seed, spec.candidate.index)


def _key_in(config: Mapping[str, Any]) -> Key:
    model, *numbers = (config[name] for name in AXES)
    return (model, *numbers)


def build_param_space(
    config: Config, plan: Plan, specs: Mapping[Key, TrialSpec] | None = None
) -> dict[str, Any]:
    """Return Tune's ``param_space``: the axes as grid searches, and the candidate's rank and
    learning rate, so that loggers show them.

    ``specs`` are the trials by their coordinates, if others than those of ``plan`` may come: they
    are looked up when Tune takes up a trial.
    """
    specs = {key_of(spec): spec for spec in plan.trials} if specs is None else specs

    def read(name: str) -> Any:
        return tune.sample_from(lambda space: getattr(specs[_key_in(space)].candidate, name))

    most = max(map(len, plan.candidates.values()), default=0)
    return {
        "model": tune.grid_search([model.name for model in config.grid.models]),
        "n_labels": tune.grid_search(config.grid.n_labels),
        "n_samples": tune.grid_search(config.grid.n_samples),
        "seed": tune.grid_search(config.grid.seeds),
        "candidate": tune.grid_search(list(range(most))),
        "lora_rank": read("lora_rank"),
        "learning_rate": read("learning_rate"),
    }


class PlanSearch(BasicVariantGenerator):  # type: ignore[misc]
    """Tune's grid search, in the order of the plan and without the trials that are done; then the
    repeats, as they become due.

    Tune would create the trials of the entire grid at once; this gives it one cell at a time.
    """

    def __init__(self, plan: Plan, record: RunRecord, repeats: RepeatFeed | None = None) -> None:
        super().__init__()
        self._plan = plan
        self._record = record
        self._repeats = repeats
        # How many trials come before the next repeat.
        self._position = len(plan.trials)
        self.specs = {key_of(spec): spec for spec in plan.trials}
        """The trials so far by their coordinates."""
        self._cells: Iterator[CellTrials] = iter(())
        self._cell: CellTrials = {}
        self._experiment: Experiment | None = None
        self._inside: BasicVariantGenerator | None = None

    def add_configurations(self, experiments: Experiment | list[Experiment]) -> None:
        """Store Tune's experiment, whose axes are those of ``build_param_space``."""
        super().add_configurations(experiments)
        (self._experiment,) = experiments if isinstance(experiments, list) else [experiments]
        self._cells = iterate_cells(self._plan, self._record.done())

    def next_trial(self) -> Trial | None:
        """Return the next trial of the plan that has no result, or the next repeat; None at the
        end, and while repeats may become due later."""
        trial = self._inside.next_trial() if self._inside else None
        while trial is None:
            self._cell = next(self._cells, {}) or self._next_repeat()
            if not self._cell:
                if self._repeats is None or self._repeats.is_finished():
                    self.set_finished()
                return None
            self._inside = _search_cell(self._experiment, list(self._cell))
            trial = self._inside.next_trial()
        return self._name(trial)

    def _next_repeat(self) -> CellTrials:
        repeat = self._repeats.next_repeat() if self._repeats else None
        if repeat is None:
            return {}
        key = key_of(repeat.spec)
        self.specs[key] = repeat.spec
        self._position += 1
        return {key: (self._position - 1, repeat.spec)}

    def _name(self, trial: Trial) -> Trial:
        """Give Tune's trial the id and the content of the plan's."""
        position, spec = self._cell[_key_in(trial.config)]
        trial.trial_id = spec.trial_id
        trial.config |= {
            "trial": spec,
            "position": position,
            "is_repeat": position >= len(self._plan.trials),
            "resume_epoch": self._record.trials[spec.trial_id].last_confirmed_epoch(),
        }
        return trial

    def save_to_dir(self, dirpath: str, session_str: str) -> None:
        """Save nothing: the journal says what is done."""


def iterate_cells(plan: Plan, done: frozenset[str]) -> Iterator[CellTrials]:
    """Yield the trials of each cell that are not in ``done``, with their positions in the plan;
    cells with none left are skipped."""
    numbered = enumerate(plan.trials)
    for _, trials in groupby(numbered, key=lambda pair: pair[1].cell):
        left = {key_of(spec): (i, spec) for i, spec in trials if spec.trial_id not in done}
        if left:
            yield left


def _search_cell(experiment: Experiment, keys: list[Key]) -> BasicVariantGenerator:
    """Return Tune's own search over the axes of ``experiment``, restricted to one cell and to the
    candidates of ``keys``, in their order."""
    values = zip(*keys, strict=True)
    narrowed = copy(experiment)
    axes = {
        name: tune.grid_search(list(dict.fromkeys(v))) for name, v in zip(AXES, values, strict=True)
    }
    narrowed.spec = {**experiment.spec, "config": {**experiment.spec["config"], **axes}}
    search = BasicVariantGenerator()
    search.add_configurations([narrowed])
    return search
