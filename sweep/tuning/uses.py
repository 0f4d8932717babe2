"""Which contenders and references are measured in use, and which have been."""

from collections.abc import Sequence
from dataclasses import dataclass

from sweep.config import Config
from sweep.plan import Plan, TrialSpec, format_cell
from sweep.storage.events import Ended, TrialStatus
from sweep.storage.record import RunRecord, choose_planned, rank_trial
from sweep.tuning.baselines import list_baselines
from sweep.workers.serving_actor import Job, ReferenceJob, TrialJob


@dataclass(frozen=True)
class Use:
    """One measurement: of a trial or a baseline, by its id, and what is said of it."""

    trial_id: str
    words: str
    job: Job

    @property
    def is_trial(self) -> bool:
        return isinstance(self.job, TrialJob)

    @property
    def needs_torch(self) -> bool:
        return isinstance(self.job, TrialJob) or self.job.features is not None


def list_uses(config: Config, plan: Plan, record: RunRecord) -> list[Use]:
    """Return what the plan lets measure by now, references first: of each contender and label
    count the best tuned trial with the most samples, and each baseline there."""
    if not config.serving.measure:
        return []
    return [*_list_references(config.baseline_names, plan, record), *_list_trials(record)]


def _list_trials(record: RunRecord) -> list[Use]:
    best: dict[tuple[str, int], str] = {}
    for trial_id in choose_planned(record).values():
        trial = record.trials[trial_id]
        if trial.repeat_of is None:
            key = trial.spec.cell.model, trial.spec.cell.n_labels
            best[key] = min(best.get(key, trial_id), trial_id, key=lambda i: _rank(record, i))
    ends = (
        (record.trials[trial_id].spec, record.trials[trial_id].ended) for trial_id in best.values()
    )
    return [_build_trial(spec, ended) for spec, ended in ends if ended is not None]


def _rank(record: RunRecord, trial_id: str) -> tuple[float, ...]:
    """Return a key that sorts the trial with the most samples first; of equals, the best."""
    trial = record.trials[trial_id]
    return (-trial.spec.cell.n_samples, *(rank_trial(trial) or ()), trial.spec.cell.seed)


def _build_trial(spec: TrialSpec, ended: Ended) -> Use:
    # Older journals do not say in which format a trial computed.
    dtype, best_epoch = ended.get("dtype") or "float32", ended.get("best_epoch") or 0
    job = TrialJob(spec, dtype, best_epoch, ended.get("base"))
    return Use(spec.trial_id, format_cell(*spec.cell.axes), job)


def _list_references(names: Sequence[str], plan: Plan, record: RunRecord) -> list[Use]:
    recipe = plan.trials[0].recipe if plan.trials else None
    most: dict[tuple[str, int], Use] = {}
    for spec in sorted(list_baselines(names, plan), key=lambda each: -each.cell.n_samples):
        event, cell = record.baselines.get(spec.baseline_id), spec.cell
        if recipe is None or event is None or event.get("status") == TrialStatus.FAILED:
            continue
        features = spec.features
        job = ReferenceJob(spec.name, spec.axes, features.recipe if features else recipe, features)
        words = f"baseline {format_cell(spec.name, *spec.axes)}"
        most.setdefault((spec.name, cell.n_labels), Use(spec.baseline_id, words, job))
    return sorted(most.values(), key=lambda use: use.needs_torch)


def list_missing(uses: Sequence[Use], record: RunRecord, retry_failed: bool) -> list[Use]:
    """Return those of ``uses`` that have not been measured; with ``retry_failed``, also those that
    could not be."""
    return [
        use
        for use in uses
        if (served := record.served.get(use.trial_id)) is None
        or (retry_failed and served.get("serving_error"))
    ]
