"""Each sentence about verdicts, with a small table that triggers it."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from fake_run import MODELS, write_fake_run

from analysis.load import Run, load_run
from analysis.page.formats import format_share, qualify
from analysis.page.sentences import (
    describe_baselines,
    describe_best,
    describe_caption,
    describe_fresh,
    describe_limits,
    describe_looks,
    describe_moderation,
    describe_pairs,
    describe_remedy,
    describe_scope,
    describe_states,
    describe_test,
)
from analysis.stats.answers import Verdicts, count_verdicts
from analysis.stats.scope import MoreSeeds, Scope, find_scope, suggest_seeds
from sweep.verdicts import ONE_LOOK, SCHEDULE, list_looks

ONE, MIXED = Scope(3, 3, 0, 0), Scope(4, 1, 2, 3)
FEW, MANY = Scope(3, 0, 3, 3), Scope(3, 0, 5, 8)
NONE = Scope(0, 0, 0, 0)
MORE = MoreSeeds("python -m sweep.run --resume", 4, 7920.0)


def count(*verdicts: str, baselines: tuple[str, ...] = (), **columns: list[Any]) -> Verdicts:
    """Return the counts of the best model's pairs with ``verdicts``, a sample size each."""
    pairs = pd.DataFrame({"n_labels": 2, "model_a": "x", "verdict": verdicts})
    pairs["n_samples"] = columns.get("n_samples", range(len(pairs)))
    pairs["model_b"] = columns.get("model_b", ["y"] * len(pairs))
    return count_verdicts(pairs, pairs, list(baselines))


def against(*verdicts: str, name: str = "tf-idf") -> str:
    names = [name] * len(verdicts)
    return describe_baselines(count(*verdicts, baselines=(name,), model_b=names))


# How many combinations


def test_combinations_are_counted_in_words() -> None:
    assert [format_share(*each) for each in ((1, 1), (2, 2), (12, 12), (1, 12), (0, 1))] == [
        "the one combination",
        "both combinations",
        "all 12 combinations",
        "1 of 12 combinations",
        "no combination",
    ]


@pytest.mark.parametrize(
    ("verdicts", "scope", "sentence"),
    [
        (["A better"], FEW, "The best model is really better than every other."),
        (
            ["A better"],
            ONE,
            "As trained here, with one seed, the best model is really better than every other.",
        ),
        (
            ["A better", "A better"],
            FEW,
            "The best model is really better than every other in both combinations.",
        ),
        (
            ["A better", "too close to call", "too close to call"],
            ONE,
            "As trained here, with one seed, the best model is really better than every other in 1 "
            "of 3 combinations; in the rest at least one is too close to call.",
        ),
        (
            ["too close to call"],
            ONE,
            "The best model is not really better than every other: at least one is too close to "
            "call.",
        ),
        (
            ["too close to call"] * 2,
            FEW,
            "In no combination is the best model really better than every other: at least one is "
            "too close to call.",
        ),
        ([], NONE, ""),
    ],
)
def test_the_best_model_against_every_other(
    verdicts: list[str], scope: Scope, sentence: str
) -> None:
    assert describe_best(count(*verdicts), scope) == sentence


@pytest.mark.parametrize(
    ("verdicts", "sentence"),
    [
        (["A better"], "It is better than TF-IDF."),
        (["too close to call"], "It is not really better than TF-IDF: too close to call."),
        (["B better"], "It is not really better than TF-IDF: TF-IDF is better."),
        (["A better", "A better"], "It is better than TF-IDF in both combinations."),
        (
            ["A better", "too close to call", "B better"],
            "It is better than TF-IDF in 1 of 3 combinations; too close to call in 1; worse in 1.",
        ),
        (
            ["too close to call", "too close to call", "B better"],
            "It is nowhere really better than TF-IDF: 2 of 3 combinations are too close to call, "
            "TF-IDF is better in 1.",
        ),
        (
            ["too close to call", "B better"],
            "It is nowhere really better than TF-IDF: 1 of 2 combinations is too close to call, "
            "TF-IDF is better in 1.",
        ),
        (["B better"] * 2, "It is nowhere really better than TF-IDF: TF-IDF is better in 2."),
        ([], ""),
    ],
)
def test_the_best_model_against_the_baseline(verdicts: list[str], sentence: str) -> None:
    assert against(*verdicts) == sentence


def test_the_best_model_against_several_baselines() -> None:
    rows = {"n_samples": [1, 1], "model_b": ["tf-idf", "features"]}
    baselines = ("tf-idf", "features")
    beaten = count("A better", "A better", baselines=baselines, **rows)
    lost = count("A better", "B better", baselines=baselines, **rows)
    assert describe_baselines(beaten) == "It is better than every baseline."
    expected = "It is not really better than every baseline: a baseline is better."
    assert describe_baselines(lost) == expected


@pytest.mark.parametrize(
    ("pairs", "real", "sentence"),
    [
        (1, 1, "The difference of the one pair in the grid is a real one."),
        (1, 0, "The difference of the one pair in the grid is too close to call."),
        (3, 0, "None of the 3 pairs of models and baselines in the grid has a real difference."),
        (
            3,
            1,
            "Of the 3 pairs of models and baselines in the grid, 1 has a real difference; 2 are "
            "too close to call.",
        ),
        (
            3,
            2,
            "Of the 3 pairs of models and baselines in the grid, 2 have a real difference; 1 is "
            "too close to call.",
        ),
    ],
)
def test_real_differences_are_counted(pairs: int, real: int, sentence: str) -> None:
    assert describe_pairs(replace(count(), pairs=pairs, real=real)) == sentence


# Of what they speak


def test_one_seed_speaks_of_these_trained_models() -> None:
    assert describe_scope(ONE) == (
        "One seed: verdicts speak of these trained models, not of the recipes (model, method, "
        "settings) that made them. Another seed may say otherwise."
    )
    assert describe_caption(ONE) == (
        "With one seed, verdicts speak of these trained models, not of the recipes."
    )
    assert qualify(1) == " with this seed"


def test_several_seeds_speak_of_the_recipes_and_say_how_many_they_are() -> None:
    assert describe_scope(FEW) == (
        "3 seeds: verdicts speak of the recipes (model, method, settings), whatever the seed."
    )
    assert describe_scope(MANY).startswith("5 to 8 seeds: verdicts speak of the recipes")
    assert describe_caption(FEW) == "Verdicts speak of the recipes, over 3 seeds."
    assert qualify(3) == ""


def test_pairs_on_one_seed_beside_others_are_counted() -> None:
    assert describe_scope(MIXED).startswith("1 of 4 verdicts rests on one seed: it speaks of these")
    two = replace(MIXED, single=2)
    assert describe_scope(two).startswith("2 of 4 verdicts rest on one seed: they speak of these")
    assert describe_scope(two).endswith("The others rest on 2 to 3 seeds and speak of the recipes.")
    assert describe_caption(two) == (
        "Verdicts on one seed (2 of 4) speak of these trained models; the others, over 2 to 3 "
        "seeds, of the recipes."
    )


def test_without_verdicts_nothing_is_said_of_them() -> None:
    assert describe_scope(NONE) == describe_caption(NONE) == describe_remedy(NONE, MORE) == ""


def test_a_grid_of_one_seed_is_told_what_would_settle_it_and_what_that_takes() -> None:
    assert describe_remedy(ONE, MORE) == (
        "More seeds settle more. 4 more take about 2.2 h at the pace of this run:"
    )
    unknown = replace(MORE, seconds=None)
    assert describe_remedy(ONE, unknown) == "More seeds settle more. To add 4 more:"


def test_few_seeds_are_called_few() -> None:
    assert describe_remedy(FEW, replace(MORE, added=1)) == (
        "With so few, most differences are too close to call. More seeds settle more. One more "
        "takes about 2.2 h at the pace of this run:"
    )


def test_seeds_that_are_planned_are_waited_for() -> None:
    assert describe_remedy(ONE, None) == (
        "Seeds that are planned, but have no result yet, will say more."
    )


def test_enough_seeds_need_no_more() -> None:
    assert describe_remedy(MANY, None) == ""


@pytest.mark.parametrize(
    ("scope", "pairs", "test"),
    [
        (ONE, 1, "McNemar's exact test on the same test texts has p"),
        (
            ONE,
            6,
            "McNemar's exact test on the same test texts, adjusted by Holm for all 6 pairs of the "
            "grid, has p",
        ),
        (
            FEW,
            1,
            "a test in which both seeds and test texts vary (crossed random effects) has p",
        ),
        (
            MIXED,
            1,
            "a test in which both seeds and test texts vary (crossed random effects), or McNemar's "
            "exact test on the same test texts where there is one seed, has p",
        ),
    ],
)
def test_the_test_is_named(scope: Scope, pairs: int, test: str) -> None:
    said = describe_test(scope, pairs)
    assert said.startswith(f"A difference is called real where {test} below 0.05; everything else")


# The scope of a run


def test_the_scope_counts_pairs_by_seeds() -> None:
    assert find_scope(pd.DataFrame({"seeds": [1, 2, 4, 1]})) == Scope(4, 2, 2, 4)
    assert find_scope(pd.DataFrame({"seeds": [1, 1]})) == Scope(2, 2, 0, 0)
    assert find_scope(pd.DataFrame({"seeds": []})) == NONE


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    folder = tmp_path_factory.mktemp("here") / "a b"
    return load_run(write_fake_run(folder, counts=(2,), samples=(800,), seeds=(7,)))


def test_the_command_repeats_each_winner_with_five_fresh_seeds(run: Run) -> None:
    more = suggest_seeds(run)
    assert more is not None
    assert more.added == 5
    assert more.command == (
        f"python -m sweep.run --name 'a b' --out {run.folder.parent} --resume --set repeat.seeds=5"
    )
    here = suggest_seeds(replace(run, folder=Path("runs/mine")))
    assert here is not None
    assert here.command.startswith("python -m sweep.run --name mine --resume --set")


def test_repeats_take_as_long_as_the_winners_did(run: Run) -> None:
    opened = ({**run.opened[0], "time": 100.0}, {**run.opened[0], "time": 500.0})
    results = run.results.assign(wall_seconds=1.0)
    timed = replace(run, opened=opened, ended=(400.0, 1000.0), results=results)
    more = suggest_seeds(timed)
    assert more is not None
    trials = results["kind"].eq("model").sum()
    assert more.seconds == pytest.approx(5 * 800 * len(MODELS) / trials)


def test_cells_without_a_winner_yet_are_counted_at_the_others_pace(run: Run) -> None:
    opened = ({**run.opened[0], "time": 100.0},)
    results = run.results[run.results["model"].isin(MODELS[:2])].assign(wall_seconds=1.0)
    more = suggest_seeds(replace(run, opened=opened, ended=(400.0,), results=results))
    assert more is not None
    assert more.seconds == pytest.approx(5 * 300 * len(MODELS) / len(results))


def test_before_the_first_result_nobody_knows_how_long(run: Run) -> None:
    more = suggest_seeds(replace(run, results=run.results.head(0)))
    assert more is not None
    assert more.seconds is None


def test_a_run_that_plans_five_seeds_is_offered_no_more(run: Run) -> None:
    plan = pd.concat([run.plan.assign(seed=seed) for seed in range(5)])
    assert suggest_seeds(replace(run, plan=plan)) is None


def test_open_pairs_of_a_run_that_gives_out_seeds_need_larger_limits() -> None:
    pairs = pd.DataFrame({"state": ["open", "settled", "open", "open"], "seeds": [3, 3, 1, 2]})
    assert describe_limits(pairs).startswith("2 pairs are open: --resume with a larger repeat.most")
    assert describe_limits(pairs.head(2)).startswith("One pair is open")
    assert describe_limits(pairs[1:3]) == ""


def test_states_are_told_of_pairs_that_are_too_close_to_call() -> None:
    states = ["too close to matter", "limited by texts", "open", "open", "settled"]
    verdicts = ["too close to call"] * 4 + ["A better"]
    pairs = pd.DataFrame({"state": states, "verdict": verdicts, "seeds": 3})
    assert describe_states(pairs, 0.015) == (
        "Of the pairs that are too close to call, the seeds leave no more than 1.5 points on these "
        "texts to 1; test texts, not seeds, are too few for 1; more seeds may settle 2."
    )
    assert describe_states(pairs.tail(1), 0.01) == ""


def test_looks_are_named_if_there_was_more_than_one() -> None:
    pairs = pd.DataFrame({"seeds": [2, 6]})
    assert describe_looks(SCHEDULE, pairs).startswith("Pairs were tested after 2, 3 and 5 seeds,")
    assert describe_looks(list_looks([2, 6]), pairs).startswith("Pairs were tested after 2 and 6")
    assert describe_looks(ONE_LOOK, pairs) == describe_looks(SCHEDULE, pairs.head(0)) == ""


def test_moderation_is_told_where_pairs_can_borrow() -> None:
    pairs = pd.DataFrame({"model_a": list("aab"), "model_b": list("bcc"), "seeds": 3})
    pairs = pairs.assign(n_labels=2, n_samples=800)
    assert describe_moderation(pairs) == ""
    more = pd.concat([pairs, pairs.assign(n_samples=1600)])
    assert "moderated by those of all pairs" in describe_moderation(more)
    assert describe_moderation(more.assign(seeds=1)) == ""


def test_fresh_seeds_are_told_and_pairs_that_have_none() -> None:
    pairs = pd.DataFrame({"fresh": [True, False, True]})
    assert describe_fresh(pairs).endswith("1 of 3 pairs have no two such seeds yet.")
    assert describe_fresh(pairs.assign(fresh=False)) == ""
