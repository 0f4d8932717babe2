"""The decision in sentences: what to take, at what price, how sure that is, what may change it."""

from dataclasses import dataclass

from analysis.page.costs import (
    compare_making,
    compare_using,
    describe_price,
    describe_spent,
    describe_use,
    format_labels,
)
from analysis.page.formats import (
    format_chance,
    format_count,
    format_interval,
    format_percent,
    format_points,
    format_range,
    name_model,
    qualify,
)
from analysis.stats.decision import (
    Cheaper,
    Choice,
    Comparison,
    Decision,
    Extrapolation,
    Outcome,
    SizeStep,
)
from analysis.stats.prices import Gap
from analysis.stats.scope import ENOUGH_SEEDS, MoreSeeds
from sweep.errors import format_duration
from sweep.storage.prices import Prices

PERCENT = "\N{NO-BREAK SPACE}%"


@dataclass(frozen=True)
class Told:
    """A decision in words."""

    n_labels: int
    # What to take, how good it is, its price, its doubt, and term and text of what else to know.
    advice: str
    lead: str
    price: str
    doubt: str
    parts: tuple[tuple[str, str], ...]


def tell(decision: Decision, prices: Prices, more: MoreSeeds | None) -> Told:
    """Return ``decision`` in words; ``more`` is what adds seeds to the run, if it has few."""
    parts = {
        "How sure": describe_sureness(decision),
        "To make": describe_spent(decision.best, prices),
        "To use": describe_use(decision.best, prices),
        "Cheaper": describe_cheaper(decision, prices),
        "Fewer texts": describe_fewer(decision, prices),
        "What may change it": describe_changes(decision, prices, more),
    }
    return Told(
        n_labels=decision.n_labels,
        advice=describe_advice(decision.best),
        lead=describe_accuracy(decision.best),
        price=describe_price(decision.best, prices),
        doubt=describe_doubt(decision),
        parts=tuple((term, text) for term, text in parts.items() if text),
    )


def describe_advice(best: Choice) -> str:
    """Return what to take."""
    return f"With {best.n_labels} labels, take {name_model(best.model)} with {_count_texts(best)}"


def describe_accuracy(best: Choice) -> str:
    """Return how accurate ``best`` is, as the rest of a sentence."""
    average = f" on average over {best.seeds} seeds" if best.seeds > 1 else ""
    return (
        f"it is right on {format_percent(best.accuracy)}{PERCENT} of {best.n_test:,} test texts"
        f"{average} (95{PERCENT} interval {format_interval(best.low, best.high)} for other test "
        f"texts; chance {format_chance(best.chance)}{PERCENT})."
    )


def describe_doubt(decision: Decision) -> str:
    """Return in a sentence or two whether the choice is really the best one."""
    rival, best = decision.runner_up, decision.best
    plain = _describe_kind(decision)
    if rival is None:
        alone = (
            "Nothing else was compared with it on as many texts, so nothing says it is the best."
        )
        return f"{plain} {alone}".strip()
    other = name_model(rival.other.model)
    if rival.verdict == "A better":
        start = "As trained here, with one seed, it" if rival.seeds == 1 else "It"
        said = f"{start} is really better than the runner-up, {other}."
    elif rival.verdict == "B better":
        said = f"On the seeds that both have, {other} is really better."
    elif _is_tie(best, rival.other):
        said = f"{other} is exactly as accurate: too close to call."
    else:
        said = f"Whether it is better than the runner-up, {other}, is too close to call."
    return f"{plain} {said}".strip()


def _describe_kind(decision: Decision) -> str:
    """Return that a reference wins, if one does."""
    if not decision.best.is_reference:
        return ""
    if decision.counterpart is None:
        return "This is a reference: no fine-tuned model has a result with as many texts."
    return "This is a reference: no fine-tuned model is more accurate."


def _is_tie(best: Choice, other: Choice) -> bool:
    return abs(best.accuracy - other.accuracy) < 1e-9


def describe_sureness(decision: Decision) -> str:
    """Return how the choice stands against the runner-up and the references, and of what that
    speaks."""
    first, second = decision.runner_up, decision.counterpart
    kind = "the best fine-tuned model" if decision.best.is_reference else "the best reference"
    said = []
    if first is not None:
        both = second is not None and second.other == first.other
        said.append(
            describe_comparison(first, f"the runner-up and {kind}" if both else "the runner-up")
        )
        if second is not None and not both:
            said.append(describe_comparison(second, kind))
    if first is not None and second is None and not decision.best.is_reference:
        said.append("No reference has a result with as many texts.")
    return " ".join([*said, *_describe_limits(decision)])


def _describe_limits(decision: Decision) -> list[str]:
    said = []
    told = [each for each in (decision.runner_up, decision.counterpart) if each]
    rest = [each for each in decision.compared if each not in told and each.verdict != "A better"]
    if rest:
        names = ", ".join(name_model(each.other.model) for each in rest)
        said.append(f"Not called worse either: {names}.")
    seeds = min((each.seeds for each in decision.compared), default=0)
    if seeds == 1:
        said.append(
            "One seed: this speaks of these trained models; another seed may say otherwise."
        )
    elif seeds:
        said.append(f"{seeds} seeds: this speaks of the recipes, whatever the seed.")
    share = decision.majority
    if share is not None and decision.best.accuracy <= share + 1e-9:
        said.append(
            f"Always answering the most frequent label is right on {format_percent(share)}{PERCENT}"
            " too: nothing here has learned to tell the labels apart."
        )
    if decision.missing:
        names = ", ".join(decision.missing)
        said.append(f"Without a result with {decision.n_labels} labels: {names}.")
    return said


def describe_comparison(found: Comparison, role: str) -> str:
    """Return how far the other choice, which is ``role``, is behind, and whether that is real."""
    name = f"{name_model(found.other.model)} ({role})"
    interval = f"95{PERCENT} interval {format_range(found.low, found.high)}"
    if abs(found.difference) < 1e-9:
        where = f"as accurate ({interval})"
    elif found.difference > 0:
        where = f"{_count_points(found.difference)} lower ({interval})"
    else:
        interval = f"95{PERCENT} interval {format_range(-found.high, -found.low)}"
        where = (
            f"{_count_points(-found.difference)} higher on the seeds that both have ({interval})"
        )
    return f"{name} is {where}: {_judge(found)}."


def _judge(found: Comparison) -> str:
    if not _is_open(found):
        return "a real difference" + qualify(found.seeds)
    adjusted = found.low > 0 or found.high < 0
    return found.verdict + (", once adjusted for all pairs" if adjusted else "")


def _is_open(found: Comparison | SizeStep) -> bool:
    return found.verdict == "too close to call"


def describe_cheaper(decision: Decision, prices: Prices) -> str:
    """Return the cheapest choices that are not called worse, to make and to use."""
    make, use = decision.to_make, decision.to_run
    if make.found and use.found and make.found.other == use.found.other:
        costs = f"{_compare_make(decision, make.found, prices)}, and "
        costs += _compare_use(decision, use.found, prices)
        said = [_describe_found(decision.best, make.found, costs)]
    elif make.outcome == use.outcome and not make.found:
        said = [_describe_none(make, "make or to use")]
    else:
        said = [_describe_make(decision, prices), _describe_use(decision, prices)]
    said += [_describe_unknown(make, "make"), _describe_unknown(use, "use")]
    return " ".join(text for text in said if text)


def _describe_unknown(search: Cheaper, verb: str) -> str:
    names = ", ".join(map(name_model, search.unknown))
    return (
        f"Not ranked by the cost to {verb}, for want of comparable numbers: {names}."
        if names
        else ""
    )


def _describe_make(decision: Decision, prices: Prices) -> str:
    found = decision.to_make.found
    if found:
        costs = _compare_make(decision, found, prices)
        return _describe_found(decision.best, found, costs)
    return _describe_none(decision.to_make, "make")


def _describe_use(decision: Decision, prices: Prices) -> str:
    found = decision.to_run.found
    if found:
        return _describe_found(decision.best, found, _compare_use(decision, found, prices))
    if decision.to_run.outcome in (Outcome.UNKNOWN, Outcome.ALONE):
        return ""
    return _describe_none(decision.to_run, "use")


def _describe_none(search: Cheaper, verb: str) -> str:
    return {
        Outcome.CHEAPEST: f"Nothing else that was compared costs less to {verb}.",
        Outcome.WORSE: f"All that costs less to {verb} is called worse.",
        Outcome.UNKNOWN: f"What it takes to {verb} is unknown, so nothing can be called cheaper.",
    }.get(search.outcome, "")


def _describe_found(best: Choice, found: Comparison, costs: str) -> str:
    """Return that a cheaper choice is not called worse, with the doubt that this leaves."""
    other = name_model(found.other.model)
    start = "A reference may do: " if found.other.is_reference and not best.is_reference else ""
    return (
        f"{start}{other} is not called worse{qualify(found.seeds)}, and costs {costs}. That is no "
        f"proof that it is as good: {_limit_loss(found)}."
    )


def _limit_loss(found: Comparison | SizeStep) -> str:
    """Return how much worse the cheaper one may be, by the interval of this pair alone."""
    interval = f"95{PERCENT} interval {format_range(found.low, found.high)}"
    if found.high <= 0:
        return f"it was ahead only on the seeds that both have ({interval})"
    worst = f"up to {_count_points(found.high)} worse"
    if found.low <= 0:
        return f"it may be {worst} ({interval})"
    return (
        f"by the interval of this pair alone it is {format_percent(found.low)} to "
        f"{_count_points(found.high)} worse, and only the adjustment for all pairs leaves it open"
    )


def _compare_make(decision: Decision, found: Comparison, prices: Prices) -> str:
    other, own = compare_making(found.other, decision.best, prices)
    return f"{other} instead of {own} to make"


def _compare_use(decision: Decision, found: Comparison, prices: Prices) -> str:
    other, own = compare_using(found.other, decision.best, prices)
    return f"{other} instead of {own} to use"


def describe_fewer(decision: Decision, prices: Prices) -> str:
    """Return whether fewer texts would do; '' if the model had one number of texts alone."""
    step, best = decision.fewer, decision.best
    if step is None:
        known = decision.last_step or decision.next_step
        rest = f"Any smaller number is called worse than {decision.most_samples:,}."
        return rest if known else ""
    gain = f"{step.larger:,} bring {format_points(step.gain)} points"
    if step.smaller == best.n_samples:
        interval = f"95{PERCENT} interval {format_range(step.low, step.high)}"
        return (
            f"More than {step.smaller:,} are not called better: {gain} ({interval}): "
            f"{_judge_step(step)}."
        )
    saved = format_labels(step.larger - step.smaller, prices)
    return (
        f"{step.smaller:,} are not called worse than {step.larger:,}, and save {saved}: {gain}, "
        f"{_judge_step(step)}. That is no proof that they are enough: {_limit_loss(step)}."
    )


def _judge_step(step: SizeStep) -> str:
    words = {"A better": "a real gain", "B better": "a real loss"}
    return step.verdict if _is_open(step) else words[step.verdict] + qualify(step.seeds)


def describe_changes(decision: Decision, prices: Prices, more: MoreSeeds | None) -> str:
    """Return what could change the answer: seeds, texts, prices."""
    said = [
        _describe_seeds(decision, more),
        _describe_texts(decision, prices),
        _describe_volume(decision),
        _ask_for_prices(decision.best, prices),
    ]
    return " ".join(text for text in said if text)


def _describe_seeds(decision: Decision, more: MoreSeeds | None) -> str:
    rival = decision.runner_up
    if rival is None or rival.seeds >= ENOUGH_SEEDS:
        return ""
    if _is_open(rival):
        said = f"{'Another seed' if rival.seeds == 1 else 'More seeds'} may turn the order"
    else:
        said = "More seeds would show whether it holds for the recipes"
        said = said if rival.seeds == 1 else "More seeds would make it surer"
    if more is None or more.seconds is None:
        return f"{said}."
    time = format_duration(more.seconds, rough=True)
    return f"{said}: {more.added} more take about {time} at the pace of this run."


def _describe_texts(decision: Decision, prices: Prices) -> str:
    step = decision.next_step or decision.last_step
    said = []
    # What stands under fewer texts is not said again.
    if step and step != decision.fewer:
        said.append(_describe_step(step, prices))
    if decision.extrapolation:
        said.append(_describe_beyond(decision.best, decision.extrapolation, prices))
    return " ".join(said)


def _describe_step(step: SizeStep, prices: Prices) -> str:
    costs = format_labels(step.larger - step.smaller, prices)
    return (
        f"From {step.smaller:,} to {step.larger:,} texts, accuracy changed by "
        f"{format_points(step.gain)} points (95{PERCENT} interval "
        f"{format_range(step.low, step.high)}; {_judge_step(step)}) for {costs}."
    )


def _describe_beyond(best: Choice, beyond: Extrapolation, prices: Prices) -> str:
    weak = "; weak evidence, from too few sizes" if beyond.weak else ""
    costs = format_labels(beyond.n_samples - best.n_samples, prices)
    return (
        f"With {beyond.n_samples:,} texts, {format_percent(beyond.accuracy)}{PERCENT} would be "
        f"expected (extrapolated, 95{PERCENT} interval "
        f"{format_interval(beyond.low, beyond.high)}{weak}) for another {costs}."
    )


def _describe_volume(decision: Decision) -> str:
    """Return from how many texts on another choice is the cheaper one, all in all; '' if the same
    choice is cheaper to make and to use, or money is unknown."""
    for found in (decision.to_make.found, decision.to_run.found):
        turn = found and find_turn(decision.best, found.other)
        if found and turn:
            first, second = decision.best, found.other
            late = first if _use_money(first) < _use_money(second) else second
            early = second if late is first else first
            return (
                f"From about {_round_texts(turn)} classified texts on, {name_model(late.model)} "
                f"is cheaper, all in all, than {name_model(early.model)}."
            )
    return ""


def find_turn(first: Choice, second: Choice) -> float | None:
    """Return after how many texts in use both have cost the same; None if never, or unknown."""
    if first.make is None or second.make is None:
        return None
    per_text = (_use_money(first) - _use_money(second)) / 1e6
    extra = second.make - first.make
    turn = extra / per_text if per_text else -1.0
    return turn if turn > 0 else None


def _use_money(choice: Choice) -> float:
    money = choice.use.money if choice.use else None
    return float("nan") if money is None else money


def _round_texts(texts: float) -> str:
    for name, size in (("billion", 1e9), ("million", 1e6)):
        if texts >= size:
            return (
                f"{texts / size:.2g} {name}"
                if texts < 100 * size
                else f"{texts / size:,.0f} {name}"
            )
    return format_count(float(f"{texts:.2g}"))


def _ask_for_prices(best: Choice, prices: Prices) -> str:
    missing = []
    if prices.gpu_hour is None and prices.cpu_hour is None and best.spent.gap != Gap.SHARE:
        missing.append("of hours (cost.gpu_hour, cost.cpu_hour)")
    if prices.label is None:
        missing.append("of labels (cost.label)")
    if not missing:
        return ""
    return (
        f"Prices {' and '.join(missing)} are not set; --resume with --set writes this report anew "
        "with them, without training."
    )


def describe_basis(pairs: int, sizes: int) -> str:
    """Return what the decisions rest on; there are ``pairs`` of contenders and references and
    ``sizes`` pairs of sample sizes."""
    families = [(pairs, "pairs of contenders and references"), (sizes, "pairs of sample sizes")]
    told = " or ".join(f"all {count} {name}" for count, name in families if count > 1)
    strict = (
        f" An interval is that of one pair alone; a verdict is adjusted by Holm for {told} of the "
        "grid, so it is stricter."
        if told
        else ""
    )
    return (
        "The choice is the most accurate contender or reference on test, over all numbers of "
        "texts; being the highest of several, its accuracy is likely a little too high. Too close "
        f"to call does not mean equal.{strict} Making it counts all trials of its "
        "cells, stopped ones and repeats included; the labels are those of one training set: "
        "validation and test texts, which all share, come on top."
    )


def _count_texts(choice: Choice) -> str:
    return f"{choice.n_samples:,} texts"


def _count_points(value: float) -> str:
    text = format_percent(value)
    return f"{text} point" if text == "1.0" else f"{text} points"
