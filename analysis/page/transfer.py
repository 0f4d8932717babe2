"""The words about tuning with few texts and training once with many."""

import pandas as pd

from analysis.page.formats import format_percent, format_points, format_range
from analysis.stats.transfer import Transfer

PERCENT = "\N{NO-BREAK SPACE}%"


def describe_transfer(found: Transfer) -> str:
    """Return what ``found`` says of this run, and how sure it is: one to five sentences."""
    answer = _describe_other(found) if found.other else _describe_same(found)
    parts = [answer, _describe_stops(found), _describe_failures(found), _describe_unsettled(found)]
    return " ".join(part for part in parts if part)


def _describe_same(found: Transfer) -> str:
    where = f"all {found.cases} cases" if found.cases > 1 else "the only case"
    return (
        f"Tuning with {found.smaller} texts would have picked the same candidate as tuning with "
        f"{found.larger} in {where}{_compare_chance(found)}, so training it once with "
        f"{found.larger} would have lost nothing here. Elsewhere it may: the 95{PERCENT} interval "
        f"of the share of different picks ends at {format_percent(found.other_high)}{PERCENT}."
    )


def _describe_other(found: Transfer) -> str:
    where = f"{found.other} of {found.cases} cases" if found.cases > 1 else "the only case"
    picks = (
        f"Tuning with {found.smaller} texts would have picked a different candidate from tuning "
        f"with {found.larger} in {where}{_compare_chance(found)}"
    )
    return picks + ("." if pd.isna(found.loss) else f" and {_describe_loss(found)}")


def _compare_chance(found: Transfer) -> str:
    if found.cases == 1:
        return ""
    return f" (a candidate drawn at random would differ in {found.by_chance:.1f})"


def _describe_loss(found: Transfer) -> str:
    # As printed: a gain that rounds to 0.0 is none.
    gain = round(found.loss, 3) < 0
    size = f"{format_percent(abs(found.loss))} points"
    over = f"with {found.larger}" + (" on average" if found.cases > 1 else "")
    if found.bounded:
        verb = "gained at least" if gain else "lost at most"
        return f"{verb} {size} of accuracy {over} ({_limit_bound(found)})."
    verb = "gained" if gain else "lost"
    return f"{verb} {size} of test accuracy {over} ({_judge_loss(found)})."


def _judge_loss(found: Transfer) -> str:
    if pd.isna(found.high):
        return _explain_no_interval(found)
    interval = f"95{PERCENT} interval of the loss {format_range(found.low, found.high)}: "
    if found.low > 0:
        return f"{interval}tuning with {found.larger} paid"
    if found.high < 0:
        return f"{interval}tuning with {found.smaller} was enough"
    return (
        f"{interval}too close to call, with a loss of up to {format_percent(found.high)} not "
        "ruled out"
    )


def _limit_bound(found: Transfer) -> str:
    if pd.isna(found.high):
        return _explain_no_interval(found)
    return f"95{PERCENT} interval of the loss: at most {format_points(found.high)}"


def _explain_no_interval(found: Transfer) -> str:
    if found.units == 1:
        return "no interval: one value says nothing about others"
    return (
        f"no interval: of the {found.units} values, too few differ from 0 or from each other to "
        "speak of others"
    )


def _describe_stops(found: Transfer) -> str:
    if not found.bounded:
        return ""
    average = " on average" if found.bounded > 1 else ""
    side = "behind" if round(found.behind, 3) < 0 else "ahead"
    return (
        f"In {_count_cases(found.bounded)} ASHA stopped that candidate with {found.larger} texts; "
        "it counts with the validation accuracy it had reached, and trained to the end it may "
        "lose less. After as many epochs as it ran, the winner was "
        f"{format_percent(abs(found.behind))} points {side}{average}."
    )


def _describe_failures(found: Transfer) -> str:
    if not found.failed:
        return ""
    return (
        f"In {_count_cases(found.failed)} that candidate failed with {found.larger} texts, so "
        "training it alone would have given no model; no mean contains this."
    )


def _describe_unsettled(found: Transfer) -> str:
    if not found.unsettled:
        return ""
    return f"Left out for want of results: {_count_cases(found.unsettled)}."


def _count_cases(number: int) -> str:
    return f"{number} case" if number == 1 else f"{number} cases"
