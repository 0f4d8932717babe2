"""What a resumed run holds that its configuration does not ask for any more."""

from sweep.plan import Plan
from sweep.record import RunRecord

LISTED = 10


def describe_strays(plan: Plan, record: RunRecord) -> list[str]:
    """Return lines that name the trials of ``record`` that are not in ``plan``; none if all are.

    Their rows stay in the tables: they are results, though not of this configuration.
    """
    planned = {spec.trial_id for spec in plan.trials}
    strays = [trial for trial_id, trial in record.trials.items() if trial_id not in planned]
    if not strays:
        return []
    lines = [
        f"{len(strays)} trials of this run do not belong to the configuration any more; "
        "they are not run again, and the rows of those that ended stay in the tables:"
    ]
    for trial in strays[:LISTED]:
        cell, candidate = trial.spec["cell"], trial.spec["candidate"]
        status = trial.ended["status"] if trial.ended else "not ended"
        lines.append(
            f"  {trial.spec['trial_id']}  {cell['model']}, {cell['n_labels']} labels x "
            f"{cell['n_samples']} samples, seed {cell['seed']}, rank {candidate['lora_rank']}, "
            f"learning rate {candidate['learning_rate']:.3g}: {status}"
        )
    if len(strays) > LISTED:
        lines.append(f"  and {len(strays) - LISTED} more")
    return lines
