"""The decision from tables that trigger each of its turns, and each of its sentences."""

import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from fake_run import write_fake_run
from priced_run import CPU, GPU, PRICES, price_run

from analysis.load import load_run
from analysis.page.costs import describe_price, describe_spent, describe_use
from analysis.page.decision import (
    describe_accuracy,
    describe_advice,
    describe_basis,
    describe_changes,
    describe_cheaper,
    describe_doubt,
    describe_fewer,
    describe_sureness,
    find_turn,
    tell,
)
from analysis.stats.choices import tabulate_choices
from analysis.stats.decision import (
    Cheaper,
    Choice,
    Comparison,
    Decision,
    Extrapolation,
    Outcome,
    SizeStep,
    Spent,
    Use,
    decide,
)
from analysis.stats.pairs import PAIR_COLUMNS
from analysis.stats.prices import Gap, find_prices
from analysis.stats.scope import MoreSeeds
from analysis.stats.sizes import SIZE_COLUMNS
from analysis.study import Study, build_study
from sweep.storage.prices import Prices

NONE = Prices()
OPEN = "too close to call"
BARE = Spent(4, 0, 2.0, 1.0, 4.0, None, None, None, None)
SPENT = replace(BARE, money=3.0, again=0.5)
USE = Use(500.0, 32, 0.004, 0.03, 2**30, 90 * 2**20, GPU, "gpu-1", 2.0, 800, None, 1.5, None)
BEST = Choice("big", False, 4, 800, 0.80, 0.75, 0.84, 300, 0.25, 1, SPENT, 160.0, 163.0, USE)
SMALL = replace(
    BEST,
    model="small",
    accuracy=0.79,
    spent=replace(SPENT, money=0.5, hours=0.5, gpu_hours=0.25),
    make=160.5,
    use=replace(USE, money=0.2, texts_per_second=4000.0),
)
TFIDF = replace(
    SMALL, model="tf-idf", is_reference=True, spent=replace(SMALL.spent, trials=1, money=0.012)
)
RIVAL = Comparison(SMALL, 0.01, -0.02, 0.041, OPEN, 1)
CLEAR = Comparison(SMALL, 0.05, 0.02, 0.08, "A better", 1)
REFERENCE = Comparison(TFIDF, 0.06, 0.02, 0.1, "A better", 1)
FEWER = SizeStep(400, 800, 0.012, -0.01, 0.034, OPEN, 1)
ALONE = Cheaper(Outcome.ALONE)
PLAIN = Decision(4, BEST, (), None, None, ALONE, ALONE, None, 800, None, None, None, 0.25, ())


def settle(*found: Comparison, **changes: Any) -> Decision:
    """Return a decision for BEST, of whose comparisons the first is with the runner-up."""
    references = [each for each in found if each.other.is_reference]
    counterpart = references[0] if references else None
    runner_up = found[0] if found else None
    decision = replace(PLAIN, compared=found, runner_up=runner_up, counterpart=counterpart)
    return replace(decision, **changes)


# The choice


def test_the_choice_is_named_with_its_accuracy_and_interval() -> None:
    assert describe_advice(BEST) == "With 4 labels, take big with 800 texts"
    assert describe_accuracy(BEST) == (
        "it is right on 80.0\xa0% of 300 test texts (95\xa0% interval 75.0 to 84.0 for other test "
        "texts; chance 25\xa0%)."
    )
    assert "test texts on average over 3 seeds (95" in describe_accuracy(replace(BEST, seeds=3))


@pytest.mark.parametrize(
    ("decision", "said"),
    [
        (
            settle(CLEAR),
            "As trained here, with one seed, it is really better than the runner-up, small.",
        ),
        (
            settle(replace(CLEAR, seeds=3)),
            "It is really better than the runner-up, small.",
        ),
        (settle(RIVAL), "Whether it is better than the runner-up, small, is too close to call."),
        (
            settle(replace(RIVAL, other=replace(SMALL, accuracy=0.8))),
            "small is exactly as accurate: too close to call.",
        ),
        (
            settle(replace(RIVAL, verdict="B better")),
            "On the seeds that both have, small is really better.",
        ),
        (
            PLAIN,
            "Nothing else was compared with it on as many texts, so nothing says it is the best.",
        ),
        (
            settle(replace(CLEAR, other=TFIDF), best=replace(TFIDF, model="features-x")),
            "This is a reference: no fine-tuned model is more accurate. As trained here, with "
            "one seed, it is really better than the runner-up, TF-IDF.",
        ),
        (
            replace(PLAIN, best=TFIDF),
            "This is a reference: no fine-tuned model has a result with as many texts. Nothing "
            "else was compared with it on as many texts, so nothing says it is the best.",
        ),
    ],
)
def test_the_choice_never_stands_without_its_doubt(decision: Decision, said: str) -> None:
    assert describe_doubt(decision) == said


def test_the_runner_up_and_the_best_reference_are_compared() -> None:
    assert describe_sureness(settle(RIVAL, REFERENCE)) == (
        "small (the runner-up) is 1.0 point lower (95\xa0% interval \N{MINUS SIGN}2.0 to +4.1): "
        "too close to call. TF-IDF (the best reference) is 6.0 points lower (95\xa0% interval "
        "+2.0 to +10.0): a real difference with this seed. One seed: this speaks of these trained "
        "models; another seed may say otherwise."
    )


def test_a_reference_that_is_the_runner_up_is_told_once() -> None:
    found = replace(REFERENCE, seeds=4)
    assert describe_sureness(settle(found)) == (
        "TF-IDF (the runner-up and the best reference) is 6.0 points lower (95\xa0% interval +2.0 "
        "to +10.0): a real difference. 4 seeds: this speaks of the recipes, whatever the seed."
    )


def test_a_model_behind_a_reference_is_told() -> None:
    found = replace(RIVAL, other=BEST)
    decision = settle(found, best=TFIDF, counterpart=found)
    assert describe_sureness(decision).startswith(
        "big (the runner-up and the best fine-tuned model) is 1.0 point lower"
    )


def test_a_tie_and_a_rival_that_is_ahead_on_shared_seeds_are_told() -> None:
    tie = settle(replace(RIVAL, difference=0.0))
    assert "small (the runner-up) is as accurate (95" in describe_sureness(tie)
    adjusted = settle(replace(RIVAL, low=0.001))
    assert "+0.1 to +4.1): too close to call, once adjusted for all pairs." in describe_sureness(
        adjusted
    )
    ahead = settle(replace(RIVAL, difference=-0.02, low=-0.05, high=0.01))
    assert (
        "small (the runner-up) is 2.0 points higher on the seeds that both have (95\xa0% interval "
        "\N{MINUS SIGN}1.0 to +5.0): too close to call."
    ) in describe_sureness(ahead)


def test_what_else_is_not_called_worse_or_has_no_result_is_told() -> None:
    third = replace(RIVAL, other=replace(SMALL, model="third"))
    text = describe_sureness(settle(CLEAR, third, missing=("gpt2",)))
    assert "No reference has a result with as many texts. Not called worse either: third." in text
    assert text.endswith("Without a result with 4 labels: gpt2.")


def test_a_choice_that_is_no_better_than_the_majority_class_is_called_that() -> None:
    assert describe_sureness(replace(PLAIN, majority=0.8)) == (
        "Always answering the most frequent label is right on 80.0\xa0% too: nothing here has "
        "learned to tell the labels apart."
    )


# Its price


def test_the_price_in_one_sentence() -> None:
    assert describe_price(BEST, PRICES) == (
        "It cost 163.00 USD to make, and costs 1.50 USD per million texts."
    )
    unlabeled = replace(PRICES, label=None)
    assert describe_price(replace(BEST, use=None), unlabeled) == (
        "It cost 3.00 USD and 800 labels to make."
    )
    free = replace(BEST, spent=BARE, make=None, labels=None, use=replace(USE, money=None))
    assert describe_price(free, NONE) == (
        "It took 60 GPU minutes, 4 CPU hours and 800 labels to make, and takes 2 seconds per "
        f"thousand texts on {GPU} of gpu-1."
    )


def test_the_cost_to_make_is_trials_and_labels() -> None:
    assert describe_spent(BEST, PRICES) == (
        "3.00 USD for its 4 trials (60 GPU minutes and 4 CPU hours), and 800 labels (160.00 USD): "
        "together 163.00 USD. Training it once more takes 0.50 USD."
    )
    assert describe_spent(replace(BEST, seeds=3), PRICES).startswith(
        "3.00 USD for its 4 trials over 3 seeds ("
    )
    gpu_only = replace(PRICES, cpu_hour=None, label=None)
    assert describe_spent(BEST, gpu_only) == (
        "3.00 USD for its 4 trials (60 GPU minutes and 4 CPU hours), and 800 labels. Training it "
        "once more takes 0.50 USD. Only GPU hours are priced: cost.cpu_hour is not set."
    )


@pytest.mark.parametrize(
    ("spent", "prices", "said"),
    [
        (BARE, NONE, "60 GPU minutes and 4 CPU hours for its 4 trials, and 800 labels."),
        (
            replace(BARE, gap=Gap.GPU, device="NVIDIA L4"),
            PRICES,
            "60 GPU minutes and 4 CPU hours for its 4 trials, and 800 labels (160.00 USD). Its "
            "price is unknown: cost.gpu_hour has none for NVIDIA L4.",
        ),
        (
            replace(BARE, gap=Gap.CPU, gpu_hours=0.0, untimed=1),
            PRICES,
            "4 CPU hours for its 4 trials, and 800 labels (160.00 USD). Its price is unknown: "
            "cost.cpu_hour has none for its machine. Not in this: 1 trial that failed and left no "
            "time.",
        ),
        (
            replace(BARE, gpu_hours=None, cpu_hours=None, gap=Gap.SHARE, trials=1),
            NONE,
            "2 hours of trial time for its only trial, and 800 labels. This run did not record the "
            "GPUs and CPUs of its trials, so it has no price.",
        ),
        (
            replace(BARE, hours=None, gpu_hours=None, cpu_hours=None, gap=Gap.TIME, untimed=4),
            PRICES,
            "an unknown time for its 4 trials, and 800 labels (160.00 USD). Its trials left no "
            "time, so it has no price.",
        ),
    ],
)
def test_what_has_no_price_is_told_and_never_invented(
    spent: Spent, prices: Prices, said: str
) -> None:
    assert describe_spent(replace(BEST, spent=spent, make=None), prices) == said


def test_the_cost_in_use_says_where_it_was_measured() -> None:
    assert describe_use(BEST, PRICES) == (
        "1.50 USD per million texts: 500 texts per second in batches of 32; one text alone takes "
        f"4 ms (30 ms for the slowest 5 in 100), on {GPU} of gpu-1. 1 GiB of memory and 90 MiB on "
        "disk."
    )
    other = replace(USE, device=CPU, host=None, n_samples=400, memory=None, money=None, p95=None)
    assert describe_use(replace(BEST, use=other), NONE) == (
        f"500 texts per second in batches of 32; one text alone takes 4 ms, on {CPU}, with 2 CPUs. "
        "Measured with its model of 400 texts. 90 MiB on disk."
    )


@pytest.mark.parametrize(
    ("use", "said"),
    [
        (None, "Not measured: this run has no speed of use."),
        (
            replace(USE, texts_per_second=None, error="no weights"),
            "Could not be measured: no weights.",
        ),
        (
            replace(USE, money=None, gap=Gap.GPU),
            f"Its price is unknown: cost.gpu_hour has none for {GPU}.",
        ),
        (
            replace(USE, money=None, gap=Gap.SHARE),
            "Its price is unknown: the processor or its CPUs were not recorded.",
        ),
    ],
)
def test_use_that_was_not_measured_or_has_no_price_is_told(use: Use | None, said: str) -> None:
    assert said in describe_use(replace(BEST, use=use), PRICES)


# What is cheaper


FOUND = Cheaper(Outcome.FOUND, RIVAL)


def test_the_cheapest_choice_that_is_not_called_worse_has_its_doubt() -> None:
    assert describe_cheaper(settle(RIVAL, to_make=FOUND, to_run=FOUND), PRICES) == (
        "small is not called worse with this seed, and costs 0.50 instead of 3.00 USD (labels "
        "aside) to make, and 0.20 instead of 1.50 USD per million texts to use. That is no proof "
        "that it is as good: it may be up to 4.1 points worse (95\xa0% interval \N{MINUS SIGN}2.0 "
        "to +4.1)."
    )


def test_a_reference_that_is_not_called_worse_is_named_plainly() -> None:
    found = Cheaper(Outcome.FOUND, replace(RIVAL, other=TFIDF, seeds=3), ("third",))
    text = describe_cheaper(settle(RIVAL, to_make=found), PRICES)
    assert text.startswith("A reference may do: TF-IDF is not called worse, and costs 0.012 ")
    assert text.endswith("Not ranked by the cost to make, for want of comparable numbers: third.")


def test_another_choice_may_be_cheaper_to_use_than_to_make() -> None:
    use = Cheaper(Outcome.FOUND, replace(RIVAL, other=replace(SMALL, model="fast")))
    text = describe_cheaper(settle(RIVAL, to_make=FOUND, to_run=use), PRICES)
    assert "costs 0.50 instead of 3.00 USD (labels aside) to make. That" in text
    assert "fast is not called worse with this seed, and costs 0.20 instead of 1.50 USD per" in text


def test_without_prices_hours_and_seconds_are_compared() -> None:
    bare = replace(BEST, spent=BARE, make=None, use=replace(USE, money=None))
    other = replace(
        SMALL,
        spent=replace(BARE, gpu_hours=0.0, cpu_hours=0.5),
        make=None,
        use=replace(USE, money=None, texts_per_second=4000.0),
    )
    found = Cheaper(Outcome.FOUND, replace(RIVAL, other=other))
    text = describe_cheaper(settle(RIVAL, best=bare, to_make=found, to_run=found), NONE)
    assert "30 CPU minutes instead of 60 GPU minutes and 4 CPU hours to make" in text
    assert "0.25 instead of 2 seconds per thousand texts to use" in text
    old = replace(BARE, gpu_hours=None, cpu_hours=None, hours=0.2)
    found = Cheaper(Outcome.FOUND, replace(RIVAL, other=replace(other, spent=old)))
    text = describe_cheaper(settle(RIVAL, best=bare, to_make=found), NONE)
    assert "12 minutes instead of 2 hours of trial time to make" in text


@pytest.mark.parametrize(
    ("make", "use", "said"),
    [
        (
            Outcome.CHEAPEST,
            Outcome.CHEAPEST,
            "Nothing else that was compared costs less to make or to use.",
        ),
        (Outcome.WORSE, Outcome.WORSE, "All that costs less to make or to use is called worse."),
        (
            Outcome.WORSE,
            Outcome.CHEAPEST,
            "All that costs less to make is called worse. Nothing else that was compared costs "
            "less to use.",
        ),
        (Outcome.WORSE, Outcome.UNKNOWN, "All that costs less to make is called worse."),
        (
            Outcome.UNKNOWN,
            Outcome.CHEAPEST,
            "What it takes to make is unknown, so nothing can be called cheaper. Nothing else that "
            "was compared costs less to use.",
        ),
        (Outcome.ALONE, Outcome.ALONE, ""),
    ],
)
def test_where_nothing_is_cheaper_that_is_told(make: Outcome, use: Outcome, said: str) -> None:
    decision = settle(CLEAR, to_make=Cheaper(make), to_run=Cheaper(use))
    assert describe_cheaper(decision, PRICES) == said


def test_how_much_worse_the_cheaper_one_may_be_follows_its_interval() -> None:
    ahead = Cheaper(Outcome.FOUND, replace(RIVAL, difference=-0.02, low=-0.04, high=0.0))
    text = describe_cheaper(settle(RIVAL, to_make=ahead), PRICES)
    assert "it was ahead only on the seeds that both have (95" in text
    adjusted = Cheaper(Outcome.FOUND, replace(RIVAL, low=0.002, high=0.06))
    text = describe_cheaper(settle(RIVAL, to_make=adjusted), PRICES)
    assert text.endswith(
        "by the interval of this pair alone it is 0.2 to 6.0 points worse, and only the adjustment "
        "for all pairs leaves it open."
    )


# Fewer and more texts


def test_fewer_texts_that_are_not_called_worse_have_their_doubt() -> None:
    assert describe_fewer(replace(PLAIN, fewer=FEWER), PRICES) == (
        "400 are not called worse than 800, and save 400 labels (80.00 USD): 800 bring +1.2 "
        "points, too close to call. That is no proof that they are enough: it may be up to 3.4 "
        "points worse (95\xa0% interval \N{MINUS SIGN}1.0 to +3.4)."
    )


def test_more_texts_that_are_not_called_better_are_told() -> None:
    more = replace(FEWER, smaller=800, larger=1600, gain=-0.03, low=-0.05, high=-0.01)
    more = replace(more, verdict="B better")
    assert describe_fewer(replace(PLAIN, fewer=more), NONE) == (
        "More than 800 are not called better: 1,600 bring \N{MINUS SIGN}3.0 points (95\xa0% "
        "interval \N{MINUS SIGN}5.0 to \N{MINUS SIGN}1.0): a real loss with this seed."
    )


def test_where_each_smaller_number_is_worse_that_is_told() -> None:
    step = replace(FEWER, verdict="A better")
    assert describe_fewer(replace(PLAIN, last_step=step), NONE) == (
        "Any smaller number is called worse than 800."
    )
    assert describe_fewer(PLAIN, NONE) == ""


MORE = MoreSeeds("python -m sweep.run --resume", 4, 7920.0)


def test_seeds_texts_and_prices_may_change_the_answer() -> None:
    step = replace(FEWER, gain=0.03, low=0.01, high=0.05, verdict="A better", seeds=2)
    beyond = Extrapolation(1600, 0.83, 0.8, 0.86, weak=True)
    decision = settle(RIVAL, last_step=step, extrapolation=beyond)
    assert describe_changes(decision, PRICES, MORE) == (
        "Another seed may turn the order: 4 more take about 2.2 h at the pace of this run. From "
        "400 to 800 texts, accuracy changed by +3.0 points (95\xa0% interval +1.0 to +5.0; a real "
        "gain) for 400 labels (80.00 USD). With 1,600 texts, 83.0\xa0% would be expected "
        "(extrapolated, 95\xa0% interval 80.0 to 86.0; weak evidence, from too few sizes) for "
        "another 800 labels (160.00 USD)."
    )


def test_the_step_to_more_texts_that_were_tried_comes_before_the_last_one() -> None:
    ahead = replace(FEWER, smaller=800, larger=1600, seeds=5)
    decision = settle(replace(CLEAR, seeds=5), last_step=FEWER, next_step=ahead)
    assert describe_changes(decision, PRICES, None).startswith("From 800 to 1,600 texts, accuracy")
    assert describe_changes(replace(decision, fewer=ahead), PRICES, None) == ""


def test_few_seeds_that_tell_two_apart_would_be_surer_with_more() -> None:
    few = settle(replace(CLEAR, seeds=3))
    assert describe_changes(few, PRICES, None) == "More seeds would make it surer."
    one = settle(CLEAR)
    said = "More seeds would show whether it holds for the recipes."
    assert describe_changes(one, PRICES, None) == said
    still_open = settle(replace(RIVAL, seeds=3))
    assert describe_changes(still_open, PRICES, None) == "More seeds may turn the order."


def test_missing_prices_are_asked_for() -> None:
    text = describe_changes(PLAIN, NONE, None)
    assert text == (
        "Prices of hours (cost.gpu_hour, cost.cpu_hour) and of labels (cost.label) are not set; "
        "--resume with --set writes this report anew with them, without training."
    )
    unlabeled = replace(PRICES, label=None)
    assert describe_changes(PLAIN, unlabeled, None).startswith("Prices of labels (cost.label) are")
    # Prices of hours would not help a run that did not record its processors.
    old = replace(BEST, spent=replace(BARE, gap=Gap.SHARE))
    text = describe_changes(replace(PLAIN, best=old), NONE, None)
    assert text.startswith("Prices of labels (cost.label) are")


def test_the_number_of_texts_from_which_another_choice_is_cheaper_is_told() -> None:
    # 2.5 USD more to make, 1.3 USD less for a million texts.
    dear = replace(SMALL, model="dear", make=160.5, use=replace(USE, money=2.8))
    found = Cheaper(Outcome.FOUND, replace(RIVAL, other=dear))
    turn = find_turn(BEST, dear)
    assert turn == pytest.approx(2.5e6 / 1.3)
    text = describe_changes(settle(RIVAL, to_make=found), PRICES, None)
    assert (
        "From about 1.9 million classified texts on, big is cheaper, all in all, than dear." in text
    )
    assert find_turn(BEST, SMALL) is None
    assert find_turn(BEST, replace(SMALL, use=None)) is None
    assert find_turn(replace(BEST, make=None), dear) is None


def test_what_the_decision_rests_on_names_the_families() -> None:
    assert (
        "adjusted by Holm for all 12 pairs of contenders and references or all 3 pairs of sample "
        "sizes of the grid"
    ) in describe_basis(12, 3)
    assert "Holm" not in describe_basis(1, 0)


def test_a_decision_is_told_in_parts_and_what_does_not_apply_is_left_out() -> None:
    told = tell(settle(RIVAL, to_make=FOUND, to_run=FOUND, fewer=FEWER), PRICES, None)
    assert [term for term, _ in told.parts] == [
        "How sure",
        "To make",
        "To use",
        "Cheaper",
        "Fewer texts",
        "What may change it",
    ]
    alone = tell(replace(PLAIN, best=replace(BEST, seeds=9)), PRICES, None)
    assert [term for term, _ in alone.parts] == ["To make", "To use"]


# From tables


def build(rows: list[dict[str, Any]], *pairs: tuple[Any, ...], sizes: Any = ()) -> list[Decision]:
    """Decide on choices with ``rows``; ``pairs`` are (samples, A, B, A minus B, verdict)."""
    choices = pd.DataFrame([make_row(**row) for row in rows])
    table = [
        (4, n, a, b, 1, 0, 300, 0, 0, d, d - 0.03, d + 0.03, 0.5, 0.5, verdict, "open")
        for n, a, b, d, verdict in pairs
    ]
    frame = pd.DataFrame(table, columns=PAIR_COLUMNS)
    steps = [
        (model, 4, small, large, 1, 1, 300, gain, gain - 0.02, gain + 0.02, 0.5, 0.5, verdict)
        for model, small, large, gain, verdict in sizes
    ]
    cells = choices[["model", "n_labels"]]
    return decide(choices, cells, frame, pd.DataFrame(steps, columns=SIZE_COLUMNS), pd.DataFrame())


def make_row(model: str, accuracy: float, n: int = 800, **values: Any) -> dict[str, Any]:
    kind = "baseline" if model in ("tf-idf", "majority") else "model"
    costs = "hours gpu_hours cpu_hours money again labels make texts_per_second batch p50 p95"
    use = "use_memory size use_cpus use_samples use"
    texts = "gap gap_device use_device use_host use_error use_gap"
    empty: dict[str, Any] = dict.fromkeys(f"{costs} {use}".split(), math.nan)
    empty |= dict.fromkeys(texts.split())
    facts = {"n_labels": 4, "n_samples": n, "kind": kind, "n_test": 300, "chance": 0.25}
    ends = {"accuracy_low": accuracy - 0.05, "accuracy_high": accuracy + 0.05}
    counts = {"seeds_done": 1, "trials": 2, "untimed": 0}
    return {**empty, **facts, **ends, **counts, "model": model, "accuracy": accuracy, **values}


def test_the_most_accurate_is_taken_and_the_cheapest_that_is_not_called_worse_is_found() -> None:
    (decision,) = build(
        [
            {"model": "big", "accuracy": 0.8, "make": 9.0},
            {"model": "mid", "accuracy": 0.79, "make": 5.0},
            {"model": "tf-idf", "accuracy": 0.78, "make": 1.0},
            {"model": "majority", "accuracy": 0.25, "make": 0.0},
        ],
        (800, "big", "mid", 0.01, OPEN),
        (800, "tf-idf", "big", -0.02, "B better"),
    )
    assert decision.best.model == "big"
    assert decision.runner_up and decision.runner_up.other.model == "mid"
    assert decision.counterpart and decision.counterpart.verdict == "A better"
    assert decision.to_make.found and decision.to_make.found.other.model == "mid"
    assert decision.to_run == Cheaper(Outcome.UNKNOWN)
    assert decision.majority == 0.25


def test_a_reference_competes_and_may_win() -> None:
    (decision,) = build(
        [{"model": "big", "accuracy": 0.7}, {"model": "tf-idf", "accuracy": 0.8}],
        (800, "big", "tf-idf", -0.1, "B better"),
    )
    assert decision.best.model == "tf-idf"
    assert decision.counterpart and decision.counterpart.other.model == "big"
    assert decision.counterpart.difference == pytest.approx(0.1)


def test_of_equally_accurate_ones_the_one_with_fewer_texts_then_less_time_is_taken() -> None:
    rows = [
        {"model": "slow", "accuracy": 0.8, "hours": 3.0},
        {"model": "quick", "accuracy": 0.8, "hours": 1.0},
    ]
    (decision,) = build(rows, (800, "slow", "quick", 0.0, OPEN))
    assert decision.best.model == "quick"
    assert decision.to_make == Cheaper(Outcome.CHEAPEST)
    (decision,) = build([*rows, {"model": "slow", "accuracy": 0.8, "n": 400, "hours": 9.0}])
    assert decision.best.n_samples == 400


def test_without_money_gpu_hours_rank_before_cpu_hours() -> None:
    (decision,) = build(
        [
            {"model": "big", "accuracy": 0.8, "gpu_hours": 1.0, "cpu_hours": 1.0},
            {"model": "small", "accuracy": 0.79, "gpu_hours": 0.5, "cpu_hours": 9.0},
            {"model": "tf-idf", "accuracy": 0.78, "gpu_hours": 0.0, "cpu_hours": 9.0},
            {"model": "odd", "accuracy": 0.78},
        ],
        (800, "big", "small", 0.01, OPEN),
        (800, "big", "tf-idf", 0.02, OPEN),
        (800, "big", "odd", 0.02, OPEN),
    )
    assert decision.to_make.found and decision.to_make.found.other.model == "tf-idf"
    assert decision.to_make.unknown == ("odd",)


def test_speeds_are_compared_on_the_same_processor_alone() -> None:
    served = {"use_samples": 800, "use_device": CPU, "use_host": "w"}
    (decision,) = build(
        [
            {"model": "big", "accuracy": 0.8, "texts_per_second": 10.0, **served},
            {"model": "other", "accuracy": 0.8, "n": 800, "texts_per_second": 9e9, **served,
             "use_device": GPU},
            {"model": "small", "accuracy": 0.7, "texts_per_second": 20.0, **served},
        ],
        (800, "big", "other", 0.0, OPEN),
        (800, "big", "small", 0.1, "A better"),
    )  # fmt: skip
    assert decision.to_run == Cheaper(Outcome.WORSE, None, ("other",))


def test_the_fewest_texts_not_called_worse_than_the_most_are_found() -> None:
    rows = [
        {"model": "big", "accuracy": a, "n": n} for n, a in ((400, 0.7), (800, 0.8), (1600, 0.79))
    ]
    sizes = [
        ("big", 400, 800, 0.1, "A better"),
        ("big", 400, 1600, 0.09, "A better"),
        ("big", 800, 1600, -0.01, OPEN),
    ]
    (decision,) = build(rows, sizes=sizes)
    assert decision.best.n_samples == 800
    assert decision.fewer and decision.fewer.smaller == 800
    assert decision.next_step == decision.fewer
    assert decision.last_step and decision.last_step.smaller == 400
    assert decision.most_samples == 1600


def test_nothing_but_the_majority_class_makes_no_decision() -> None:
    assert build([{"model": "majority", "accuracy": 0.25}]) == []


# From a run


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_fake_run(tmp_path_factory.mktemp("runs") / "fake", counts=(2, 16))


@pytest.fixture(scope="module")
def study(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Study:
    run = write_fake_run(tmp_path_factory.mktemp("runs") / "priced", counts=(2, 16))
    speeds = {"qwen2-tiny": 800.0, "tf-idf": 2e4, "gemma3-tiny": 0.0}
    return build_study(load_run(price_run(run, gpus=0.25, speeds=speeds, device=GPU)))


def test_the_largest_label_count_comes_first(study: Study) -> None:
    assert [decision.n_labels for decision in study.decisions] == [16, 2]


def test_all_trials_of_a_cell_count_and_those_without_a_time_are_told(study: Study) -> None:
    results = study.run.results
    for row in study.choices.itertuples():
        own = results[
            results["model"].eq(row.model)
            & results["n_labels"].eq(row.n_labels)
            & results["n_samples"].eq(row.n_samples)
        ]
        hours = own["wall_seconds"].sum() / 3600
        rate = 0.08 if row.kind == "baseline" else 0.25 * 2 + 0.08
        assert row.trials == len(own)
        assert row.untimed == own["wall_seconds"].isna().sum()
        assert row.money == pytest.approx(rate * hours)
        assert row.make == pytest.approx(rate * hours + 0.2 * row.n_samples)


def test_use_is_priced_by_the_processor_that_scored(study: Study) -> None:
    uses = study.choices.drop_duplicates(["model", "n_labels"]).set_index(["model", "n_labels"])
    assert uses.loc[("qwen2-tiny", 2), "use"] == pytest.approx(1e6 / 800 / 3600 * (2 + 0.08))
    assert uses.loc[("tf-idf", 2), "use"] == pytest.approx(1e6 / 2e4 / 3600 * 0.08)
    assert uses.loc[("gemma3-tiny", 2), "use_error"] == "the model did not load again"
    assert math.isnan(uses.loc[("llama-tiny", 2), "use"])


def test_an_older_run_has_hours_and_no_money(folder: Path) -> None:
    study = build_study(load_run(folder))
    assert find_prices(study.run) == NONE
    priced = tabulate_choices(study.run, study.cells, PRICES)
    assert priced["money"].isna().all()
    assert set(priced["gap"]) == {Gap.SHARE}
    assert priced["hours"].notna().all()
