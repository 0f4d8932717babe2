"""A sweep measures in use what it has trained: with a real Ray, both engines and all methods."""

import signal
from collections import Counter
from collections.abc import Iterator
from contextlib import redirect_stdout
from io import StringIO
from pathlib import Path
from typing import Any, NamedTuple

import pyarrow.parquet as pq
import pytest
import ray
import torch
import yaml
from model_folders import ENCODERS, write_folder
from ray.cluster_utils import Cluster

from sweep.config import load_config
from sweep.data import build_subsets
from sweep.export import cli as export_cli
from sweep.run import main
from sweep.storage.journal import JOURNAL_NAME, read_events
from sweep.storage.record import replay
from sweep.training.classifier import read_best_weights
from sweep.training.serving import load_trial
from sweep.tuning import driver
from sweep.tuning.meter import Meter

LABELS = {"ray.io/node-group": "l4-spot", "ray.io/market-type": "spot"}
TREE: dict[str, Any] = {
    "name": "used",
    "data": {"source": "synthetic", "max_eval_per_label": 6},
    "grid": {"n_labels": [2], "n_samples": [16, 32]},
    "tune": {"candidates": 1, "lora_rank": 4, "learning_rate": 5e-3},
    "asha": {"max_epochs": 2},
    "serving": {"seconds": 0.05},
    "train": {"batch_size": 8, "max_length": 24, "dtype": "float32"},
    # The encoder's head is not a single layer: no pack holds it, nor the full fine-tune.
    "resources": {"engine": "packed", "cpus_per_trial": 2},
}
CONTENDERS = ["bert", "gpt2-full", "llama"]
REFERENCES = ["majority", "read-bert", "tf-idf"]


class Used(NamedTuple):
    """A finished run, and how to start it again."""

    folder: Path
    arguments: list[str]
    printed: str


@pytest.fixture(scope="module")
def used(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Used]:
    out = tmp_path_factory.mktemp("runs")
    torch.manual_seed(0)
    write_folder(out / "bert", ENCODERS["bert"]())
    models = [
        {"name": "llama", "path": "tiny:llama"},
        {"name": "gpt2-full", "path": "tiny:gpt2", "method": "full"},
        {"name": "bert", "path": str(out / "bert")},
    ]
    features = {"features": str(out / "bert"), "name": "read-bert"}
    tree = TREE | {"grid": TREE["grid"] | {"models": models}}
    tree["baselines"] = ["majority", "tf-idf", features]
    (out / "used.yaml").write_text(yaml.safe_dump(tree))
    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 2, "labels": LABELS})
    arguments = ["--out", str(out), "--address", cluster.address]
    with redirect_stdout(StringIO()) as printed:
        assert main([str(out / "used.yaml"), *arguments]) == 0
    yield Used(out / "used", ["--name", "used", "--resume", *arguments], printed.getvalue())
    ray.shutdown()
    cluster.shutdown()


def rows_of(folder: Path, measured: bool = True) -> dict[str, dict[str, Any]]:
    """Return the rows of what was measured in use, or of all other results, by model."""
    rows = pq.read_table(folder / "results.parquet").to_pylist()
    served = [row for row in rows if (row["serving_device"] is not None) == measured]
    return {row["model"]: row for row in served}


def test_each_contender_and_reference_is_measured_with_the_most_samples(used: Used) -> None:
    rows = rows_of(used.folder)
    assert sorted(rows) == sorted(CONTENDERS + REFERENCES)
    assert {row["n_samples"] for row in rows.values()} == {32}
    assert {row["n_samples"] for row in rows_of(used.folder, measured=False).values()} == {16}


def test_nothing_is_measured_before_all_else_has_ended(used: Used) -> None:
    kinds = [event["event"] for event in read_events(used.folder)]
    first = kinds.index("served")
    assert not {"started", "epoch", "ended", "baseline"} & set(kinds[first:])
    assert Counter(kinds)["served"] == len(CONTENDERS + REFERENCES)
    assert "measuring speed in use: 3 models, 3 baselines" in used.printed
    assert "measured speed in use: 3 models, 3 baselines; took" in used.printed


def test_what_is_measured_is_plausible(used: Used) -> None:
    rows = rows_of(used.folder)
    for row in rows.values():
        assert row["serving_texts_per_second"] > 0
        assert row["serving_batch"] == 64
        assert row["latency_p95_seconds"] >= row["latency_p50_seconds"] > 0
        assert row["serving_memory_bytes"] > 10 * 2**20
        assert (row["serving_node_type"], row["serving_market"]) == ("l4-spot", "spot")
        assert row["serving_error"] is None
    assert {rows[name]["serving_cpus"] for name in ("majority", "tf-idf")} == {1.0}
    assert {rows[name]["serving_cpus"] for name in (*CONTENDERS, "read-bert")} == {2.0}
    sizes = {name: row["serving_size_bytes"] for name, row in rows.items()}
    assert sizes["majority"] < 1000 < sizes["tf-idf"] < sizes["llama"]
    # PyTorch is not imported for what does without.
    memory = {name: row["serving_memory_bytes"] for name, row in rows.items()}
    assert memory["tf-idf"] < 0.8 * memory["read-bert"]


def test_trials_say_what_they_reserved_and_where(used: Used) -> None:
    rows = pq.read_table(used.folder / "results.parquet").to_pylist()
    trials = [row for row in rows if row["kind"] == "model"]
    assert {(row["node_type"], row["market"], row["gpus"]) for row in trials} == {
        ("l4-spot", "spot", 0.0)
    }
    assert {row["cpus"] for row in trials if row["model"] != "llama"} == {2.0}
    # Two slots share the host's two CPUs.
    assert {row["cpus"] for row in trials if row["model"] == "llama"} == {1.0}


def test_what_is_measured_is_what_was_trained(used: Used) -> None:
    config, record = load_config(used.folder / "config.yaml"), replay(read_events(used.folder))
    test = build_subsets(config).evaluation("test", 2)
    for name in CONTENDERS:
        trial = record.trials[rows_of(used.folder)[name]["trial_id"]]
        spec, ended = trial.spec, trial.ended
        assert ended is not None
        weights = read_best_weights(used.folder, None, spec.trial_id, ended["best_epoch"] or 0)
        source = str(used.folder / "models" / (ended["base"] or "")) if ended["base"] else ""
        for dtype, most in (("float32", 0), ("bfloat16", 2), ("float16", 2)):
            place = source or spec.model.path
            served = load_trial(spec, dtype, place, weights, torch.device("cpu"))
            pairs = zip(served.predict(test.texts), ended["predictions"] or (), strict=True)
            assert sum(one != other for one, other in pairs) <= most


def test_size_is_that_of_a_merged_export(used: Used, tmp_path: Path) -> None:
    row = rows_of(used.folder)["llama"]
    arguments = [
        str(used.folder),
        "--cell",
        row["cell_id"],
        "--out",
        str(tmp_path / "x"),
        "--merge",
    ]
    assert export_cli.main(arguments) == 0
    files = [path for path in (tmp_path / "x").iterdir() if path.suffix != ".md"]
    written = sum(path.stat().st_size for path in files if path.name != "sweep.json")
    assert row["serving_size_bytes"] == pytest.approx(written, rel=0.02)


def test_run_with_nothing_to_measure_does_not_start_ray(
    used: Used, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delattr(driver, "connect")
    assert main(used.arguments) == 0


def forget(folder: Path, *models: str) -> None:
    """Remove what was measured of ``models`` from the journal."""
    ids = {rows_of(folder)[model]["trial_id"] for model in models}
    path = folder / JOURNAL_NAME
    lines = path.read_text().splitlines(keepends=True)
    gone = [line for line in lines if '"event":"served"' in line and any(i in line for i in ids)]
    assert len(gone) == len(models)
    path.write_text("".join(line for line in lines if line not in gone))


def list_served(folder: Path) -> list[tuple[str, str]]:
    """Return the ids of what was measured in the order of the journal, and what went wrong."""
    events = [event for event in read_events(folder) if event["event"] == "served"]
    return [(event["trial_id"], event.get("serving_error") or "") for event in events]


def test_resume_measures_what_is_missing_and_tells_what_it_cannot(
    used: Used, capsys: pytest.CaptureFixture[str]
) -> None:
    folder, rows = used.folder, rows_of(used.folder)
    forget(folder, "llama", "tf-idf")
    before = list_served(folder)
    checkpoints = folder / "checkpoints" / rows["llama"]["trial_id"]
    checkpoints.rename(folder / "elsewhere")
    assert main(used.arguments) == 0
    (folder / "elsewhere").rename(checkpoints)
    printed = capsys.readouterr().out
    told = [line for line in printed.splitlines() if "not measured in use" in line]
    assert len(told) == 1
    assert told[0].startswith("llama, 2 labels x 32 samples, seed 0: not measured in use (")
    assert "is missing or damaged" in told[0]
    assert "measured speed in use: 1 model, 1 baseline, 1 failed" in printed
    new = list_served(folder)[len(before) :]
    assert [trial_id for trial_id, _ in new] == [rows[m]["trial_id"] for m in ("tf-idf", "llama")]
    assert [bool(error) for _, error in new] == [False, True]


def test_lost_worker_costs_one_measurement_and_failed_ones_are_retried_on_request(
    used: Used, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    measure, losses = Meter.measure, iter([True])

    def lose(meter: Meter, job: Any) -> Any:
        if next(losses, False):
            ray.kill(meter._actor)
        return measure(meter, job)

    forget(used.folder, "majority")
    monkeypatch.setattr(Meter, "measure", lose)
    # That of the test before failed.
    assert main([*used.arguments, "--retry-failed"]) == 0
    said = "baseline majority, 2 labels x 32 samples, seed 0: not measured in use (its worker was"
    assert said in capsys.readouterr().out
    assert [bool(error) for _, error in list_served(used.folder)[-2:]] == [True, False]
    assert set(rows_of(used.folder)) == {*CONTENDERS, *REFERENCES} - {"majority"}


def test_interrupt_keeps_what_is_done_and_writes_the_report(
    used: Used, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    forget(used.folder, "tf-idf", "bert")
    # A test that runs Tune by itself leaves Tune's handler in this process.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    monkeypatch.setattr(Meter, "measure", lambda *_: signal.raise_signal(signal.SIGINT))
    (used.folder / "report.html").unlink()
    assert main(used.arguments) == 0
    assert "interrupted: 2 of 2 not measured in use; --resume" in capsys.readouterr().out
    assert (used.folder / "report.html").is_file()
    assert list(read_events(used.folder))[-1]["event"] == "closed"
