"""Which baselines of a run failed, and the sentences that say so."""

from collections.abc import Mapping, Sequence
from typing import Any

from sweep.errors import format_line, shorten
from sweep.plan import Plan, format_cell
from sweep.storage.events import Baseline, TrialStatus
from sweep.storage.record import RunRecord


def list_failed(
    record: RunRecord, plan: Plan, names: Sequence[str] | None = None
) -> list[Baseline]:
    """Return the events of the failed baselines on the plan's subsets, restricted to ``names`` if
    given."""
    return [
        event
        for event in _list_baselines(record, plan)
        if event.get("status") == TrialStatus.FAILED and (names is None or event["model"] in names)
    ]


def _list_baselines(record: RunRecord, plan: Plan) -> list[Baseline]:
    subsets, asked = {spec.data_fingerprint for spec in plan.trials}, record.planned_baselines()
    return [
        event
        for trial_id, event in record.baselines.items()
        if trial_id in asked and event.get("data_fingerprint") in subsets
    ]


def describe_failure(event: Mapping[str, Any]) -> str:
    """Return one line: which baseline failed, and why."""
    cell = format_cell(event["model"], event["n_labels"], event["n_samples"], event["seed"])
    return f"baseline {cell}: failed ({_explain(event)})"


def summarize_failures(record: RunRecord, plan: Plan, retry: str) -> str:
    """Return the sentence about failed baselines that ends a run; empty if none failed. ``retry``
    is the command that runs them again."""
    failed = list_failed(record, plan)
    if not failed:
        return ""
    reasons = {event["model"]: _explain(event) for event in failed}
    listed = "; ".join(f"{name}: {reason}" for name, reason in reasons.items())
    return (
        f"{len(failed)} of {len(_list_baselines(record, plan))} baselines failed ({listed}); the "
        f"report names each. After a fix, run them again with: {retry}"
    )


def _explain(event: Mapping[str, Any]) -> str:
    return format_line(shorten(event["error"] or "no reason given", 300))
