"""Costs in words: money where there are prices, else hours and labels; what is unknown is told."""

import pandas as pd

from analysis.page.formats import (
    format_amount,
    format_bytes,
    format_count,
    format_hours,
    format_money,
    format_seconds,
)
from analysis.stats.choices import count_gpus, price_making, price_using
from analysis.stats.decision import Choice, Spent, Use
from analysis.stats.prices import Gap
from sweep.storage.prices import Prices


def compare_making(first: Choice, second: Choice, prices: Prices) -> tuple[str, str]:
    """Return what the trials of each took, in the same measure: money, else hours. Labels, of which
    both need as many, are left out."""
    pair = first.spent, second.spent
    money = [each.money for each in pair if each.money is not None]
    if len(money) == 2:
        own = format_money(money[1], prices.currency)
        return format_amount(money[0]), f"{own} (labels aside)"
    if all(each.gpu_hours is not None and each.cpu_hours is not None for each in pair):
        return _format_times(pair[0]), _format_times(pair[1])
    hours = [None if each.hours is None else format_hours(each.hours) for each in pair]
    return hours[0] or "an unknown time", f"{hours[1] or 'an unknown time'} of trial time"


def compare_using(first: Choice, second: Choice, prices: Prices) -> tuple[str, str]:
    """Return what a million texts of each cost or, where that is unknown, how long a thousand
    take."""
    uses = first.use, second.use
    money = [use.money for use in uses if use and use.money is not None]
    if len(money) == 2:
        own = format_money(money[1], prices.currency)
        return format_amount(money[0]), f"{own} per million texts"
    speeds = [use.texts_per_second if use else None for use in uses]
    times = [f"{1000 / speed:.2g}" if speed else "an unknown time" for speed in speeds]
    return times[0], f"{times[1]} seconds per thousand texts"


def _format_times(spent: Spent) -> str:
    if spent.gpu_hours is not None and spent.cpu_hours is not None:
        times = [(spent.gpu_hours, "GPU"), (spent.cpu_hours, "CPU")]
        return " and ".join(format_hours(hours, of) for hours, of in times if hours) or "no time"
    if spent.hours is not None:
        return f"{format_hours(spent.hours)} of trial time"
    return "an unknown time"


def describe_price(choice: Choice, prices: Prices) -> str:
    """Return what a choice costs in one sentence: to make and, where that was measured, to use."""
    spent, use = choice.spent, choice.use
    labels = format_labels(choice.n_samples, prices)
    if choice.make is not None and prices.label is not None:
        made = f"It cost {format_money(choice.make, prices.currency)} to make"
    elif spent.money is not None:
        made = f"It cost {format_money(spent.money, prices.currency)} and {labels} to make"
    else:
        made = f"It took {_format_times(spent).replace(' and ', ', ')} and {labels} to make"
    if use is None or not use.texts_per_second:
        return f"{made}."
    if use.money is not None:
        return f"{made}, and costs {format_money(use.money, prices.currency)} per million texts."
    seconds = f"{1000 / use.texts_per_second:.2g} seconds"
    return f"{made}, and takes {seconds} per thousand texts on {format_place(use)}."


def format_labels(count: int, prices: Prices) -> str:
    """Return a number of labels, with their price if they have one."""
    text = f"{count:,} labels"
    if prices.label is None:
        return text
    return f"{text} ({format_money(count * prices.label, prices.currency)})"


def describe_spent(choice: Choice, prices: Prices) -> str:
    """Return what it took to make a choice, and what that holds and lacks."""
    spent = choice.spent
    trials = "its only trial" if spent.trials == 1 else f"its {spent.trials} trials"
    trials += f" over {choice.seeds} seeds" if choice.seeds > 1 else ""
    labels = format_labels(choice.n_samples, prices)
    if spent.money is None:
        first = f"{_format_times(spent)} for {trials}, and {labels}."
        return " ".join([first, *_explain_gap(spent, prices), *_explain_untimed(spent)])
    money = format_money(spent.money, prices.currency)
    first = f"{money} for {trials} ({_format_times(spent)}), and {labels}"
    if prices.label is not None and choice.make is not None:
        first += f": together {format_money(choice.make, prices.currency)}"
    said = [f"{first}."]
    if spent.trials > 1 and spent.again is not None:
        said.append(f"Training it once more takes {format_money(spent.again, prices.currency)}.")
    if spent.gpu_hours and prices.cpu_hour is None:
        said.append("Only GPU hours are priced: cost.cpu_hour is not set.")
    return " ".join([*said, *_explain_untimed(spent)])


def _explain_gap(spent: Spent, prices: Prices) -> list[str]:
    priced = prices.gpu_hour is not None or prices.cpu_hour is not None
    where = spent.device or "its machine"
    if spent.gap == Gap.SHARE:
        return ["This run did not record the GPUs and CPUs of its trials, so it has no price."]
    if not priced or spent.gap is None:
        return []
    if spent.gap == Gap.TIME:
        return ["Its trials left no time, so it has no price."]
    key = "cost.gpu_hour" if spent.gap == Gap.GPU else "cost.cpu_hour"
    return [f"Its price is unknown: {key} has none for {where}."]


def _explain_untimed(spent: Spent) -> list[str]:
    if not spent.untimed or spent.untimed == spent.trials:
        return []
    trials = "1 trial" if spent.untimed == 1 else f"{spent.untimed} trials"
    return [f"Not in this: {trials} that failed and left no time."]


def describe_use(choice: Choice, prices: Prices) -> str:
    """Return what it takes to use a choice, and on what that was measured."""
    use = choice.use
    if use is None:
        return "Not measured: this run has no speed of use."
    if not use.texts_per_second:
        return f"Could not be measured: {use.error or 'no reason recorded'}."
    batch = f" in batches of {use.batch}" if use.batch else ""
    speed = f"{_format_speed(use.texts_per_second)} texts per second{batch}"
    if use.money is not None:
        speed = f"{format_money(use.money, prices.currency)} per million texts: {speed}"
    said = [f"{speed}{_format_latency(use)}, on {format_place(use)}."]
    said += _explain_use_gap(use, prices)
    if use.n_samples != choice.n_samples:
        said.append(f"Measured with its model of {use.n_samples:,} texts.")
    sizes = [(use.memory, "of memory"), (use.size, "on disk")]
    parts = [f"{format_bytes(size)} {what}" for size, what in sizes if size is not None]
    if parts:
        said.append(f"{' and '.join(parts)}.")
    return " ".join(said)


def _format_speed(speed: float) -> str:
    return format_count(speed) if speed >= 10 else f"{speed:.2g}"


def _format_latency(use: Use) -> str:
    if use.p50 is None:
        return ""
    tail = "" if use.p95 is None else f" ({format_seconds(use.p95)} for the slowest 5 in 100)"
    return f"; one text alone takes {format_seconds(use.p50)}{tail}"


def format_place(use: Use) -> str:
    """Return on what a choice was measured in use."""
    device = use.device or "an unrecorded processor"
    host = f" of {use.host}" if use.host else ""
    if not use.cpus or count_gpus(device):
        return f"{device}{host}"
    return f"{device}{host}, with {use.cpus:g} CPU{'' if use.cpus == 1 else 's'}"


def _explain_use_gap(use: Use, prices: Prices) -> list[str]:
    if use.money is not None or (prices.gpu_hour is None and prices.cpu_hour is None):
        return []
    if use.gap in (Gap.GPU, Gap.CPU):
        key = "cost.gpu_hour" if use.gap == Gap.GPU else "cost.cpu_hour"
        return [f"Its price is unknown: {key} has none for {use.device}."]
    return ["Its price is unknown: the processor or its CPUs were not recorded."]


def describe_making(choices: pd.DataFrame, prices: Prices) -> str:
    """Return what the chart of the cost to make counts."""
    if price_making(choices)[1] == "hours":
        return "hours of all its trials, whatever they ran on, since not all of it has a price."
    labels = ", and the labels of its training texts" if prices.label is not None else ""
    return f"all its trials, stopped ones and repeats included{labels}."


def describe_using(choices: pd.DataFrame) -> str:
    """Return what the chart of the cost in use counts, and where that was measured."""
    frame, measure = price_using(choices)
    places = sorted(frame["use_device"].dropna().unique())
    where = f", measured on {' and on '.join(places)}" if places else ""
    what = "the price of a million texts" if measure == "use" else "seconds per thousand texts"
    return f"{what}, scored in batches{where}."
