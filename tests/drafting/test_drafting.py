"""Drafting a study: what is seen of data in any layout, what fits a machine and a budget, and the
file that is written."""

import csv
import json
from collections.abc import Callable, Sequence
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from sweep.cluster.hardware import Gpu, Machine
from sweep.config import Config, DataConfig, load_config, parse_duration
from sweep.drafting import study_file
from sweep.drafting.bench import Bench, build_bench
from sweep.drafting.catalog import KNOWN
from sweep.drafting.cli import main
from sweep.drafting.contenders import list_contenders
from sweep.drafting.fitting import Draft, find_need, fit_study
from sweep.drafting.survey import Survey, survey_data
from sweep.drafting.writing import format_study
from sweep.errors import ConfigError
from sweep.models.shape import count_parameters, read_shape
from sweep.preflight.runtime import Rate
from sweep.run import main as run

GB = 10**9
CPU = Machine(cpus=4, memory_bytes=16 * GB)
GPU = Machine(cpus=8, memory_bytes=64 * GB, gpus=(Gpu("NVIDIA A10G", 24 * GB),))
# 28 GFLOP/s a trial, as two common cores reach.
SPEED = Rate(28e9, 0.001, 0.003, 3e8, (0.7, 2.0), "of this test")
LABELS = ("billing", "delivery", "praise", "returns")
TINY = ("--model", "tiny:llama", "--model", "tiny:gpt2")
HOUR = 3600.0

Rows = list[tuple[str, str]]


def make_rows(counts: dict[str, int], start: int = 0) -> Rows:
    return [
        (f"this is text number {start + i} about {label}", label)
        for label, count in counts.items()
        for i in range(count)
    ]


ROWS = make_rows(dict.fromkeys(LABELS, 100))


def write_csv(file: Path, rows: Rows, header: Sequence[str] = ("text", "label")) -> Path:
    with file.open("w", newline="") as stream:
        csv.writer(stream).writerows([header, *rows])
    return file


def write_one_csv(root: Path) -> list[str]:
    return [str(write_csv(root / "reviews.csv", ROWS, ("sentence", "category")))]


def write_json_splits(root: Path) -> list[str]:
    for number, split in enumerate(("train", "validation", "test")):
        rows = make_rows(dict.fromkeys(LABELS, 60), 1000 * number)
        lines = [json.dumps({"text": text, "label": label}) for text, label in rows]
        (root / f"{split}.jsonl").write_text("\n".join(lines))
    return [str(root)]


def write_official(root: Path) -> list[str]:
    (root / "emotions.txt").write_text("\n".join(LABELS))
    for number, split in enumerate(("train", "dev", "test")):
        rows = make_rows(dict.fromkeys(LABELS, 60), 1000 * number)
        lines = [f"{text}\t{LABELS.index(label)}\tid{i}" for i, (text, label) in enumerate(rows)]
        (root / f"{split}.tsv").write_text("\n".join(lines) + "\n")
    return [str(root)]


def write_parquet_numbers(root: Path) -> list[str]:
    (root / "names.txt").write_text("\n".join(LABELS))
    numbers = [LABELS.index(label) for _, label in ROWS]
    pq.write_table(pa.table({"text": [t for t, _ in ROWS], "label": numbers}), root / "a.parquet")
    return [str(root / "a.parquet"), "--set", f"data.labels_file={root / 'names.txt'}"]


def write_title_and_body(root: Path) -> list[str]:
    lines = ["\t".join(("id", "title", "body", "topic"))]
    lines += [f"{i}\tabout {label} {i}\t{text}\t{label}" for i, (text, label) in enumerate(ROWS)]
    (root / "posts.tsv").write_text("\n".join(lines))
    columns = ["--text-column", "title", "--text-column", "body", "--label-column", "topic"]
    return [str(root / "posts.tsv"), *columns]


@pytest.mark.parametrize(
    "write",
    [write_one_csv, write_json_splits, write_official, write_parquet_numbers, write_title_and_body],
)
def test_a_study_is_written_for_data_in_any_layout(
    write: Callable[[Path], list[str]], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "data").mkdir()
    out = tmp_path / "my study.yaml"
    assert main([*write(tmp_path / "data"), "--out", str(out), *TINY]) == 0
    printed = capsys.readouterr().out
    assert "4 labels, from" in printed and f"sweep run '{out}'" in printed
    config = load_config(out)
    assert config.name == "my-study"
    assert max(config.grid.n_labels) == 4 and not config.data.exclude_labels
    assert [model.path for model in config.grid.models] == ["tiny:llama", "tiny:gpt2"]
    assert run([str(out), "--dry-run", "--out", str(tmp_path / "runs")]) == 0
    assert "warning" not in capsys.readouterr().out


def survey_rows(root: Path, rows: Rows) -> Survey:
    file = write_csv(root / "data.csv", rows)
    return survey_data(DataConfig(path=str(file), exclude_labels=[]))


@pytest.fixture(scope="module")
def survey(tmp_path_factory: pytest.TempPathFactory) -> Survey:
    counts = {f"topic {i}": 1500 - 100 * i for i in range(6)}
    return survey_rows(tmp_path_factory.mktemp("data"), make_rows(counts))


def bench_of(root: Path, survey: Survey, machine: Machine) -> Bench:
    contenders, _ = list_contenders(machine, survey.is_english, False, root)
    bench = build_bench("study", survey, machine, contenders)
    return bench if machine.gpus else replace(bench, speeds={1: SPEED, 2: SPEED, 4: SPEED})


@pytest.fixture(scope="module", params=[CPU, GPU], ids=["CPUs", "a GPU"])
def bench(
    survey: Survey, request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Bench:
    return bench_of(tmp_path_factory.mktemp("known"), survey, request.param)


def names_of(draft: Draft) -> list[str]:
    return [each.name for each in draft.entries]


def test_more_time_never_means_a_poorer_study(bench: Bench) -> None:
    budgets = [HOUR * 1.87**i / 4 for i in range(9)]
    drafts = [fit_study(bench, budget, all_contenders=False) for budget in budgets]
    for less, more in pairwise(drafts):
        assert more.study.points >= less.study.points
        assert len(more.entries) > len(less.entries) or more.study.contains(less.study)
    assert drafts[-1].study.points > drafts[0].study.points
    for budget, draft in zip(budgets, drafts, strict=True):
        assert find_need(draft.total) <= budget
        assert draft.total.seconds.likely <= 0.8 * budget


def test_an_encoder_and_a_decoder_compete_on_all_labels_within_an_hour(bench: Bench) -> None:
    draft = fit_study(bench, HOUR, all_contenders=False)
    methods = [each.contender.model.method for each in draft.entries]
    assert methods[0] == "full" and "lora" in methods
    assert draft.study.n_labels[-1] == 6
    on_gpu = bool(bench.machine.gpus)
    assert names_of(draft)[0] == ("modernbert-base" if on_gpu else "minilm-l6")


def test_the_file_says_what_was_drafted_and_forecasts_the_same(
    bench: Bench, tmp_path: Path
) -> None:
    draft = fit_study(bench, 2 * HOUR, all_contenders=False)
    file = tmp_path / "study.yaml"
    file.write_text(format_study(draft, bench, 2 * HOUR, file))
    assert load_config(file) == Config.model_validate(draft.tree)
    comments = [line for line in file.read_text().splitlines()[1:] if "# " in line]
    assert len(comments) > 15 and max(map(len, comments)) <= 100


def test_a_budget_that_is_too_short_names_one_that_is_not(bench: Bench) -> None:
    with pytest.raises(ConfigError, match="use --budget ") as caught:
        fit_study(bench, 1.0, all_contenders=True)
    needed = str(caught.value).partition("use --budget ")[2].partition(",")[0]
    draft = fit_study(bench, parse_duration(needed), all_contenders=True)
    assert len(draft.entries) == len(bench.entries)


def test_models_that_do_not_fit_into_memory_are_left_out(survey: Survey, tmp_path: Path) -> None:
    contenders, gated = list_contenders(CPU, True, False, tmp_path)
    # Their sizes need no measuring.
    decoders = [each for each in contenders if not each.is_encoder]
    bench = build_bench("study", survey, replace(CPU, memory_bytes=3 * GB), decoders)
    assert [each.name for each in bench.entries] == ["smollm2-135m"]
    assert bench.left_out[0].startswith("qwen2.5-0.5b (needs ")
    assert gated == ["gemma-3-270m (gated, and HF_TOKEN is not set)"]


def test_texts_in_another_language_get_multilingual_models(tmp_path: Path) -> None:
    russian = [(f"это письмо номер {i}", label) for label in LABELS for i in range(50)]
    rows = [(f"{text} {label}", label) for text, label in russian]
    found = survey_rows(tmp_path, rows)
    assert not found.is_english
    contenders, _ = list_contenders(GPU, found.is_english, False, tmp_path)
    assert contenders[0].model.name == "multilingual-e5-small"


def test_labels_that_are_too_rare_are_left_out_and_told(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = write_csv(tmp_path / "a.csv", make_rows({"a": 200, "b": 90, "no": 12, "c: #": 60}))
    out = tmp_path / "study.yaml"
    assert main([str(file), "--out", str(out), *TINY]) == 0
    assert "1 label is left out, too rare" in (printed := capsys.readouterr().out)
    assert "no (lacks 3 validation texts)" in printed
    config = load_config(out)
    assert config.data.exclude_labels == ["no"]
    assert config.grid.n_labels[-1] == 3
    # The rarest label that is left has 60 texts, of which 24 are held out.
    assert max(config.grid.n_samples) == 3 * 36


@pytest.mark.parametrize(
    ("counts", "options", "sentence"),
    [
        ({"a": 90, "b": 9}, [], "and 1 has them (training/validation/test: a 54/18/18, b 5/2/2)"),
        ({"a": 90}, [], "and 1 has them"),
        ({"a": 90, "b": 90}, ["--budget", "soon"], "--budget 'soon' is not a duration"),
        ({"a": 90, "b": 90}, ["--text-column", "body"], "--text-column names 'body', but"),
        ({"a": 90, "b": 90}, ["--set", "train.batch_size=8"], "only keys of data"),
        ({"a": 90, "b": 90}, ["--model", "/no/model"], "--model: "),
    ],
)
def test_what_is_wrong_is_one_sentence(
    counts: dict[str, int],
    options: list[str],
    sentence: str,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    file = write_csv(tmp_path / "a.csv", make_rows(counts))
    out = tmp_path / "study.yaml"
    assert main([str(file), "--out", str(out), *options]) == 2
    error = capsys.readouterr().err
    assert sentence in error and error.startswith("error: ") and error.count("\n") == 1
    assert not out.exists()


def test_an_existing_file_is_kept(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "study.yaml"
    out.write_text("mine")
    assert main([str(tmp_path), "--out", str(out)]) == 2
    assert "exists already" in capsys.readouterr().err
    assert out.read_text() == "mine"


def test_a_silent_hub_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    for name in ("HF_HUB_OFFLINE", "SWEEP_FOUND_HUB_SILENT", "HTTPS_PROXY", "https_proxy",
                 "ALL_PROXY", "all_proxy"):  # fmt: skip
        monkeypatch.setenv(name, "")
    monkeypatch.setattr(study_file, "inspect_machine", lambda: GPU)
    file = write_csv(tmp_path / "a.csv", ROWS)
    options = ["--out", str(tmp_path / "study.yaml"), "--model", "Qwen/Qwen2.5-0.5B"]
    assert main([str(file), *options]) == 0
    assert "127.0.0.1 cannot be reached" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("name", "millions"),
    [("smollm2-135m", 134.5), ("gemma-3-270m", 268.1), ("qwen2.5-0.5b", 494.0),
     ("qwen2.5-1.5b", 1543.7), ("llama-3.2-1b", 1235.8)],
)  # fmt: skip
def test_sizes_in_the_catalog_are_those_of_the_models(name: str, millions: float) -> None:
    known = next(model for model in KNOWN if model.name == name)
    shape = read_shape(known.sizes)
    assert shape is not None
    assert count_parameters(shape) / 1e6 == pytest.approx(millions, abs=0.1)
