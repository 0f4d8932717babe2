"""Charts: what they show, that everyone can read them, and that they compile."""

import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import altair as alt
import pandas as pd
import pytest
from fake_run import BASELINES, COUNTS, MODELS, NO_RESULT_CELL, write_fake_run

from analysis.charts.cells import draw_heatmap, draw_label_curves, draw_sample_curves
from analysis.charts.comparisons import draw_confusion, draw_differences
from analysis.charts.encodings import dodge
from analysis.charts.palette import (
    FILL_RANGE,
    MODEL_COLORS,
    MODEL_SHAPES,
    blend_fill,
    find_ink_threshold,
    find_luminance,
)
from analysis.charts.prices import draw_making, draw_using
from analysis.charts.trials import MAX_POINTS, draw_learning_curves, thin_curves
from analysis.load import load_run
from analysis.page.contents import draw_charts
from analysis.page.images import write_charts
from analysis.study import Study, build_study

NAMES = [*MODELS, *BASELINES]


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> Study:
    return build_study(load_run(write_fake_run(tmp_path_factory.mktemp("runs") / "fake")))


@pytest.fixture(scope="module")
def cells(study: Study) -> pd.DataFrame:
    return study.cells


def read_spec(chart: Any) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    spec = chart.to_dict()
    (rows,) = spec["datasets"].values()
    return spec, rows


def find_scale(spec: Any, channel: str) -> dict[str, Any]:
    """Return the first scale of ``channel`` anywhere in the spec."""
    if isinstance(spec, dict):
        if "scale" in spec.get(channel, {}):
            return spec[channel]["scale"]
        spec = list(spec.values())
    found = [find_scale(part, channel) for part in spec if isinstance(part, dict | list)]
    return next((scale for scale in found if scale), {})


def test_heatmap_shows_every_cell_of_the_grid(cells: pd.DataFrame) -> None:
    _, rows = read_spec(draw_heatmap(cells))
    shown = {(row["model"], row["n_labels"], row["n_samples"]): row["text"] for row in rows}
    expected = {
        (row.model, row.n_labels, row.n_samples): f"{100 * row.accuracy:.1f}"
        for row in cells.itertuples()
    }
    expected[NO_RESULT_CELL] = "none"
    assert shown == expected


def test_heatmap_numbers_read_on_every_fill() -> None:
    threshold = find_ink_threshold()
    for i in range(101):
        luminance = find_luminance(blend_fill(i / 100))
        ink = 1.0 if i / 100 > threshold else 0.0
        light, dark = max(luminance, ink), min(luminance, ink)
        assert (light + 0.05) / (dark + 0.05) >= 4.5


def test_heatmap_fill_darkens_with_accuracy() -> None:
    shades = [find_luminance(blend_fill(i / 50)) for i in range(51)]
    assert shades == sorted(shades, reverse=True)
    assert len(set(FILL_RANGE)) == len(FILL_RANGE)


def test_sample_curves_distinguish_models_by_color_and_shape(cells: pd.DataFrame) -> None:
    spec, rows = read_spec(draw_sample_curves(cells))
    assert len(rows) == cells["accuracy"].notna().sum()
    for channel in ("color", "shape"):
        scale = find_scale(spec, channel)
        assert scale["domain"] == NAMES
        assert len(set(scale["range"])) >= len(MODELS)


def test_no_pair_of_color_and_shape_repeats_within_fifty_models() -> None:
    n, m = len(MODEL_COLORS), len(MODEL_SHAPES)
    assert len({(i % n, i % m) for i in range(50)}) == 50


def test_sample_curves_mark_chance(cells: pd.DataFrame) -> None:
    _, rows = read_spec(draw_sample_curves(cells))
    assert {row["n_labels"]: row["chance"] for row in rows} == {k: 1 / k for k in COUNTS}


def test_the_cost_to_make_is_time_where_there_are_no_prices(study: Study) -> None:
    spec, rows = read_spec(draw_making(study.choices, study.models, study.baselines, "USD"))
    assert "trial time to make (hours)" in spec["description"]
    assert find_scale(spec["spec"], "x")["type"] == "log"
    expected = study.choices[study.choices["model"].ne("majority")]
    assert sorted(row["value"] for row in rows) == pytest.approx(sorted(expected["hours"]))


def test_the_front_of_costs_is_what_nothing_cheaper_is_as_accurate_as(study: Study) -> None:
    priced = study.choices.assign(make=study.choices["n_samples"] * 0.1 + study.choices["hours"])
    spec, rows = read_spec(draw_making(priced, study.models, study.baselines, "EUR"))
    assert "cost to make (EUR)" in spec["description"]
    assert "type" not in find_scale(spec["spec"], "x")
    for row in rows:
        rivals = [r for r in rows if r["n_labels"] == row["n_labels"] and r is not row]
        cheaper = [r for r in rivals if r["value"] <= row["value"]]
        assert row["on_front"] == all(r["accuracy"] < row["accuracy"] for r in cheaper)
        assert row["accuracy_low"] < row["accuracy"] < row["accuracy_high"]


def test_the_cost_in_use_shows_each_contender_once_and_references_too(study: Study) -> None:
    used = study.choices.assign(texts_per_second=500.0)
    spec, rows = read_spec(draw_using(used, study.models, study.baselines, "USD"))
    assert "seconds per thousand texts" in spec["description"]
    assert {row["value"] for row in rows} == {2.0}
    places = [(row["model"], row["n_labels"]) for row in rows]
    assert sorted(places) == sorted((m, k) for k in COUNTS for m in NAMES if m != "majority")


def test_charts_have_a_description_and_their_data_once(study: Study) -> None:
    for chart in draw_charts(study).values():
        spec = chart.to_dict()
        assert len(spec["description"]) > 30
        text = json.dumps(spec, allow_nan=False)
        for rows in spec["datasets"].values():
            assert text.count(json.dumps(rows[0])) == 1


def test_every_chart_is_drawn(study: Study) -> None:
    assert list(draw_charts(study)) == [
        "heatmap",
        "making",
        "samples",
        "labels",
        "extrapolation",
        "differences",
        "optimism",
        "confusion",
        "costs",
        "epochs",
        "curves",
        "candidates",
    ]


def test_baselines_are_dashed_in_the_curves_and_models_are_not(cells: pd.DataFrame) -> None:
    for chart in (draw_sample_curves(cells), draw_label_curves(cells)):
        layers = [part for part in chart.to_dict()["spec"]["layer"] if "transform" in part]
        dashed = {
            part["transform"][0]["filter"]: "strokeDash" in part["encoding"]
            for part in layers
            if "filter" in part["transform"][0]
        }
        assert dashed == {"datum.kind !== 'baseline'": False, "datum.kind === 'baseline'": True}


def test_whiskers_of_two_models_never_share_a_position(cells: pd.DataFrame) -> None:
    for chart in (draw_sample_curves(cells), draw_label_curves(cells)):
        _, rows = read_spec(chart)
        places = [(row["n_labels"], row["n_samples"], row["x"]) for row in rows]
        assert len(set(places)) == len(places)


def test_dodging_keeps_the_middle_and_the_order() -> None:
    places = dodge(pd.Series([800.0] * 3), pd.Series(["a", "b", "c"]), ["a", "b", "c"])
    assert places[0] < places[1] == 800 < places[2]


def test_the_best_model_is_at_zero_in_every_panel(study: Study) -> None:
    _, rows = read_spec(draw_differences(study.against_best, study.models))
    best = [row for row in rows if row["mark"] == "the best model"]
    assert len(best) == len(COUNTS) * 3
    assert {row["behind"] for row in best} == {0}
    tuned = [row["behind"] for row in rows if row["model"] not in BASELINES]
    assert max(tuned) == 0


def test_a_baseline_that_is_ahead_is_drawn_as_better(study: Study) -> None:
    pairs = study.against_best.assign(difference=-0.1, verdict="B better")
    _, rows = read_spec(draw_differences(pairs, study.models))
    assert {row["mark"] for row in rows} == {"the best model", "better"}


@pytest.mark.parametrize(
    ("seeds", "said", "tooltip"),
    [
        (1, "With one seed, they speak of these trained models", "these trained models (one seed)"),
        (3, "With several seeds, they speak of the recipes", "the recipes (3 seeds)"),
    ],
)
def test_the_chart_of_differences_says_of_what_its_verdicts_speak(
    study: Study, seeds: int, said: str, tooltip: str
) -> None:
    spec, rows = read_spec(draw_differences(study.against_best.assign(seeds=seeds), study.models))
    assert said in spec["description"]
    assert {row["speaks"] for row in rows} == {"", tooltip}


def test_the_chart_of_differences_counts_those_on_one_seed(study: Study) -> None:
    seeds = [1, *[2] * (len(study.against_best) - 1)]
    spec, _ = read_spec(draw_differences(study.against_best.assign(seeds=seeds), study.models))
    assert "1 speak of trained models with one seed" in spec["description"]


def test_confusion_chart_holds_every_pair_of_labels() -> None:
    _, rows = read_spec(draw_confusion(["a", "b"], [[3, 1], [0, 4]]))
    shown = {(row["truth"], row["predicted"]): (row["texts"], row["share"]) for row in rows}
    expected = {
        ("a", "a"): (3, 0.75),
        ("a", "b"): (1, 0.25),
        ("b", "a"): (0, 0),
        ("b", "b"): (4, 1),
    }
    assert shown == expected


@pytest.mark.parametrize(("trials", "first"), [(2, -2), (20, -1)])
def test_crowded_learning_curves_start_with_the_best_trials(
    study: Study, trials: int, first: int
) -> None:
    one = study.curves[study.curves["trial_id"] == study.curves["trial_id"].iloc[0]]
    many = pd.concat([one.assign(trial_id=f"t{i}") for i in range(trials)])
    (menu,) = draw_learning_curves(many, list(MODELS)).to_dict()["params"]
    assert menu["value"] == first


def copy_trials(curves: pd.DataFrame, copies: int) -> pd.DataFrame:
    """Return ``curves`` several times over, under new trial ids; only the first are the best."""
    parts = [
        curves.assign(
            trial_id=curves["trial_id"] + f"-{i}", best_of_cell=curves["best_of_cell"] & (i == 0)
        )
        for i in range(copies)
    ]
    return pd.concat(parts)


def test_many_trials_are_thinned_and_the_chart_says_so(study: Study) -> None:
    many = copy_trials(study.curves, 100)
    assert len(many) > MAX_POINTS
    with alt.data_transformers.enable("default", max_rows=None):
        spec, rows = read_spec(draw_learning_curves(many, list(MODELS)))
    drawn = len({row["trial_id"] for row in rows})
    assert spec["title"]["text"].startswith(f"{drawn} of {many['trial_id'].nunique()} trials")
    assert len(rows) <= 1.1 * MAX_POINTS
    best = set(many.loc[many["best_of_cell"], "trial_id"])
    assert best <= {row["trial_id"] for row in rows}


def test_few_trials_are_all_drawn(study: Study) -> None:
    assert thin_curves(study.curves) is study.curves
    assert "title" not in read_spec(draw_learning_curves(study.curves, list(MODELS)))[0]


def test_thinned_trials_stay_complete(study: Study) -> None:
    thin = thin_curves(study.curves, max_points=40)
    assert 0 < thin["trial_id"].nunique() < study.curves["trial_id"].nunique()
    whole = study.curves.groupby("trial_id").size()
    assert thin.groupby("trial_id").size().to_dict().items() <= whole.to_dict().items()


def test_charts_are_written_as_images(tmp_path: Path) -> None:
    folder = write_fake_run(tmp_path / "run", counts=(2,), samples=(800, 1600))
    paths = write_charts(folder, tmp_path / "images")
    assert len(paths) == 2 * len(draw_charts(build_study(load_run(folder))))
    heatmap = tmp_path / "images" / "heatmap"
    assert heatmap.with_suffix(".png").read_bytes().startswith(b"\x89PNG")
    assert MODELS[0] in heatmap.with_suffix(".svg").read_text(encoding="utf-8")


def test_charts_leave_their_frame_as_it_was(cells: pd.DataFrame) -> None:
    before = cells.copy()
    draw_heatmap(cells)
    draw_sample_curves(cells)
    pd.testing.assert_frame_equal(cells, before)


def test_a_chart_compiles_to_vega(cells: pd.DataFrame) -> None:
    import vl_convert

    assert "95 %" in draw_sample_curves(cells).to_dict()["description"]
    svg = vl_convert.vegalite_to_svg(draw_heatmap(cells).to_dict())
    for model in MODELS:
        assert model in svg


def test_a_grid_without_any_result_still_draws(cells: pd.DataFrame) -> None:
    empty = cells.assign(accuracy=float("nan"), accuracy_low=float("nan"))
    _, rows = read_spec(draw_heatmap(empty))
    assert {row["text"] for row in rows} == {"none"}


def test_analysis_imports_neither_torch_nor_ray() -> None:
    code = (
        "import sys, analysis.report\n"
        "heavy = {'torch', 'ray', 'transformers', 'peft', 'datasets'} & set(sys.modules)\n"
        "own = {m for m in sys.modules if m.startswith('sweep.')}\n"
        "print(sorted(heavy), sorted(own))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    heavy, _, own = done.stdout.partition("] ")
    assert heavy == "["
    packages = {"storage", "plan", "config", "cli", "startup", "errors", "verdicts"}
    assert set(re.findall(r"sweep\.(\w+)", own)) <= packages


def test_more_rows_than_altairs_limit_are_drawn(cells: pd.DataFrame) -> None:
    from analysis.page.html import encode_spec

    many = pd.concat([cells.assign(model=f"model-{i}") for i in range(120)])
    assert len(many) > 5000
    spec = json.loads(encode_spec(draw_heatmap(many)))
    assert [len(rows) for rows in spec["datasets"].values()] == [len(many)]
    with pytest.raises(alt.MaxRowsError):
        draw_heatmap(many).to_dict()
