"""Paired comparisons, extrapolation, costs and confusion, each against numbers computed by hand."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from fake_run import BASELINES, COUNTS, MODELS, SAMPLES, TEST_TEXTS, write_fake_run
from sklearn.metrics import confusion_matrix, f1_score

from analysis.load import Run, load_run
from analysis.stats.confusion import count_confusions, list_confusions, score_labels
from analysis.stats.costs import (
    compare_forecast,
    compare_memory,
    count_epochs,
    list_failures,
    melt_costs,
    tabulate_costs,
)
from analysis.stats.extrapolation import extrapolate, fit_power_laws, tabulate_forecast
from analysis.stats.pairs import (
    compare_models,
    mark_correct,
    measure_steps,
    orient_pairs,
    swap_pairs,
)
from analysis.study import Study, build_study
from sweep.verdicts.holm import adjust_holm


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    return load_run(write_fake_run(tmp_path_factory.mktemp("runs") / "fake"))


@pytest.fixture(scope="module")
def study(run: Run) -> Study:
    return build_study(run)


def make_predictions(right: dict[tuple[int, str, int], list[int]]) -> pd.DataFrame:
    """Return predictions with two labels; keys are samples, model and seed."""
    rows = [
        {
            "n_labels": 2,
            "n_samples": samples,
            "model": model,
            "seed": seed,
            "item": item,
            "label": "a",
            "predicted": "a" if hit else "b",
        }
        for (samples, model, seed), hits in right.items()
        for item, hit in enumerate(hits)
    ]
    return pd.DataFrame(rows)


# Pairs


def test_a_pair_is_compared_text_by_text() -> None:
    hits = {(800, "x", 0): [1] * 9 + [0, 1, 1], (800, "y", 0): [0] * 9 + [1, 1, 0]}
    (row,) = compare_models(mark_correct(make_predictions(hits)), ["x", "y"]).itertuples()
    assert (row.only_a, row.only_b, row.n_test) == (10, 1, 12)
    assert row.difference == pytest.approx(9 / 12)
    assert row.p == pytest.approx(2 * (1 + 11) / 2**11)
    assert row.low < row.difference < row.high
    assert row.verdict == "A better"


def test_only_seeds_that_both_models_have_are_compared() -> None:
    hits = {(800, "x", 0): [1, 1], (800, "x", 1): [0, 0], (800, "y", 0): [1, 0]}
    (row,) = compare_models(mark_correct(make_predictions(hits)), ["x", "y"]).itertuples()
    assert (row.seeds, row.only_a, row.only_b) == (1, 1, 0)
    hits = {(800, "x", 1): [0, 0], (800, "y", 0): [1, 0]}
    assert compare_models(mark_correct(make_predictions(hits)), ["x", "y"]).empty


def test_a_difference_that_hangs_on_one_of_two_seeds_is_too_close_to_call() -> None:
    right, wrong = [1] * 200, [0] * 60 + [1] * 140
    hits = {
        (800, "x", 0): right,
        (800, "x", 1): right,
        (800, "y", 0): wrong,
        (800, "y", 1): right,
    }
    (row,) = compare_models(mark_correct(make_predictions(hits)), ["x", "y"]).itertuples()
    assert (row.seeds, row.only_a, row.only_b) == (2, 60, 0)
    assert row.verdict == "too close to call"
    assert row.low < 0 < row.high
    first = {key: value for key, value in hits.items() if key[2] == 0}
    (alone,) = compare_models(mark_correct(make_predictions(first)), ["x", "y"]).itertuples()
    assert (alone.seeds, alone.verdict) == (1, "A better")


def test_a_difference_that_every_seed_shows_is_real() -> None:
    rng = np.random.default_rng(0)
    hits = {
        (800, model, seed): rng.binomial(1, chance, 400).tolist()
        for model, chance in (("x", 0.9), ("y", 0.7))
        for seed in range(5)
    }
    (row,) = compare_models(mark_correct(make_predictions(hits)), ["x", "y"]).itertuples()
    assert (row.seeds, row.verdict) == (5, "A better")


def test_texts_that_one_seed_lacks_are_not_compared() -> None:
    hits = {(800, m, s): [1, 0, 1, 1] for m in "xy" for s in (0, 1)}
    hits[800, "y", 1] = [0, 0, 1]
    (row,) = compare_models(mark_correct(make_predictions(hits)), ["x", "y"]).itertuples()
    assert (row.seeds, row.n_test, row.only_a) == (2, 3, 1)


def test_models_without_a_common_text_are_no_pair() -> None:
    predictions = make_predictions({(800, "x", 0): [1, 1], (800, "y", 0): [1, 0]})
    predictions.loc[predictions["model"].eq("y"), "item"] += 2
    assert compare_models(mark_correct(predictions), ["x", "y"]).empty


def test_every_pair_of_the_grid_is_adjusted_for_all_of_them(study: Study) -> None:
    rivals = len(MODELS) + 1
    full = len(COUNTS) * len(SAMPLES) * rivals * (rivals - 1) // 2
    assert len(study.pairs) == full - (rivals - 1)
    assert "majority" not in {*study.pairs["model_a"], *study.pairs["model_b"]}
    expected = adjust_holm(study.pairs["p"].to_numpy())
    assert study.pairs["p_holm"].tolist() == expected.tolist()


def test_a_difference_is_that_of_the_accuracies_in_the_table(run: Run, study: Study) -> None:
    best = run.results[run.results["best_of_cell"]]
    accuracy = best.set_index(["n_labels", "n_samples", "model"])["test_accuracy"]
    for row in study.pairs.itertuples():
        place = (row.n_labels, row.n_samples)
        expected = accuracy[(*place, row.model_a)] - accuracy[(*place, row.model_b)]
        assert row.difference == pytest.approx(expected)
        assert row.only_a - row.only_b == pytest.approx(expected * TEST_TEXTS)


def test_turning_a_pair_twice_leaves_it(study: Study) -> None:
    turned = swap_pairs(study.pairs)
    assert turned["difference"].tolist() == (-study.pairs["difference"]).tolist()
    assert (turned["low"] <= turned["high"]).all()
    pd.testing.assert_frame_equal(swap_pairs(turned), study.pairs)


def test_the_best_model_comes_first_in_its_pairs(study: Study) -> None:
    tuned = study.against_best[~study.against_best["model_b"].isin(BASELINES)]
    assert (tuned["difference"] >= 0).all()
    assert len(study.against_best) == len(COUNTS) * len(SAMPLES) * len(MODELS) - 1


def test_a_run_without_predictions_has_no_pairs(run: Run) -> None:
    study = build_study(replace(run, predictions=run.predictions.head(0)))
    assert study.pairs.empty
    assert study.steps.empty
    assert study.power_laws.empty
    assert orient_pairs(study.pairs, study.cells).empty


def test_a_step_is_the_mean_gain_of_the_models_on_the_same_texts() -> None:
    hits = {
        (800, "x", 0): [0] * 8 + [1, 1],
        (1600, "x", 0): [1] * 9 + [0],
        (800, "y", 0): [0] * 10,
        (1600, "y", 0): [1] * 6 + [0] * 4,
        (1600, "z", 0): [1] * 10,
    }
    (row,) = measure_steps(mark_correct(make_predictions(hits)), ["x", "y", "z"]).itertuples()
    assert (row.smaller, row.larger, row.models) == (800, 1600, 2)
    assert row.gain == pytest.approx((0.7 + 0.6) / 2)
    assert row.low < row.gain < row.high


def test_a_step_over_several_seeds_is_about_recipes() -> None:
    low, high = [0] * 60 + [1] * 140, [1] * 200
    hits = {(n, m, s): low for n in (800, 1600) for m in "xy" for s in (0, 1)}
    hits |= {(1600, m, 0): high for m in "xy"}
    (row,) = measure_steps(mark_correct(make_predictions(hits)), ["x", "y"]).itertuples()
    assert (row.seeds, row.models, row.gain) == (2, 2, pytest.approx(0.15))
    assert row.verdict == "too close to call"


def test_models_that_share_no_two_seeds_leave_a_step_about_trained_models() -> None:
    low, high = [0] * 60 + [1] * 140, [1] * 200
    hits = {(800, "x", 0): low, (1600, "x", 0): high, (800, "y", 1): low, (1600, "y", 1): high}
    (row,) = measure_steps(mark_correct(make_predictions(hits)), ["x", "y"]).itertuples()
    assert (row.seeds, row.models, row.gain) == (1, 2, pytest.approx(0.3))
    assert row.verdict == "A better"


# Extrapolation


def test_a_power_law_is_found_again() -> None:
    sizes = np.array([200.0, 400, 800, 1600, 3200])
    truth = 0.9 - 4 * sizes**-0.6
    law = fit_power_laws(sizes, truth[None, :])
    assert law.predict(np.array([6400.0]))[0, 0] == pytest.approx(0.9 - 4 * 6400**-0.6, abs=0.002)


def test_a_fitted_curve_never_falls_and_never_passes_one() -> None:
    rng = np.random.default_rng(0)
    sizes = np.array([800.0, 1600, 2400])
    curves = fit_power_laws(sizes, rng.uniform(0.5, 1, (200, 3))).predict(np.linspace(800, 1e5, 50))
    assert (np.diff(curves, axis=1) >= -1e-12).all()
    assert curves.max() <= 1 + 1e-12


def test_an_extrapolation_says_how_unsure_it_is_and_that_three_sizes_are_few(study: Study) -> None:
    forecast = tabulate_forecast(study.power_laws)
    assert forecast["weak"].all()
    assert (forecast["low"] <= forecast["then"]).all()
    assert (forecast["then"] <= forecast["high"]).all()
    assert set(forecast["n_now"]) == {max(SAMPLES)}
    assert set(forecast["n_then"]) == {2 * max(SAMPLES)}


def test_two_sizes_give_no_curve(tmp_path: Path) -> None:
    run = load_run(write_fake_run(tmp_path / "run", counts=(2,), samples=(800, 1600)))
    assert extrapolate(mark_correct(run.predictions), list(MODELS)).empty


# Costs


def test_costs_are_those_of_the_trial_validation_chose(run: Run, study: Study) -> None:
    best = run.results[run.results["best_of_cell"]].set_index(["model", "n_labels", "n_samples"])
    for row in study.costs.itertuples():
        source = best.loc[(row.model, row.n_labels, row.n_samples)]
        assert row.seconds == pytest.approx(source["train_seconds"])
        if row.model in MODELS:
            assert row.memory == source["peak_memory_bytes"] / 2**20
    assert "majority" not in set(study.costs["model"])


def test_nothing_cheaper_is_as_accurate_as_a_point_on_the_front(study: Study) -> None:
    for _, group in melt_costs(study.costs).groupby(["measure", "n_labels"]):
        for row in group.itertuples():
            better = (group["value"] <= row.value) & (group["accuracy"] >= row.accuracy)
            ahead = better & (group["value"].lt(row.value) | group["accuracy"].gt(row.accuracy))
            assert (
                row.on_front == (not ahead.any()) or group[["value", "accuracy"]].duplicated().any()
            )


def test_epochs_add_up_to_the_full_grid(run: Run, study: Study) -> None:
    totals = study.epochs.groupby("part")["epochs"].sum()
    assert totals.sum() == run.plan["max_epochs"].sum()
    assert totals["trained"] == len(run.history)
    stopped = run.results[run.results["status"] == "stopped"]
    saved = stopped["max_epochs"] - stopped["epochs_run"]
    assert totals["saved by ASHA"] == saved.sum()


def test_saved_seconds_go_at_the_pace_of_the_stopped_trials(run: Run, study: Study) -> None:
    stopped = run.results[run.results["status"] == "stopped"]
    pace = (stopped["train_seconds"] + stopped["eval_seconds"]) / stopped["epochs_run"]
    expected = (pace * (stopped["max_epochs"] - stopped["epochs_run"])).sum()
    saved = study.epochs[study.epochs["part"] == "saved by ASHA"]["seconds"].sum()
    assert saved == pytest.approx(expected)


def test_a_run_that_has_only_planned_has_its_epochs_before_it(tmp_path: Path) -> None:
    folder = write_fake_run(tmp_path / "run", counts=(2,), samples=(800,), end_trials=False)
    assert set(count_epochs(load_run(folder))["part"]) == {"no result yet"}


def test_forecast_and_reality_are_side_by_side(run: Run) -> None:
    (row,) = compare_forecast(run)
    assert (row["low"], row["likely"], row["high"]) == (0.0, 45.0, 300.0)
    assert 0 <= row["actual"] < 300
    assert row["within"]
    memory = {row["model"]: (row["predicted"], row["measured"]) for row in compare_memory(run)}
    assert memory == dict.fromkeys(MODELS, (640, 600))


def test_a_start_without_forecast_is_left_out(run: Run) -> None:
    opened = ({**run.opened[0], "predicted": None}, {"event": "opened", "time": 1.0})
    old = replace(run, opened=opened, ended=(1.0, 2.0))
    assert compare_forecast(old) == []
    assert compare_memory(old) == []


def test_failures_are_counted_by_reason(run: Run) -> None:
    failed = run.results["status"].isin(["failed", "diverged", "oom"])
    failures = list_failures(run)
    assert sum(row["trials"] for row in failures) == failed.sum()
    assert [row["trials"] for row in failures] == sorted(
        (row["trials"] for row in failures), reverse=True
    )
    assert all(row["error"] for row in failures)


# Confusion


def test_confusions_and_scores_agree_with_scikit_learn(run: Run) -> None:
    for cell in list_confusions(run):
        same = run.predictions
        for name in ("model", "n_labels", "n_samples", "seed"):
            same = same[same[name] == cell[name]]
        truth, predicted, labels = same["label"], same["predicted"], cell["labels"]
        assert cell["matrix"] == confusion_matrix(truth, predicted, labels=labels).tolist()
        expected = f1_score(truth, predicted, labels=labels, average=None, zero_division=0)
        assert score_labels(labels, cell["matrix"])["f1"].tolist() == pytest.approx(expected)


def test_the_mean_of_the_labels_f1_is_the_tables_macro_f1(run: Run) -> None:
    best = run.results[run.results["best_of_cell"]]
    macro = best.set_index(["model", "n_labels", "n_samples"])["test_macro_f1"]
    for cell in list_confusions(run):
        mean = score_labels(cell["labels"], cell["matrix"])["f1"].mean()
        assert mean == pytest.approx(macro[cell["model"], cell["n_labels"], cell["n_samples"]])


def test_a_label_never_predicted_scores_zero() -> None:
    scores = score_labels(["a", "b"], [[4, 0], [4, 0]]).set_index("label")
    assert scores.loc["b", ["precision", "recall", "f1"]].tolist() == [0, 0, 0]
    matrix = count_confusions(pd.Series(["a", "b"]), pd.Series(["a", "a"]), ["a", "b"])
    assert matrix.tolist() == [[1, 0], [1, 0]]


def test_costs_of_a_run_without_results_are_empty(tmp_path: Path) -> None:
    folder = write_fake_run(tmp_path / "run", counts=(2,), samples=(800,), end_trials=False)
    assert tabulate_costs(load_run(folder)).empty
