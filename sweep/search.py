"""The plan as a Ray Tune search space: grid axes, with the candidates inside each cell."""

from collections.abc import Mapping
from typing import Any

from ray import tune
from ray.tune.experiment import Trial
from ray.tune.search.basic_variant import BasicVariantGenerator

from sweep.config import Config
from sweep.plan import Plan, TrialSpec
from sweep.tables import RunRecord

Key = tuple[str, int, int, int, int]


def key_of(spec: TrialSpec) -> Key:
    """Return a trial's place on the axes: model, n_labels, n_samples, seed, candidate."""
    cell = spec.cell
    return (cell.model, cell.n_labels, cell.n_samples, cell.seed, spec.candidate.index)


def _key_in(config: Mapping[str, Any]) -> Key:
    return (
        config["model"],
        config["n_labels"],
        config["n_samples"],
        config["seed"],
        config["candidate"],
    )


def build_param_space(config: Config, plan: Plan) -> dict[str, Any]:
    """Return Tune's ``param_space``: the axes as grid searches; rank and learning rate follow
    from the candidate, so that loggers show them."""
    specs = {key_of(spec): spec for spec in plan.trials}

    def read(name: str) -> Any:
        return tune.sample_from(lambda space: getattr(specs[_key_in(space)].candidate, name))

    return {
        "model": tune.grid_search([model.name for model in config.grid.models]),
        "n_labels": tune.grid_search(config.grid.n_labels),
        "n_samples": tune.grid_search(config.grid.n_samples),
        "seed": tune.grid_search(config.grid.seeds),
        "candidate": tune.grid_search([candidate.index for candidate in plan.candidates]),
        "lora_rank": read("lora_rank"),
        "learning_rate": read("learning_rate"),
    }


class PlanSearch(BasicVariantGenerator):  # type: ignore[misc]
    """Tune's grid search, in the order of the plan and without the trials that are done."""

    def __init__(self, plan: Plan, record: RunRecord) -> None:
        super().__init__()
        self._positions = {key_of(spec): i for i, spec in enumerate(plan.trials)}
        self._specs = plan.trials
        self._record = record
        self._waiting: list[Trial] | None = None

    def next_trial(self) -> Trial | None:
        """Return the next trial of the plan that has no result, or None at the end."""
        if self._waiting is None:
            self._waiting = self._list_trials()
        if not self._waiting:
            self.set_finished()
            return None
        return self._waiting.pop()

    def save_to_dir(self, dirpath: str, session_str: str) -> None:
        """Save nothing: the journal says what is done."""

    def _list_trials(self) -> list[Trial]:
        """Return the trials to run, last one first."""
        found: list[tuple[int, Trial]] = []
        while (trial := super().next_trial()) is not None:
            position = self._positions[_key_in(trial.config)]
            spec = self._specs[position]
            known = self._record.trials[spec.trial_id]
            if known.ended is None:
                trial.trial_id = spec.trial_id
                trial.config |= {
                    "trial": spec.to_dict(),
                    "position": position,
                    "resume_epoch": known.settled_epoch(),
                }
                found.append((position, trial))
        # The parent class calls itself finished once its own list is empty.
        self._finished = False
        return [trial for _, trial in sorted(found, key=lambda pair: -pair[0])]
