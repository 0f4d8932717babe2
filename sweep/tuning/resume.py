"""What a resumed run restores: ASHA's rungs, and what has to run again."""

from collections.abc import Sequence

from sweep.plan import Plan, extend_plan
from sweep.storage.failed_baselines import list_failed
from sweep.storage.record import RunRecord
from sweep.tuning.baselines import list_replaced
from sweep.tuning.recorder import Recorder
from sweep.tuning.scheduler import CellASHA


def reopen_failed(plan: Plan, recorder: Recorder, baselines: Sequence[str]) -> None:
    """Record that the plan's failed trials, their failed repeats, and failed ones among
    ``baselines`` on the subsets of both run again."""
    ids, trials = {spec.trial_id for spec in plan.trials}, recorder.record.trials
    failed = [
        trial_id
        for trial_id, trial in trials.items()
        if (trial_id in ids or trial.repeat_of in ids) and trial.has_failed()
    ]
    repeats = [trial.spec for trial in trials.values() if trial.repeat_of in ids]
    entire = extend_plan(plan, repeats)
    failed += [event["trial_id"] for event in list_failed(recorder.record, entire, baselines)]
    recorder.write_many([("reopened", {"trial_id": trial_id}) for trial_id in failed])


def reopen_replaced(plan: Plan, recorder: Recorder, baselines: Sequence[str]) -> None:
    """Record that results of other features under the names of the plan's ``baselines`` no longer
    count."""
    replaced = list_replaced(baselines, plan, recorder.record)
    recorder.write_many([("reopened", {"trial_id": trial_id}) for trial_id in replaced])


def replay_results(plan: Plan, record: RunRecord, scheduler: CellASHA) -> None:
    """Enter the recorded epochs of the plan's trials into the rungs, in their original order."""
    cells = {spec.trial_id: spec.cell.cell_id for spec in plan.trials}
    for trial_id, epoch in record.arrivals:
        trial = record.trials[trial_id]
        # Epochs that an unfinished trial will repeat are compared when they are repeated.
        if trial_id in cells and (trial.ended or epoch <= trial.last_confirmed_epoch()):
            recorded = trial.epochs.get(epoch)
            value = recorded.get("best_val_accuracy") if recorded else None
            if value is not None:
                scheduler.replay(cells[trial_id], trial_id, epoch, value)
