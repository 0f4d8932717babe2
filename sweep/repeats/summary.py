"""What a run's repeats came to, in sentences."""

from collections import Counter
from collections.abc import Iterator

from sweep.errors import format_duration
from sweep.repeats.schedule import RepeatSchedule
from sweep.storage.record import RunRecord
from sweep.verdicts import State

WORDS = {
    State.SETTLED: "settled",
    State.TOO_CLOSE: "too close to matter",
    State.LIMITED: "not to be settled by seeds: they need more test texts",
    State.OPEN: "open",
}


def summarize_repeats(schedule: RepeatSchedule, record: RunRecord, command: str) -> Iterator[str]:
    """Yield the sentences that end a run: how many repeats there were, what they settled, and what
    the budget left out. ``command`` resumes the run."""
    # Those that have just become due are not in the record.
    known = [each for each in schedule.known if each.spec.trial_id in record.trials]
    trials = [record.trials[spec.trial_id] for spec, _ in known]
    ended = [trial.ended for trial in trials if trial.ended]
    if ended:
        seconds = sum(event.get("wall_seconds") or 0.0 for event in ended)
        cells = Counter(of.trial_id for _, of in known)
        few, many = min(cells.values()), max(cells.values())
        seeds = f"{few}" if few == many else f"{few} to {many}"
        yield (
            f"repeats: {_count(len(ended), 'trial')} with {seeds} further seeds per cell, "
            f"{format_duration(seconds, rough=True)} of trial time"
        )
    failed = sum(trial.has_failed() for trial in trials)
    if failed:
        yield f"{_count(failed, 'repeat')} failed; run again with: {command} --retry-failed"
    states = Counter(each.state for each in schedule.list_with_best())
    if states:
        parts = [f"{states[state]} {words}" for state, words in WORDS.items() if states[state]]
        yield f"comparisons with the best: {', '.join(parts)}"
    if schedule.unaffordable:
        yield (
            f"repeat.budget is spent: {_count(schedule.unaffordable, 'repeat')} left out; go on "
            f"with a larger one: {command} --set repeat.budget=DURATION"
        )


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}{'' if number == 1 else 's'}"
