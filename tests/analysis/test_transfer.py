"""Tuning with few texts: the losses, each sentence that a run can call for, and the report."""

import math
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from browsing import needs_chromium, visit
from fake_run import write_fake_run

from analysis.load import load_run
from analysis.page.contents import collect_transfer
from analysis.page.html import build_page, load_library
from analysis.page.transfer import describe_transfer
from analysis.report import write_report
from analysis.stats.transfer import (
    CASE_COLUMNS,
    Transfer,
    compare_sizes,
    summarize_transfer,
    tabulate_transfer,
)

# Status, epochs of validation accuracy, and test accuracy.
Ended = tuple[str, list[float], float]
NONE: Ended = ("no result yet", [], math.nan)
FAILED: Ended = ("oom", [], math.nan)


def finish(*epochs: float, test: float = 0.5) -> Ended:
    return "finished", list(epochs), test


def stop(*epochs: float) -> Ended:
    return "stopped", list(epochs), math.nan


def make_tables(cells: dict[tuple[str, int, int, int], list[Ended]]) -> Any:
    """Return plan, results and history; keys are model, labels, samples and seed, and a cell's
    trials are its candidates. The finished trial with the highest validation accuracy is best."""
    plan, results, history = [], [], []
    for key, trials in cells.items():
        finals = [max(epochs) if how == "finished" else -1 for how, epochs, _ in trials]
        for index, (how, epochs, test) in enumerate(trials):
            trial_id = f"{key}-{index}"
            cell = dict(zip(("model", "n_labels", "n_samples", "seed"), key, strict=True))
            candidate = {"candidate": index, "lora_rank": 4 * 2**index, "learning_rate": 1e-3}
            plan.append(
                {"trial_id": trial_id, "cell_id": str(key), "repeat_of": None, **cell, **candidate}
            )
            best = finals[index] > -1 and finals.index(max(finals)) == index
            facts = {"status": how, "best_of_cell": best, "test_accuracy": test}
            facts |= {"epochs_run": len(epochs), "val_accuracy": max(epochs, default=math.nan)}
            if how != NONE[0]:
                results.append({"trial_id": trial_id, **facts})
            history += [
                {"trial_id": trial_id, "epoch": epoch, "val_accuracy": value}
                for epoch, value in enumerate(epochs, start=1)
            ]
    columns = ["trial_id", "status", "best_of_cell", "test_accuracy", "epochs_run", "val_accuracy"]
    return (
        pd.DataFrame(plan),
        pd.DataFrame(results, columns=columns),
        pd.DataFrame(history, columns=["trial_id", "epoch", "val_accuracy"]),
    )


def compare(*pairs: tuple[list[Ended], list[Ended]], seeds: int = 1) -> pd.DataFrame:
    """Return the cases of one contender per pair (two seeds: per two pairs) of cells with 800 and
    2400 texts."""
    cells = {}
    for i, (small, large) in enumerate(pairs):
        cells[f"m{i // seeds}", 2, 800, i % seeds] = small
        cells[f"m{i // seeds}", 2, 2400, i % seeds] = large
    return compare_sizes(*make_tables(cells))


def lose(points: float) -> tuple[list[Ended], list[Ended]]:
    """Return cells whose winners differ, the smaller's losing ``points`` of test accuracy."""
    small = [finish(0.7), finish(0.6)]
    return small, [finish(0.8, test=0.8 - points / 100), finish(0.9, test=0.8)]


KEEP = ([finish(0.7), finish(0.6)], [finish(0.9), finish(0.8)])
STOP = ([finish(0.7), finish(0.6)], [stop(0.5, 0.6), finish(0.55, 0.65, 0.7, 0.68)])
FAIL = ([finish(0.7), finish(0.6)], [FAILED, finish(0.7)])
WAIT = ([finish(0.7), finish(0.6)], [finish(0.7), NONE])


def describe(*pairs: tuple[list[Ended], list[Ended]], seeds: int = 1) -> str:
    found = summarize_transfer(compare(*pairs, seeds=seeds))
    assert found is not None
    return describe_transfer(found).replace("\N{NO-BREAK SPACE}", " ")


def summarize(*pairs: tuple[list[Ended], list[Ended]], seeds: int = 1) -> Transfer:
    found = summarize_transfer(compare(*pairs, seeds=seeds))
    assert found is not None
    return found


# The cases


def test_the_loss_is_in_test_accuracy_where_both_candidates_have_it() -> None:
    (case,) = compare(lose(3)).itertuples()
    assert (case.outcome, case.picked, case.best) == ("measured", 0, 1)
    assert (case.picked_rank, case.best_rank, case.candidates) == (4, 8, 2)
    assert (case.smaller, case.larger) == (800, 2400)
    assert case.loss == pytest.approx(0.03)


def test_a_candidate_stopped_early_loses_at_most_what_it_is_behind_the_winners_end() -> None:
    (case,) = compare(STOP).itertuples()
    assert case.outcome == "bounded"
    assert case.loss == pytest.approx(0.7 - 0.6)
    assert case.behind == pytest.approx(0.65 - 0.6)


def test_the_same_candidate_loses_nothing_and_a_failed_one_has_no_loss() -> None:
    same, failed = compare(KEEP, FAIL).itertuples()
    assert (same.outcome, same.loss) == ("same", 0)
    assert failed.outcome == "failed"
    assert math.isnan(failed.loss)


@pytest.mark.parametrize(
    "pair",
    [WAIT, WAIT[::-1], ([FAILED, FAILED], KEEP[1]), (KEEP[0], [FAILED, FAILED])],
)
def test_a_case_is_open_until_both_cells_have_ended_with_a_winner(
    pair: tuple[list[Ended], list[Ended]],
) -> None:
    cases = compare(pair)
    assert cases["outcome"].tolist() == ["open"]
    assert summarize_transfer(cases) is None
    assert tabulate_transfer(cases).empty


def test_the_smallest_and_the_largest_size_of_the_run_are_compared() -> None:
    cells = {("m", 2, n, 0): KEEP[0] for n in (1600, 2400, 800)}
    (case,) = compare_sizes(*make_tables(cells)).itertuples()
    assert (case.smaller, case.larger) == (800, 2400)


def test_one_sample_size_or_one_candidate_leaves_nothing_to_say() -> None:
    one_size = {("m", k, 800, 0): KEEP[0] for k in (2, 4)}
    one_candidate = {("m", 2, n, 0): [finish(0.7)] for n in (800, 2400)}
    for cells in (one_size, one_candidate):
        cases = compare_sizes(*make_tables(cells))
        assert cases.empty
        assert list(cases) == CASE_COLUMNS
        assert collect_transfer(cases)["transfer"] is None


def test_a_contender_with_one_candidate_is_left_out_beside_one_with_two() -> None:
    cells = {(m, 2, n, 0): KEEP[0][:k] for n in (800, 2400) for m, k in (("one", 1), ("two", 2))}
    assert compare_sizes(*make_tables(cells))["model"].tolist() == ["two"]


# The summary


def test_the_interval_is_students_over_contenders_and_label_counts() -> None:
    found = summarize(lose(1), lose(2), lose(4), KEEP)
    assert found.loss == pytest.approx(0.07 / 4)
    values = np.array([0.01, 0.02, 0.04, 0])
    half = 3.182446 * values.std(ddof=1) / 2
    assert (found.low, found.high) == pytest.approx((0.0175 - half, 0.0175 + half), abs=1e-6)


def test_seeds_of_one_contender_and_label_count_are_averaged_first() -> None:
    found = summarize(lose(1), lose(3), lose(4), lose(4), lose(5), KEEP, seeds=2)
    assert (found.cases, found.other, found.units) == (6, 5, 3)
    once = summarize(lose(2), lose(4), lose(2.5))
    assert (found.low, found.high) == pytest.approx((once.low, once.high))


def test_seeds_are_the_unit_where_there_is_one_contender_and_label_count() -> None:
    found = summarize(lose(1), lose(3), lose(5), seeds=3)
    assert found.units == 3
    assert found.loss == pytest.approx(0.03)
    assert found.low < found.loss < found.high


def test_fewer_than_three_losses_have_no_interval() -> None:
    assert math.isnan(summarize(lose(1), lose(2), *[KEEP] * 10).high)
    assert not math.isnan(summarize(lose(1), lose(2), lose(3), *[KEEP] * 9).high)


def test_a_candidate_drawn_at_random_differs_in_all_but_one_of_the_candidates() -> None:
    three = [finish(0.7), finish(0.6), finish(0.5)]
    assert summarize(KEEP, (three, three)).by_chance == pytest.approx(1 / 2 + 2 / 3)


def test_the_interval_of_shown_means_covers_as_often_as_it_says() -> None:
    rng, covered = np.random.default_rng(5), []
    frame = compare(*[KEEP] * 12)
    for _ in range(400):
        losses = np.where(rng.random(12) < 1 / 3, rng.normal(0.015, 0.02, 12), 0)
        found = summarize_transfer(frame.assign(loss=losses))
        if found and not math.isnan(found.high):
            covered.append(found.low <= 0.005 <= found.high)
    assert len(covered) > 250
    assert 0.9 <= np.mean(covered) <= 0.99


def test_a_contenders_row_counts_its_cases() -> None:
    cases = compare(KEEP, lose(2), STOP, FAIL, WAIT).assign(model="m")
    (row,) = tabulate_transfer(cases).itertuples()
    assert (row.cases, row.same, row.measured, row.bounded, row.failed) == (4, 1, 1, 1, 1)
    assert row.loss == pytest.approx((0 + 0.02 + 0.1) / 3)


# The sentences


def test_the_sentence_of_the_same_picks_names_the_share_that_may_differ() -> None:
    assert describe(*[KEEP] * 12) == (
        "Tuning with 800 texts would have picked the same candidate as tuning with 2400 in all 12 "
        "cases (a candidate drawn at random would differ in 6.0), so training it once with 2400 "
        "would have lost nothing here. Elsewhere it may: the 95 % interval of the share of "
        "different picks ends at 24.2 %."
    )


def test_the_sentence_of_one_case_with_the_same_pick_promises_nothing() -> None:
    text = describe(KEEP)
    assert "in the only case, so training it once" in text
    assert "ends at 79.3 %." in text


def test_the_sentence_of_losses_around_zero_calls_none() -> None:
    assert describe(lose(3), lose(-1), lose(1), *[KEEP] * 3) == (
        "Tuning with 800 texts would have picked a different candidate from tuning with 2400 in 3 "
        "of 6 cases (a candidate drawn at random would differ in 3.0) and lost 0.5 points of test "
        "accuracy with 2400 on average (95 % interval of the loss \N{MINUS SIGN}0.9 to +1.9: too "
        "close to call, with a loss of up to 1.9 not ruled out)."
    )


def test_the_sentence_of_sure_losses_says_that_tuning_paid() -> None:
    text = describe(lose(3), lose(4), lose(5))
    assert text.endswith(
        "lost 4.0 points of test accuracy with 2400 on average (95 % interval of the loss +1.5 to "
        "+6.5: tuning with 2400 paid)."
    )


def test_the_sentence_of_sure_gains_says_that_few_texts_were_enough() -> None:
    text = describe(lose(-3), lose(-4), lose(-5))
    assert "gained 4.0 points of test accuracy with 2400 on average" in text
    assert text.endswith("\N{MINUS SIGN}6.5 to \N{MINUS SIGN}1.5: tuning with 800 was enough).")


def test_the_sentence_of_a_few_losses_has_no_interval() -> None:
    assert describe(lose(3), KEEP, KEEP).endswith(
        "lost 1.0 points of test accuracy with 2400 on average (no interval: of the 3 values, "
        "too few differ from 0 or from each other to speak of others)."
    )


def test_the_sentence_of_one_case_with_a_loss_has_no_interval_and_no_average() -> None:
    assert describe(lose(3)) == (
        "Tuning with 800 texts would have picked a different candidate from tuning with 2400 in "
        "the only case and lost 3.0 points of test accuracy with 2400 (no interval: one value says "
        "nothing about others)."
    )


def test_the_sentence_of_a_stopped_candidate_says_at_most() -> None:
    assert describe(STOP, KEEP).partition(" and ")[2] == (
        "lost at most 5.0 points of accuracy with 2400 on average (no interval: of the 2 values, "
        "too few differ from 0 or from each other to speak of others). In 1 case ASHA stopped "
        "that candidate with 2400 texts; it counts with the validation accuracy it had reached, "
        "and trained to the end it may lose less. After as many epochs as it ran, the winner was "
        "5.0 points ahead."
    )


def test_the_interval_of_a_bound_has_an_upper_end_alone() -> None:
    found = summarize(STOP, STOP, lose(2), lose(6))
    text = describe(STOP, STOP, lose(2), lose(6))
    assert "lost at most 7.0 points of accuracy with 2400 on average (95 % interval" in text
    assert f" of the loss: at most +{100 * found.high:.1f}). In 2 cases" in text
    assert text.endswith("the winner was 5.0 points ahead on average.")


def test_the_sentence_of_a_bound_below_zero_says_at_least() -> None:
    ahead = (STOP[0], [stop(0.75), finish(0.6, 0.7)])
    text = describe(ahead)
    assert "gained at least 5.0 points of accuracy with 2400 (no interval" in text
    assert text.endswith("After as many epochs as it ran, the winner was 15.0 points behind.")


def test_the_sentence_counts_candidates_that_failed_with_more_texts() -> None:
    text = describe(FAIL, FAIL, KEEP)
    assert " in 2 of 3 cases " in text
    assert text.endswith(
        "In 2 cases that candidate failed with 2400 texts, so training it alone would have given "
        "no model; no mean contains this."
    )


def test_the_sentence_has_no_loss_where_every_candidate_failed() -> None:
    text = describe(FAIL)
    assert "in the only case. In 1 case that candidate failed" in text
    assert "points" not in text


def test_the_sentence_counts_what_is_left_out() -> None:
    assert describe(KEEP, WAIT, WAIT).endswith("Left out for want of results: 2 cases.")


# The report


def read_part(page: str) -> str:
    """Return the text of the report's part about tuning with few texts."""
    part = page.replace(load_library(), "").partition("<h3>Would tuning")[2].partition("<h3>")[0]
    return " ".join(re.sub(r"<[^>]+>", " ", part).split())


def write_runs(folder: Path, samples: Sequence[int]) -> str:
    return build_page(load_run(write_fake_run(folder / "run", counts=(2,), samples=samples)))


def test_the_report_answers_among_the_trials_and_not_on_its_first_screen(tmp_path: Path) -> None:
    page = write_runs(tmp_path, (800, 2400))
    place = page.index('id="transfer"')
    assert page.index('id="trials"') < place < page.index('id="table-trials"')
    assert "Tuning with 800 texts would have picked" in read_part(page)


def test_the_report_of_one_sample_size_says_nothing_of_it(tmp_path: Path) -> None:
    page = write_runs(tmp_path, (800,))
    assert read_part(page) == ""
    assert "table-transfer" not in page


def test_the_report_before_the_first_result_says_nothing_of_it(tmp_path: Path) -> None:
    run = write_fake_run(tmp_path / "run", counts=(2,), samples=(800, 2400), end_trials=False)
    assert read_part(build_page(load_run(run))) == ""


@needs_chromium
def test_the_tables_show_each_case_and_count_them(browser: Any, tmp_path: Path) -> None:
    run = write_fake_run(tmp_path / "run", counts=(2, 16), samples=(800, 1600), seeds=(0, 1))
    loaded = load_run(run)
    cases = compare_sizes(loaded.plan, loaded.results, loaded.history)
    size = {"width": 390, "height": 844}
    seen = visit(browser, write_report(run), viewport=size)
    seen.page.evaluate("document.querySelectorAll('details').forEach(d => { d.open = true; })")
    rows = seen.page.locator("#table-transfer tbody tr").all_inner_texts()
    assert len(rows) == len(cases) == 4 * 2 * 2
    assert sum("no result yet" in row for row in rows) == cases["outcome"].eq("open").sum() == 2
    counts = seen.page.locator("#table-transfer-models tbody tr td:nth-child(2)")
    assert sum(map(int, counts.all_inner_texts())) == len(cases) - 2
    assert seen.page.evaluate("document.documentElement.scrollWidth") <= 390
    assert seen.complaints == []
