"""Runs whose winners were repeated: fresh seeds speak, and tuning is judged without them."""

from pathlib import Path

import pandas as pd
import pytest
from fake_run import BASELINES, MODELS, SAMPLES, write_fake_run

from analysis.load import Run, load_run
from analysis.page.html import build_page
from analysis.stats.cells import average_seeds, list_cells
from analysis.stats.pairs import compare_models, mark_correct, measure_steps, select_seeds
from analysis.stats.repeats import TunedSeeds, find_looks, find_smallest, find_tuned
from analysis.stats.scope import suggest_seeds
from analysis.study import Study, build_study
from sweep.verdicts import ONE_LOOK, SCHEDULE, SMALLEST, list_looks

REPEATS = 3
TUNED = TunedSeeds(
    {(2, n, model): frozenset({0}) for n in (800, 1600) for model in "xy"},
    {(2, n): frozenset({0}) for n in (800, 1600)},
)
GOOD, BAD = [1] * 200, [0] * 60 + [1] * 140


def make_predictions(right: dict[tuple[int, str, int], list[int]]) -> pd.DataFrame:
    """Return predictions with two labels; keys are samples, model and seed."""
    rows = [
        (2, samples, model, seed, item, "a", "a" if hit else "b")
        for (samples, model, seed), hits in right.items()
        for item, hit in enumerate(hits)
    ]
    columns = ["n_labels", "n_samples", "model", "seed", "item", "label", "predicted"]
    return pd.DataFrame(rows, columns=columns)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("runs") / "fake"
    return write_fake_run(folder, counts=(2, 4), repeats=REPEATS, repeat_seeds="auto")


@pytest.fixture(scope="module")
def run(folder: Path) -> Run:
    return load_run(folder)


@pytest.fixture(scope="module")
def study(run: Run) -> Study:
    return build_study(run)


@pytest.fixture(scope="module")
def without(tmp_path_factory: pytest.TempPathFactory) -> Study:
    return build_study(
        load_run(write_fake_run(tmp_path_factory.mktemp("r") / "fake", counts=(2, 4)))
    )


# Verdicts


def test_a_verdict_leaves_out_the_seed_that_chose_the_candidate() -> None:
    hits = {(800, "x", 0): GOOD, (800, "y", 0): BAD}
    hits |= {(800, model, seed): BAD for model in "xy" for seed in (1, 2, 3)}
    right = mark_correct(make_predictions(hits))
    (row,) = compare_models(right, ["x", "y"], TUNED).itertuples()
    assert (row.seeds, row.fresh, row.difference) == (3, True, 0)
    assert (row.only_a, row.only_b) == (0, 0)
    (row,) = compare_models(right, ["x", "y"]).itertuples()
    assert (row.seeds, row.fresh, row.only_a) == (4, False, 60)


def test_a_pair_with_one_fresh_seed_is_judged_by_the_tuned_one() -> None:
    hits = {(800, "x", 0): GOOD, (800, "y", 0): BAD, (800, "x", 1): BAD, (800, "y", 1): BAD}
    hits[800, "x", 2] = BAD
    right = mark_correct(make_predictions(hits))
    (row,) = compare_models(right, ["x", "y"], TUNED, SCHEDULE).itertuples()
    assert (row.seeds, row.fresh, row.verdict, row.state) == (1, False, "A better", "open")


def test_a_baseline_is_compared_on_the_fresh_seeds_of_its_rival() -> None:
    hits = {(800, "x", seed): BAD for seed in (0, 4, 5)}
    hits |= {(800, "tf-idf", seed): GOOD if seed else BAD for seed in (0, 4, 5, 6)}
    right = mark_correct(make_predictions(hits))
    (row,) = compare_models(right, ["x", "tf-idf"], TUNED).itertuples()
    assert (row.seeds, row.fresh, row.only_b) == (2, True, 120)


def test_looks_are_taken_in_the_order_of_seeds() -> None:
    hits = {(800, "y", seed): BAD for seed in range(1, 6)}
    hits |= {(800, "x", seed): GOOD if seed < 4 else BAD for seed in range(1, 6)}
    shuffled = dict(reversed(hits.items()))
    right = mark_correct(make_predictions(shuffled))
    (row,) = compare_models(right, ["x", "y"], TUNED, SCHEDULE).itertuples()
    # The second look, at three seeds, saw the same difference three times.
    assert (row.seeds, row.verdict) == (5, "A better")
    (row,) = compare_models(right, ["x", "y"], TUNED).itertuples()
    assert row.verdict == "too close to call"


def test_a_step_is_measured_on_fresh_seeds() -> None:
    hits = {(n, m, s): BAD for n in (800, 1600) for m in "xy" for s in (0, 1, 2)}
    hits |= {(1600, m, 0): GOOD for m in "xy"}
    right = mark_correct(make_predictions(hits))
    (row,) = measure_steps(right, ["x", "y"], TUNED).itertuples()
    assert (row.seeds, row.gain) == (2, 0)
    first = {key: value for key, value in hits.items() if key[2] < 2}
    (row,) = measure_steps(mark_correct(make_predictions(first)), ["x", "y"], TUNED).itertuples()
    assert (row.seeds, row.gain) == (1, pytest.approx(0.3))


def test_curves_are_fitted_to_the_seeds_that_speak() -> None:
    hits = {(800, "x", seed): GOOD if seed else BAD for seed in (0, 1)} | {(1600, "x", 0): BAD}
    right = select_seeds(mark_correct(make_predictions(hits)), TUNED)
    assert {point: list(frame.index) for point, frame in right.items()} == {
        (2, 800, "x"): [1],
        (2, 1600, "x"): [0],
    }


# Whole runs


def test_means_are_over_the_seeds_that_verdicts_are_over(run: Run, study: Study) -> None:
    results = run.results[run.results["best_of_cell"] & run.results["repeat_of"].notna()]
    expected = results.groupby(["n_labels", "n_samples", "model"])["test_accuracy"].mean()
    cells = average_seeds(run).set_index(["n_labels", "n_samples", "model"])
    done = cells[cells["accuracy"].notna()]
    assert set(done["seeds_done"]) == set(done["seeds_planned"]) == {REPEATS}
    # The cell whose every trial failed has no fresh seed to speak for it.
    assert set(cells.drop(done.index)["seeds_planned"]) == {1}
    for point, value in expected.items():
        assert cells.loc[point, "accuracy"] == pytest.approx(value)
    for row in study.pairs.itertuples():
        a, b = ((row.n_labels, row.n_samples, name) for name in (row.model_a, row.model_b))
        difference = cells.loc[a, "accuracy"] - cells.loc[b, "accuracy"]
        assert (row.seeds, row.fresh) == (REPEATS, True)
        assert row.difference == pytest.approx(difference)


def test_repeats_tune_nothing(study: Study, without: Study) -> None:
    for name in ("candidates", "transfer", "optimism", "epochs"):
        left, right = (getattr(each, name).reset_index(drop=True) for each in (study, without))
        shared = [column for column in left if column not in ("ended_at", "started_at")]
        pd.testing.assert_frame_equal(left[shared], right[shared], check_dtype=False)
    assert not study.candidates.empty
    assert not study.transfer.empty


def test_what_a_cell_cost_is_what_tuning_it_cost(study: Study, without: Study) -> None:
    axes = ["model", "n_labels", "n_samples"]
    after, before = (each.costs.set_index(axes)["cell_seconds"] for each in (study, without))
    pd.testing.assert_series_equal(after.sort_index(), before.sort_index())


def test_every_repeat_is_listed_as_a_cell(run: Run) -> None:
    listed = list_cells(run)
    assert len(listed) == 2 * len(SAMPLES) * (len(MODELS) + len(BASELINES)) * (1 + REPEATS)


def test_the_report_says_which_seeds_spoke_and_when_it_looked(folder: Path) -> None:
    page = build_page(load_run(folder))
    for sentence in (
        "3 seeds: verdicts speak of the recipes",
        "Numbers are means over fresh seeds.",
        "Verdicts and means rest on fresh seeds",
        "moderated by those of all pairs",
        "Pairs were tested after 2 and 3 seeds",
        "Of the pairs that are too close to call, ",
    ):
        assert sentence in page
    assert "grid.seeds" not in page.split("</style>")[1].split("config.yaml, with")[0]


def test_a_run_is_looked_at_as_its_repeats_were_asked_for() -> None:
    def look(*asked: str | None) -> object:
        return find_looks([{"event": "opened", "time": 1.0, "repeat_seeds": a} for a in asked])

    assert look() == look(None) == look("0") == look("5") == look("5", "0", "5") == ONE_LOOK
    assert look("3", "8") == look("8", "3") == list_looks([3, 8])
    assert look("auto") == look("3", "auto") == SCHEDULE


def test_the_smallest_difference_is_the_last_one_asked_for() -> None:
    opened = [{"event": "opened", "time": 1.0, "smallest": value} for value in (0.02, 0.0, None)]
    assert find_smallest(opened) == 0  # type: ignore[arg-type]
    assert find_smallest(opened[:1]) == 0.02  # type: ignore[arg-type]
    assert find_smallest(opened[2:]) == SMALLEST  # type: ignore[arg-type]


def test_tuned_seeds_are_those_without_a_model_to_repeat(run: Run) -> None:
    tuned = find_tuned(run.plan)
    assert tuned.at((2, 800, MODELS[0])) == tuned.at((2, 800, "tf-idf")) == {0}
    assert tuned.at((3, 800, MODELS[0])) == frozenset()


def test_a_run_with_few_repeats_is_told_how_to_get_more(tmp_path: Path, run: Run) -> None:
    assert suggest_seeds(run) is None
    folder = write_fake_run(tmp_path / "few", counts=(2,), repeats=3, repeat_seeds="3")
    more = suggest_seeds(load_run(folder))
    assert more is not None
    assert more.added == 2
    assert more.command.endswith("--resume --set repeat.seeds=5")
    several = load_run(write_fake_run(tmp_path / "several", counts=(2,), seeds=(1, 7)))
    more = suggest_seeds(several)
    assert more is not None
    # A grid with several seeds takes no repeats.
    assert more.added == 3
    assert more.command.endswith("--resume --set 'grid.seeds=[1,7,0,2,3]'")
