"""Whole sweeps on a real Ray cluster of two nodes."""

import json
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
import yaml
from ray_runs import ONE_WORKER, kill_and_resume, start_nodes
from rich.console import Console

from sweep import api
from sweep.run import main
from sweep.storage.journal import Journal, read_events

MODELS = [{"name": f"tiny-{family}", "path": f"tiny:{family}"} for family in ("qwen2", "gpt2")]
TREE: dict[str, Any] = {
    "name": "mixed",
    "data": {"source": "synthetic", "max_eval_per_label": 6},
    "grid": {"models": MODELS, "n_labels": [2, 16], "n_samples": [160]},
    "tune": {"candidates": 3, "lora_rank": [4, 8], "learning_rate": {"loguniform": [1e-3, 1e-2]}},
    "serving": {"measure": False},
    "asha": {"max_epochs": 4, "grace_epochs": 1, "reduction_factor": 2},
    "train": {"batch_size": 16, "max_length": 32, "dtype": "float32"},
}


# Less to train, by one worker: importing torch takes longer than all of its training.
SMALL = ["--set", "grid.n_labels=[2]", "--set", "baselines=[]", *ONE_WORKER]


@pytest.fixture(scope="module")
def address() -> Iterator[str]:
    """Start two nodes; give the cluster's address."""
    with start_nodes(2) as address:
        yield address


@pytest.fixture(scope="module")
def out(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("runs")


@pytest.fixture(scope="module")
def config(out: Path) -> Path:
    path = out / "mixed.yaml"
    path.write_text(yaml.safe_dump(TREE))
    return path


@pytest.fixture(scope="module")
def run(address: str, out: Path, config: Path) -> Path:
    """Run the sweep; return its folder."""
    assert main([str(config), "--out", str(out), "--address", address, "--auto-resume"]) == 0
    return out / "mixed"


def rows(folder: Path, name: str = "results") -> list[dict[str, Any]]:
    """Return the rows of a table, without the baselines'."""
    found: list[dict[str, Any]] = pq.read_table(folder / f"{name}.parquet").to_pylist()
    return [row for row in found if row.get("kind") != "baseline"]


def test_every_cell_of_2_and_16_labels_has_a_result(run: Path) -> None:
    cells = {(row["model"], row["n_labels"]) for row in rows(run) if row["best_of_cell"]}
    assert cells == {(m["name"], k) for m in MODELS for k in (2, 16)}


def test_baselines_are_rows_of_the_same_table(run: Path) -> None:
    found = pq.read_table(run / "results.parquet").to_pylist()
    axes = [(row["model"], row["n_labels"]) for row in found if row["kind"] == "baseline"]
    assert sorted(axes) == [(name, k) for name in ("majority", "tf-idf") for k in (2, 16)]
    assert {(row["gpus"], row["cpus"]) for row in baseline_rows(run)} == {(0.0, 1.0)}


def test_journal_keeps_what_became_of_the_data(run: Path) -> None:
    opened = next(event for event in read_events(run) if event["event"] == "opened")
    account = opened["data"]
    assert [split.read for split in account.splits] == [11_767, 1_314, 1_314]


def test_every_planned_trial_ended_once(run: Path) -> None:
    ended = [e["trial_id"] for e in read_events(run) if e["event"] == "ended"]
    planned = [e["trial"].trial_id for e in read_events(run) if e["event"] == "planned"]
    assert sorted(ended) == sorted(planned)
    assert len(planned) == 12


def test_asha_stopped_somebody_and_wrote_down_why(run: Path) -> None:
    stops = [row for row in rows(run, "history") if row["decision"] == "stop"]
    assert stops
    for row in stops:
        best = max(
            r["val_accuracy"] for r in rows(run, "history") if r["trial_id"] == row["trial_id"]
        )
        assert best < row["cutoff"]


def test_test_texts_are_scored_for_finished_trials_only(run: Path) -> None:
    for row in rows(run):
        assert (row["test_accuracy"] is not None) == (row["status"] == "finished")


def test_predictions_give_the_accuracy_of_the_table(run: Path) -> None:
    predictions = rows(run, "predictions")
    for best in (row for row in rows(run) if row["best_of_cell"]):
        own = [p for p in predictions if p["cell_id"] == best["cell_id"]]
        hits = sum(p["label"] == p["predicted"] for p in own)
        assert len(own) == best["n_test"]
        assert hits / len(own) == pytest.approx(best["test_accuracy"])


def test_base_model_is_loaded_once_per_worker_and_model(run: Path) -> None:
    ended = [e for e in read_events(run) if e["event"] == "ended"]
    # Two workers, two models: the last trial of a worker tells how often it loaded one.
    assert max(e["base_loads"] for e in ended) <= 3
    assert len(ended) == 12


def test_no_pickle_is_left_in_the_run_folder(run: Path) -> None:
    names = {path.suffix for path in run.rglob("*") if path.is_file()}
    assert not names & {".pkl", ".pickle", ".bin", ".pt", ".pth"}
    assert not (run / "tune").exists()


def read_decision(run: Path) -> str:
    page = (run / "report.html").read_text()
    return page.partition('id="decision"')[2].partition("</section>")[0]


def test_finished_run_is_resumed_without_training(
    run: Path, out: Path, config: Path, address: str, capsys: pytest.CaptureFixture[str]
) -> None:
    before = [e for e in read_events(run) if e["event"] == "epoch"]
    assert "USD" not in read_decision(run)
    resume = ["--name", "mixed", "--out", str(out), "--resume", "--address", address]
    assert main([*resume, "--set", "cost.label=0.2"]) == 0
    # The report has the new price at once.
    assert "160 labels (32.00 USD)" in read_decision(run)
    assert [e for e in read_events(run) if e["event"] == "epoch"] == before
    assert capsys.readouterr().out.splitlines()[-1] == str(run / "report.html")


def test_the_same_command_again_is_done_at_once(
    run: Path, out: Path, config: Path, address: str, capsys: pytest.CaptureFixture[str]
) -> None:
    before = [e["event"] for e in read_events(run)]
    arguments = ["--out", str(out), "--address", address, "--auto-resume"]
    assert main([str(config), *arguments]) == 0
    assert main(["--name", "mixed", *arguments]) == 0
    added = [e["event"] for e in read_events(run)][len(before) :]
    assert set(added) == {"opened", "closed"}
    assert capsys.readouterr().out.splitlines()[-1] == str(run / "report.html")


def test_the_python_interface_does_what_the_commands_do(
    run: Path, out: Path, config: Path, address: str, tmp_path: Path
) -> None:
    study = api.load_study(config)
    assert api.build_study(study.model_dump(mode="json")) == study
    planned = api.plan_study(study, out, address)
    assert planned.plan is not None and not planned.errors
    assert planned.done >= {spec.trial_id for spec in planned.plan.trials}
    finished = api.run_study(planned, console=Console(quiet=True))
    assert (finished.folder, finished.exit_code, finished.missing) == (run, 0, ())
    assert finished.report == api.write_report(run) == run / "report.html"
    attached = api.attach_run(run, Console(quiet=True))
    assert (attached.driver, attached.unfinished) == ("ended", 0)
    frames = api.read_run(run)
    assert set(frames.results["trial_id"]) == {row["trial_id"] for row in rows(run)} | {
        row["trial_id"] for row in baseline_rows(run)
    }
    classifier = api.load_classifier(api.export_winner(run, tmp_path / "winner", merge=True))
    assert classifier.predict(["a text", "another"]).shape == (2, len(classifier.labels))


def test_the_python_interface_raises_what_the_commands_say(
    run: Path, out: Path, config: Path, tmp_path: Path
) -> None:
    with pytest.raises(api.SweepError, match="nowhere does not exist"):
        study = api.load_study(config, ["grid.models.0.path=./nowhere", "name=new"])
        api.run_study(api.plan_study(study, tmp_path))
    assert not (tmp_path / "new").exists()
    with pytest.raises(api.SweepError, match=r"grid\.n_labels"):
        api.build_study({"grid": {"models": [{"name": "a", "path": "tiny:llama"}]}})
    other = api.plan_study(api.load_study(config, ["train.batch_size=8"]), out)
    with pytest.raises(api.SweepError, match="holds a run of another study"):
        api.run_study(other)


def test_a_run_of_another_study_is_not_continued_by_itself(
    run: Path, out: Path, config: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = (run / "journal.jsonl").read_bytes()
    arguments = [str(config), "--out", str(out), "--auto-resume"]
    assert main([*arguments, "--set", "train.batch_size=8"]) == 2
    error = capsys.readouterr().err
    assert "holds a run of another study" in error and "choose another --name" in error
    assert (run / "journal.jsonl").read_bytes() == before


def test_a_second_driver_waits_or_leaves_as_told(
    run: Path, out: Path, config: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = [str(config), "--out", str(out), "--auto-resume"]
    with Journal(run):
        assert main(arguments) == 2
        assert "another sweep is running in this folder" in capsys.readouterr().err
        assert main([*arguments, "--busy", "leave"]) == 0
        assert "goes on alone" in capsys.readouterr().out
        command = [sys.executable, "-m", "sweep.run", *arguments, "--busy", "wait"]
        waiting = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        assert waiting.stdout is not None
        assert "waiting for it to end" in waiting.stdout.readline()
    output, _ = waiting.communicate()
    assert waiting.returncode == 0
    assert output.splitlines()[-1] == str(run / "report.html")


def test_larger_grid_trains_the_new_cells_only(
    run: Path, out: Path, config: Path, address: str
) -> None:
    before = {row["trial_id"]: row for row in rows(run)}
    arguments = [str(config), "--out", str(out), "--resume", "--address", address]
    assert main([*arguments, "--set", "grid.n_samples=[80,160]"]) == 0
    after = {row["trial_id"]: row for row in rows(run)}
    assert len(after) == 24
    for trial_id, row in before.items():
        same = {k: v for k, v in row.items() if k not in ("versions", "git_commit")}
        assert same == {key: after[trial_id][key] for key in same}


def test_killed_sweep_resumes_to_the_table_of_an_undisturbed_one(
    run: Path, out: Path, config: Path
) -> None:
    arguments = [str(config), "--out", str(out), "--name", "cut"]
    arguments += ["--set", "grid.n_labels=[2]", "--set", "asha.grace_epochs=4"]
    kill_and_resume(arguments, out / "cut", epochs=5)
    expected = {
        (e["trial_id"], e["epoch"]): e["val_loss"]
        for e in read_events(run)
        if e["event"] == "epoch"
    }
    again = [e for e in read_events(out / "cut") if e["event"] == "epoch"]
    shared = [e for e in again if (e["trial_id"], e["epoch"]) in expected]
    assert len(shared) >= 6
    for event in shared:
        key = (event["trial_id"], event["epoch"])
        assert event["val_loss"] == pytest.approx(expected[key], rel=1e-5)
    finished = {row["trial_id"] for row in rows(out / "cut")}
    assert len(finished) == 6


def baseline_rows(folder: Path) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = pq.read_table(folder / "results.parquet").to_pylist()
    return [row for row in found if row["kind"] == "baseline"]


REPEATED = ["--set", "grid.n_labels=[2]", "--set", "tune.candidates=2", "--set", "repeat.seeds=2"]


def test_killed_repeats_resume_to_the_table_of_an_undisturbed_run(
    out: Path, config: Path, address: str
) -> None:
    whole = [str(config), "--out", str(out), "--name", "whole", *REPEATED]
    assert main([*whole, "--address", address]) == 0
    # Four tuned trials of at most four epochs: by then repeats are running.
    kill_and_resume(
        [str(config), "--out", str(out), "--name", "broken", *REPEATED], out / "broken", 17
    )
    names = ("seed", "repeat_of", "val_loss", "test_accuracy", "status", "best_of_cell", "in_plan")
    tables = [
        {row["trial_id"]: [row[name] for name in names] for row in rows(out / name)}
        for name in ("whole", "broken")
    ]
    repeats = {key: row for key, row in tables[0].items() if row[1]}
    assert len(repeats) == 4 and {row[0] for row in repeats.values()} == {1, 2}
    assert {row[4] for row in repeats.values()} == {"finished"}
    assert {key: row for key, row in tables[1].items() if row[1]} == {
        key: pytest.approx(row) if None in row else row for key, row in repeats.items()
    }
    baselines = [
        {(r["model"], r["seed"], r["test_accuracy"]) for r in baseline_rows(out / name)}
        for name in ("whole", "broken")
    ]
    assert baselines[0] == baselines[1] and len(baselines[0]) == 6


def test_auto_repeats_within_a_budget_and_goes_on_with_a_larger_one(
    out: Path, config: Path, address: str, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = [str(config), "--out", str(out), "--name", "whole", *REPEATED[:-1]]
    arguments += ["repeat.seeds=auto", "--resume", "--address", address]
    arguments += ["--set", "baselines=[tf-idf,{features: 'tiny:gpt2', name: frozen}]"]
    assert main([*arguments, "--set", "repeat.budget=0.001s"]) == 0
    told = capsys.readouterr().out
    assert "repeats: 4 trials with 2 further seeds per cell" in told
    assert "comparisons with the best: " in told
    assert main([*arguments, "--set", "repeat.most=3"]) == 0
    repeats = [row for row in rows(out / "whole") if row["repeat_of"]]
    frozen = {row["seed"] for row in baseline_rows(out / "whole") if row["model"] == "frozen"}
    assert frozen == {0, *(row["seed"] for row in repeats)}
    assert all(row["status"] == "finished" for row in repeats)
    before = len(list(read_events(out / "whole")))
    assert main([*arguments, "--set", "repeat.most=3"]) == 0
    assert "planned" not in {e["event"] for e in list(read_events(out / "whole"))[before:]}


def interrupt(out: Path, config: Path, name: str, *signals: signal.Signals) -> tuple[int, str]:
    """Send ``signals`` to a sweep after its first epoch; return its exit code and output."""
    command = [sys.executable, "-m", "sweep.run", str(config), "--out", str(out), "--name", name]
    command += SMALL
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    journal = out / name / "journal.jsonl"
    while process.poll() is None:
        if journal.is_file() and '"event":"epoch"' in journal.read_text():
            for number in signals:
                process.send_signal(number)
                time.sleep(0.3)
            break
        time.sleep(0.05)
    output, _ = process.communicate()
    told = next(line for line in output.splitlines() if "continue with: " in line)
    paste(told.partition("continue with: ")[2], name, out)
    return process.returncode, output


def paste(command: str, name: str, out: Path) -> None:
    """See that a shell takes the command that goes on with a run, and finds that run."""
    assert command.endswith(f" -m sweep.run --name {name} --out {out} --resume")
    answer = subprocess.run(f"{command} --dry-run", shell=True, capture_output=True, text=True)
    assert answer.returncode == 0, answer.stderr
    assert "trials" in answer.stdout


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_interrupted_sweep_says_how_to_go_on(
    out: Path, config: Path, number: signal.Signals
) -> None:
    code, output = interrupt(out, config, f"by-{number.name.lower()}", number)
    folder = out / f"by-{number.name.lower()}"
    assert code == 130
    assert output.splitlines()[-1] == str(folder / "report.html")
    assert list(read_events(folder))[-1]["event"] == "closed"


def test_sweep_that_is_interrupted_twice_ends_at_once_and_keeps_its_state(
    out: Path, config: Path
) -> None:
    code, _ = interrupt(out, config, "twice", signal.SIGINT, signal.SIGINT)
    assert code == 130
    assert [e["event"] for e in read_events(out / "twice")].count("epoch") >= 1


def test_full_disk_ends_the_run_with_a_sentence_and_the_tables_whole(
    out: Path, config: Path
) -> None:
    """A limit on the size of files stands for the disk: the journal meets it."""
    code = (
        "import resource, sys; from sweep import run; from sweep.tuning import recorder\n"
        "write = recorder.Recorder.write_tables\n"
        "def fill(self):\n"
        "    write(self)\n"
        "    size = self._journal.path.stat().st_size\n"
        "    resource.setrlimit(resource.RLIMIT_FSIZE, (size + 50, resource.RLIM_INFINITY))\n"
        "recorder.Recorder.write_tables = fill\n"
        "sys.exit(run.main(sys.argv[1:]))"
    )
    command = [sys.executable, "-c", code, str(config), "--out", str(out), "--name", "full", *SMALL]
    answer = subprocess.run(command, capture_output=True, text=True, check=False)
    assert answer.returncode == 1
    # The limit is the whole process's: Ray's own log may meet it too, and says so.
    lines = [line for line in answer.stderr.splitlines() if "ray_log_sink" not in line]
    assert len(lines) == 1
    assert lines[0].startswith(f"error: {out}/full/journal.jsonl: cannot be written (File too")
    assert all(json.loads(line) for line in (out / "full" / "journal.jsonl").open())
    assert pq.read_table(out / "full" / "results.parquet").num_rows >= 0
