"""The report's sentences about verdicts: what is better than what, and of what that speaks."""

import pandas as pd

from analysis.page.costs import describe_making, describe_using
from analysis.page.decision import describe_basis
from analysis.page.formats import format_share, name_model
from analysis.stats.answers import Verdicts, count_verdicts
from analysis.stats.scope import MoreSeeds, Scope, find_scope, suggest_seeds
from analysis.study import Study
from sweep.errors import format_duration
from sweep.verdicts import ONE_LOOK, SCHEDULE, Looks, State
from sweep.verdicts.moderation import FEWEST, count_independent

# What a verdict on one seed speaks of.
MODELS_ALONE = "these trained models, not of the recipes (model, method, settings) that made them"


def describe_best(verdicts: Verdicts, scope: Scope) -> str:
    """Return in how many combinations the best model is better than every other; '' without any."""
    total, clear = verdicts.combinations, verdicts.clear
    as_trained = "as trained here, with one seed, " if scope.single == scope.pairs else ""
    if not total:
        return ""
    if not clear:
        start = _start(
            "the best model is " if total == 1 else "in no combination is the best model "
        )
        denied = "not really better" if total == 1 else "really better"
        return f"{start}{denied} than every other: at least one is too close to call."
    rest = "; in the rest at least one is too close to call" if clear < total else ""
    where = "" if total == 1 else f" in {format_share(clear, total)}"
    return _start(f"{as_trained}the best model is really better than every other{where}{rest}.")


def describe_baselines(verdicts: Verdicts) -> str:
    """Return how the best models stand against the baselines; '' without any."""
    total = verdicts.referenced
    if not total:
        return ""
    several = len(verdicts.references) > 1
    name = "every baseline" if several else name_model(verdicts.references[0])
    if total == 1:
        return _describe_one(verdicts, name, "a baseline" if several else name)
    if verdicts.beaten:
        others = [("too close to call", verdicts.open), ("worse", verdicts.lost)]
        rest = "".join(f"; {word} in {number}" for word, number in others if number)
        return f"It is better than {name} in {format_share(verdicts.beaten, total)}{rest}."
    winner = "a baseline" if several else name
    verb = "is" if verdicts.open == 1 else "are"
    undecided = f"{format_share(verdicts.open, total)} {verb} too close to call"
    parts = [undecided] if verdicts.open else []
    parts += [f"{winner} is better in {verdicts.lost}"] if verdicts.lost else []
    return f"It is nowhere really better than {name}: {', '.join(parts)}."


def _describe_one(verdicts: Verdicts, name: str, winner: str) -> str:
    if verdicts.beaten:
        return f"It is better than {name}."
    reason = f"{winner} is better" if verdicts.lost else "too close to call"
    return f"It is not really better than {name}: {reason}."


def _start(sentence: str) -> str:
    return sentence[:1].upper() + sentence[1:]


def describe_scope(scope: Scope) -> str:
    """Return of what the verdicts of ``scope`` speak; '' if there is none."""
    if not scope.pairs:
        return ""
    if scope.single == scope.pairs:
        return f"One seed: verdicts speak of {MODELS_ALONE}. Another seed may say otherwise."
    if not scope.single:
        return (
            f"{_start(count_seeds(scope))}: verdicts speak of the recipes (model, method, "
            "settings), whatever the seed."
        )
    rest, speak = ("rests", "it speaks") if scope.single == 1 else ("rest", "they speak")
    return (
        f"{scope.single} of {scope.pairs} verdicts {rest} on one seed: {speak} of {MODELS_ALONE}, "
        f"and another seed may say otherwise. The others rest on {count_seeds(scope)} and speak of "
        "the recipes."
    )


def describe_caption(scope: Scope) -> str:
    """Return the same in a few words, for captions."""
    if not scope.pairs:
        return ""
    if scope.single == scope.pairs:
        return "With one seed, verdicts speak of these trained models, not of the recipes."
    if not scope.single:
        return f"Verdicts speak of the recipes, over {count_seeds(scope)}."
    return (
        f"Verdicts on one seed ({scope.single} of {scope.pairs}) speak of these trained models; "
        f"the others, over {count_seeds(scope)}, of the recipes."
    )


def count_seeds(scope: Scope) -> str:
    """Return the seeds that verdicts about recipes rest on: '3 seeds', '2 to 3 seeds'."""
    low, high = scope.fewest, scope.most
    return f"{high} seeds" if low == high else f"{low} to {high} seeds"


def describe_remedy(scope: Scope, more: MoreSeeds | None) -> str:
    """Return what would settle more verdicts of ``scope``, up to the command; '' with enough seeds.

    ``more`` is None if the seeds are planned but have no results yet.
    """
    if not scope.few:
        return ""
    why = "" if scope.single else "With so few, most differences are too close to call. "
    if more is None:
        return f"{why}Seeds that are planned, but have no result yet, will say more."
    return f"{why}More seeds settle more. {_describe_cost(more)}:"


def describe_limits(pairs: pd.DataFrame) -> str:
    """Return what would settle more pairs of a run that gives out seeds itself; '' if none is
    open."""
    count = int((pairs["state"].eq(State.OPEN) & pairs["seeds"].gt(1)).sum())
    if not count:
        return ""
    start = "One pair is" if count == 1 else f"{count} pairs are"
    return (
        f"{start} open: --resume with a larger repeat.most or repeat.budget may settle more, and "
        "keeps every verdict."
    )


def _describe_cost(more: MoreSeeds) -> str:
    seeds = "One more" if more.added == 1 else f"{more.added} more"
    if more.seconds is None:
        return f"To add {seeds.lower()}"
    verb = "takes" if more.added == 1 else "take"
    return (
        f"{seeds} {verb} about {format_duration(more.seconds, rough=True)} at the pace of this run"
    )


def describe_test(scope: Scope, pairs: int) -> str:
    """Return when a difference of a grid with ``pairs`` pairs is called real."""
    several = "a test in which both seeds and test texts vary (crossed random effects)"
    one = "McNemar's exact test on the same test texts"
    if scope.single == scope.pairs:
        test = one
    else:
        test = f"{several}, or {one} where there is one seed," if scope.single else several
    comma = "" if test.endswith(",") else ","
    family = "" if pairs == 1 else f"{comma} adjusted by Holm for all {pairs} pairs of the grid,"
    return (
        f"A difference is called real where {test}{family} has p below 0.05; everything else is "
        "too close to call, which does not mean equal."
    )


def describe_fresh(pairs: pd.DataFrame) -> str:
    """Return which seeds the verdicts rest on where winners were repeated; '' if none was."""
    fresh = int(pairs["fresh"].astype(bool).sum())
    if not fresh:
        return ""
    left = len(pairs) - fresh
    rest = "" if not left else f" {left} of {len(pairs)} pairs have no two such seeds yet."
    return (
        "Verdicts and means rest on fresh seeds, with which each cell's winner was trained again: "
        f"with the seed that chose it, it looks somewhat too good.{rest}"
    )


def describe_moderation(pairs: pd.DataFrame) -> str:
    """Return how the variance between seeds is estimated; '' where each pair's is its own."""
    several = pairs[pairs["seeds"].gt(1)]
    places = list(zip(several["n_labels"], several["n_samples"], strict=True))
    ends = [list(zip(places, several[name], strict=True)) for name in ("model_a", "model_b")]
    if count_independent(zip(*ends, strict=True)) < FEWEST:
        return ""
    return (
        "A few seeds say little about how much seeds vary, so each pair's estimate is moderated by "
        "those of all pairs: less so, the more they differ (empirical Bayes, Smyth 2004, with "
        "cautious estimates; simulated family-wise error at most 5 %)."
    )


def describe_looks(looks: Looks, pairs: pd.DataFrame) -> str:
    """Return how often comparisons were tested, and what that costs; '' if once."""
    most = int(pairs["seeds"].max()) if len(pairs) else 0
    passed = [size for size, _ in looks.list_passed(most)]
    if looks == ONE_LOOK or most < 2:
        return ""
    sizes = f"{', '.join(map(str, passed[:-1]))} and {passed[-1]}" if passed[1:] else f"{passed[0]}"
    return (
        f"Pairs were tested after {sizes} seeds, since results decide who gets more. Each of these "
        "looks has a share of the level (weighted Bonferroni), so that stopping early makes no "
        "verdict easier; p covers all looks, and an interval is what those of all looks have in "
        "common."
    )


def describe_states(pairs: pd.DataFrame, smallest: float) -> str:
    """Return what more seeds could do for pairs that are too close to call; '' if not known."""
    close = pairs[pairs["verdict"].eq("too close to call") & pairs["seeds"].gt(1)]
    counts = close["state"].value_counts()
    parts = [
        f"{words} {counts[state]}"
        for state, words in (
            (
                State.TOO_CLOSE,
                f"the seeds leave no more than {100 * smallest:g} points on these texts to",
            ),
            (State.LIMITED, "test texts, not seeds, are too few for"),
            (State.OPEN, "more seeds may settle"),
        )
        if counts.get(state)
    ]
    return f"Of the pairs that are too close to call, {'; '.join(parts)}." if parts else ""


def describe_pairs(verdicts: Verdicts) -> str:
    """Return how many pairs of the grid have a real difference."""
    pairs, real = verdicts.pairs, verdicts.real
    if pairs == 1:
        found = "is a real one" if real else "is too close to call"
        return f"The difference of the one pair in the grid {found}."
    if not real:
        return (
            f"None of the {pairs} pairs of models and baselines in the grid has a real difference."
        )
    return (
        f"Of the {pairs} pairs of models and baselines in the grid, {real} "
        f"{'has' if real == 1 else 'have'} a real difference; {pairs - real} "
        f"{'is' if pairs - real == 1 else 'are'} too close to call."
    )


def write_sentences(study: Study) -> dict[str, str]:
    """Return the sentences of the report by name, '' for one that does not apply."""
    verdicts = count_verdicts(study.pairs, study.against_best, study.baselines)
    scope = find_scope(study.pairs)
    return {
        "best": describe_best(verdicts, scope),
        "baselines": describe_baselines(verdicts),
        "pairs": describe_pairs(verdicts),
        "scope": describe_scope(scope),
        "caption": describe_caption(scope),
        "step_caption": describe_caption(find_scope(study.steps)),
        "remedy": describe_limits(study.pairs)
        if study.looks == SCHEDULE
        else describe_remedy(scope, suggest_seeds(study.run)),
        "test": describe_test(scope, verdicts.pairs),
        "decision_note": describe_basis(verdicts.pairs, len(study.sizes)),
        "making": describe_making(study.choices, study.prices),
        "using": describe_using(study.choices),
        "fresh": describe_fresh(study.pairs),
        "moderation": describe_moderation(study.pairs),
        "looks": describe_looks(study.looks, study.pairs),
        "states": describe_states(study.pairs, study.smallest),
    }
