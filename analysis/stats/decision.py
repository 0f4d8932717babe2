"""The decision: for each label count which contender to take, with how many texts, what it costs,
how sure that is, and what is cheaper without being called worse."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

import pandas as pd

from analysis.stats.pairs import MAJORITY, swap_pairs
from analysis.stats.prices import Gap
from sweep.verdicts.holm import Verdict

Row = dict[str, Any]
# What contenders are ranked by: the smaller, the cheaper. None if it is unknown.
Rank = tuple[float, ...] | None


@dataclass(frozen=True)
class Spent:
    """What all trials took that a choice was found with; None where it is unknown."""

    trials: int
    # Trials that left no time; they are not in the sums.
    untimed: int
    hours: float | None
    gpu_hours: float | None
    cpu_hours: float | None
    money: float | None
    # Money for training the chosen trial once.
    again: float | None
    # Why ``money`` is unknown, and on which processor.
    gap: Gap | None
    device: str | None


@dataclass(frozen=True)
class Use:
    """What was measured of a trained model in use; None where it is unknown."""

    texts_per_second: float | None
    batch: int | None
    p50: float | None
    p95: float | None
    memory: float | None
    size: float | None
    device: str | None
    host: str | None
    cpus: float | None
    # Training texts of the model that was measured.
    n_samples: int
    error: str | None
    # Money for a million texts, or why it is unknown.
    money: float | None
    gap: Gap | None


@dataclass(frozen=True)
class Choice:
    """A contender or reference with a number of texts."""

    model: str
    is_reference: bool
    n_labels: int
    n_samples: int
    accuracy: float
    low: float
    high: float
    n_test: int
    chance: float
    seeds: int
    spent: Spent
    # Money for its training texts' labels, and for all it takes to make; None if unknown.
    labels: float | None
    make: float | None
    # None if nobody tried to measure it.
    use: Use | None


@dataclass(frozen=True)
class Comparison:
    """The choice (A) against another one with as many texts (B)."""

    other: Choice
    # Accuracy of the choice minus the other's, with its 95 % interval.
    difference: float
    low: float
    high: float
    verdict: Verdict
    seeds: int


@dataclass(frozen=True)
class SizeStep:
    """What more texts bring the choice's model."""

    smaller: int
    larger: int
    gain: float
    low: float
    high: float
    verdict: Verdict
    seeds: int


@dataclass(frozen=True)
class Extrapolation:
    """What the choice's model is expected to reach with more texts than it ever had."""

    n_samples: int
    accuracy: float
    low: float
    high: float
    # Too few sizes were measured to check the curve.
    weak: bool


class Outcome(StrEnum):
    """What the search for a cheaper choice that is not called worse came to."""

    FOUND = "found"
    CHEAPEST = "cheapest"  # nothing costs less
    WORSE = "worse"  # all that costs less is called worse
    UNKNOWN = "unknown"  # the choice's own cost is not known
    ALONE = "alone"  # there is nothing to compare it with


@dataclass(frozen=True)
class Cheaper:
    """The cheapest choice with as many texts that is not called worse."""

    outcome: Outcome
    found: Comparison | None = None
    # Contenders whose cost is unknown or not comparable; they may be cheaper.
    unknown: tuple[str, ...] = ()


@dataclass(frozen=True)
class Decision:
    """What to take at a label count, and all that speaks for and against it."""

    n_labels: int
    # The most accurate contender or reference; of several, the one with the fewest texts, then the
    # one that took the least time.
    best: Choice
    # Against all others with as many texts.
    compared: tuple[Comparison, ...]
    # Against the best of these, and against the best of the other kind: a reference, or a model
    # if the choice is a reference. None if there is none with as many texts.
    runner_up: Comparison | None
    counterpart: Comparison | None
    to_make: Cheaper
    to_run: Cheaper
    # From the fewest texts that are not called worse than the most that the model had.
    fewer: SizeStep | None
    # The most texts that this model had.
    most_samples: int
    # From the choice to the next sample size, and from the one before it.
    next_step: SizeStep | None
    last_step: SizeStep | None
    extrapolation: Extrapolation | None
    # Test accuracy of the majority class; None if it was not scored.
    majority: float | None
    # Contenders without a result at this label count.
    missing: tuple[str, ...]


def decide(
    choices: pd.DataFrame,
    cells: pd.DataFrame,
    pairs: pd.DataFrame,
    sizes: pd.DataFrame,
    forecast: pd.DataFrame,
) -> list[Decision]:
    """Return a decision per label count with a result, most labels first.

    ``choices`` comes from ``tabulate_choices``, ``cells`` from ``average_seeds``, ``pairs`` from
    ``compare_models``, ``sizes`` from ``compare_sample_sizes`` and ``forecast`` from
    ``tabulate_forecast``.
    """
    both = _list_rows(pd.concat([pairs, swap_pairs(pairs)]))
    known = [_read_choice(row) for row in _list_rows(choices)]
    majority = {(c.n_labels, c.n_samples): c.accuracy for c in known if c.model == MAJORITY}
    known = [choice for choice in known if choice.model != MAJORITY]
    decisions = []
    for n_labels in sorted({choice.n_labels for choice in known}, reverse=True):
        here = [choice for choice in known if choice.n_labels == n_labels]
        best = min(here, key=_rank_choice)
        beside = [c for c in here if c.n_samples == best.n_samples and c.model != best.model]
        found = list(_compare(best, beside, both))
        steps = list(_list_steps(best, _list_rows(sizes)))
        largest = max(c.n_samples for c in here if c.model == best.model)
        tried = cells[cells["n_labels"].eq(n_labels) & cells["model"].ne(MAJORITY)]["model"]
        decisions.append(
            Decision(
                n_labels=n_labels,
                best=best,
                compared=tuple(found),
                runner_up=_find_strongest(found),
                counterpart=_find_strongest(
                    [c for c in found if c.other.is_reference != best.is_reference]
                ),
                to_make=_search(best, found, _choose_make_rank(best)),
                to_run=_search(best, found, _choose_use_rank(best)),
                fewer=_find_fewer(steps, largest),
                most_samples=largest,
                next_step=next((s for s in steps if s.smaller == best.n_samples), None),
                last_step=next((s for s in reversed(steps) if s.larger == best.n_samples), None),
                extrapolation=_extrapolate(best, largest, _list_rows(forecast)),
                majority=majority.get((n_labels, best.n_samples)),
                missing=tuple(dict.fromkeys(tried[~tried.isin({c.model for c in here})])),
            )
        )
    return decisions


def _rank_choice(choice: Choice) -> tuple[float, int, float]:
    # Means over seeds may differ in the last bit even if the counts behind them are the same.
    hours = choice.spent.hours
    return -round(choice.accuracy, 9), choice.n_samples, float("inf") if hours is None else hours


def _compare(best: Choice, others: list[Choice], pairs: list[Row]) -> Iterator[Comparison]:
    axes = {"n_labels": best.n_labels, "n_samples": best.n_samples, "model_a": best.model}
    rows = {row["model_b"]: row for row in pairs if axes.items() <= row.items()}
    for other in others:
        row = rows.get(other.model)
        if row is not None:
            yield Comparison(
                other=other,
                difference=row["difference"],
                low=row["low"],
                high=row["high"],
                verdict=row["verdict"],
                seeds=int(row["seeds"]),
            )


def _find_strongest(found: list[Comparison]) -> Comparison | None:
    return min(found, key=lambda each: _rank_choice(each.other), default=None)


def _choose_make_rank(best: Choice) -> Callable[[Choice], Rank]:
    """Return what ranks choices by the cost of making them: money or, where the best one's is
    unknown, GPU hours, then CPU hours; or else hours of trial time."""

    def by_money(choice: Choice) -> Rank:
        return None if choice.make is None else (choice.make,)

    def by_processors(choice: Choice) -> Rank:
        gpus, cpus = choice.spent.gpu_hours, choice.spent.cpu_hours
        return None if gpus is None or cpus is None else (gpus, cpus)

    def by_time(choice: Choice) -> Rank:
        return None if choice.spent.hours is None else (choice.spent.hours,)

    ranks = (by_money, by_processors, by_time)
    return next((rank for rank in ranks if rank(best) is not None), by_time)


def _choose_use_rank(best: Choice) -> Callable[[Choice], Rank]:
    """Return what ranks choices by the cost of using them: money for a million texts or, where the
    best one's is unknown, seconds per text on the same processor."""

    def by_money(choice: Choice) -> Rank:
        return None if choice.use is None or choice.use.money is None else (choice.use.money,)

    def by_speed(choice: Choice) -> Rank:
        use = choice.use
        if use is None or best.use is None or not use.texts_per_second:
            return None
        return (1 / use.texts_per_second,) if use.device == best.use.device else None

    return by_speed if by_money(best) is None else by_money


def _search(best: Choice, found: list[Comparison], rank: Callable[[Choice], Rank]) -> Cheaper:
    own = rank(best)
    if not found:
        return Cheaper(Outcome.ALONE)
    if own is None:
        return Cheaper(Outcome.UNKNOWN)
    ranks = [(rank(each.other), each) for each in found]
    unknown = tuple(each.other.model for value, each in ranks if value is None)
    below = [(value, each) for value, each in ranks if value is not None and value < own]
    allowed = [(value, each) for value, each in below if each.verdict != "A better"]
    if allowed:
        return Cheaper(Outcome.FOUND, min(allowed, key=lambda pair: pair[0])[1], unknown)
    return Cheaper(Outcome.WORSE if below else Outcome.CHEAPEST, None, unknown)


def _list_steps(best: Choice, sizes: list[Row]) -> Iterator[SizeStep]:
    for row in sizes:
        if (row["model"], row["n_labels"]) == (best.model, best.n_labels):
            yield SizeStep(
                smaller=int(row["smaller"]),
                larger=int(row["larger"]),
                gain=row["gain"],
                low=row["low"],
                high=row["high"],
                verdict=row["verdict"],
                seeds=int(row["seeds"]),
            )


def _find_fewer(steps: list[SizeStep], largest: int) -> SizeStep | None:
    enough = [s for s in steps if s.larger == largest and s.verdict != "A better"]
    return min(enough, key=lambda step: step.smaller, default=None)


def _extrapolate(best: Choice, largest: int, forecast: list[Row]) -> Extrapolation | None:
    if best.n_samples != largest:
        return None
    for row in forecast:
        if (row["model"], row["n_labels"], row["n_now"]) == (best.model, best.n_labels, largest):
            return Extrapolation(
                n_samples=int(row["n_then"]),
                accuracy=row["then"],
                low=row["low"],
                high=row["high"],
                weak=bool(row["weak"]),
            )
    return None


def _read_choice(row: Row) -> Choice:
    return Choice(
        model=row["model"],
        is_reference=row["kind"] == "baseline",
        n_labels=int(row["n_labels"]),
        n_samples=int(row["n_samples"]),
        accuracy=row["accuracy"],
        low=row["accuracy_low"],
        high=row["accuracy_high"],
        n_test=int(row["n_test"]),
        chance=row["chance"],
        seeds=int(row["seeds_done"]),
        spent=_read_spent(row),
        labels=row["labels"],
        make=row["make"],
        use=_read_use(row),
    )


def _read_spent(row: Row) -> Spent:
    return Spent(
        trials=int(row["trials"]),
        untimed=int(row["untimed"]),
        hours=row["hours"],
        gpu_hours=row["gpu_hours"],
        cpu_hours=row["cpu_hours"],
        money=row["money"],
        again=row["again"],
        gap=_read_gap(row["gap"]),
        device=row["gap_device"],
    )


def _read_gap(value: str | None) -> Gap | None:
    return None if value is None else Gap(value)


def _read_use(row: Row) -> Use | None:
    if row["use_samples"] is None:
        return None
    return Use(
        texts_per_second=row["texts_per_second"],
        batch=None if row["batch"] is None else int(row["batch"]),
        p50=row["p50"],
        p95=row["p95"],
        memory=row["use_memory"],
        size=row["size"],
        device=row["use_device"],
        host=row["use_host"],
        cpus=row["use_cpus"],
        n_samples=int(row["use_samples"]),
        error=row["use_error"],
        money=row["use"],
        gap=_read_gap(row["use_gap"]),
    )


def _list_rows(frame: pd.DataFrame) -> list[Row]:
    """Return the rows of ``frame`` as dictionaries, with None for what is missing."""
    rows = frame.astype(object).where(frame.notna(), None).to_dict("records")
    return [{str(name): value for name, value in row.items()} for row in rows]
