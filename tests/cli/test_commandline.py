"""Options that contradict each other, absolute paths in the saved configuration, and the command
that resumes a run."""

import json
import os
import shlex
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml
from fake_run import MODELS, write_fake_run

import sweep.__main__
from analysis.report import main as report
from sweep.cli.outcome import INTERRUPTED
from sweep.cli.run_options import format_resume_command
from sweep.config import find_config, list_shipped, load_config
from sweep.export.cli import main as export
from sweep.preflight.paths import make_absolute
from sweep.run import main


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["--name", ""], "--name is empty; give a value"),
        (["--name", " "], "--name is empty"),
        (["--out", ""], "path is empty"),
        (["--address", ""], "--address is empty"),
        (["--attach", ""], "path is empty"),
        (["--attach", "runs/x", "--name", "x"], "--attach only watches a sweep"),
        (["--attach", "runs/x", "--json"], "leave out --json"),
        (["--attach", "runs/x", "--address", "auto"], "leave out --address"),
        (["--attach", "runs/x", "--retry-failed"], "leave out --retry-failed"),
        (["--attach", "runs/x", "--set", "a=1"], "leave out --set"),
        (["c.yaml", "--attach", "runs/x"], "leave out CONFIG"),
        (["--name", "a", "--set", "name=b"], "--set name=b has no effect"),
        (["--name", "a", "--name", "b"], "--name is given twice, 'a' and 'b'; keep one"),
        (["--out", "runs", "--out", "b"], "--out is given twice, 'runs' and 'b'; keep one"),
        (["a.yaml", "b.yaml"], "'b.yaml' is one argument too many"),
        (["--adress", "auto"], "'--adress' is not an option; did you mean --address?"),
        (["--set"], "--set: expected one argument; see python -m sweep.run --help"),
        (["--out", "~nobody12/x"], "starts in a home folder that does not exist here"),
        (["--resume", "--dry-run"], "there is no run to resume here; check --name and --out"),
        (["--resume", "--name", "x", "--dry-run"], "there is no run to resume here"),
    ],
)
def test_option_without_effect_is_refused_and_nothing_starts(
    arguments: list[str],
    sentence: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(arguments) == 2
    error = capsys.readouterr().err
    assert sentence in error
    assert error.count("\n") == 1
    assert not list(tmp_path.iterdir())


def test_resume_command_names_every_option_and_is_quoted_for_a_shell() -> None:
    words = shlex.split(format_resume_command("x", Path("my runs/$HOME"), "ray://h:1"))
    assert words[1:] == [
        *("-m", "sweep.run", "--name", "x", "--out", "my runs/$HOME"),
        *("--address", "ray://h:1", "--resume"),
    ]


def test_resume_command_starts_this_interpreter(monkeypatch: pytest.MonkeyPatch) -> None:
    command = format_resume_command("x", Path("runs"), None)
    (python, *_) = shlex.split(command)
    ask = [python, "-c", "import sys; print(sys.prefix)"]
    found = subprocess.run(ask, capture_output=True, text=True, check=True)
    assert found.stdout.strip() == sys.prefix
    monkeypatch.setenv("PATH", f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}")
    assert format_resume_command("x", Path("runs"), None).startswith("python -m sweep.run --name x")


@pytest.mark.parametrize(
    ("program", "words"),
    [
        ("bin/sweep", ["bin/sweep", "run"]),
        (str(Path(sweep.__main__.__file__)), [None, "-m", "sweep", "run"]),
        ("pytest", [None, "-m", "sweep.run"]),
    ],
)
def test_resume_command_is_spelled_as_this_one(
    program: str, words: list[str | None], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", [program, "run"])
    spelled = shlex.split(format_resume_command("x", Path("runs"), None))
    wanted = [word or spelled[0] for word in words]
    assert spelled == [*wanted, "--name", "x", "--resume"]


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["plna"], "'plna' is not a command of sweep; did you mean plan?"),
        (["my.yaml"], "to run a study, write sweep run before it"),
        (["--name", "x"], "to run a study, write sweep run before it"),
        (["plan", "--attach", "x"], "'--attach' is not an option"),
        (["plan", "goemotion"], "name a YAML file, or a study that comes with this package"),
        (["attach", ""], "path is empty"),
        (["configs", "lap"], "did you mean laptop?"),
        (["configs", "--out", "x"], "--out needs a NAME too"),
        (["configs", "laptop", "--out", "none/x.yaml"], "none/x.yaml: cannot be written ("),
        (["doctor", "--address", "x y"], "--address x y: is not the address of a Ray cluster"),
    ],
)
def test_subcommand_that_cannot_start_says_why_in_one_sentence(
    arguments: list[str],
    sentence: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    assert sweep.__main__.main(arguments) == 2
    error = capsys.readouterr().err
    assert sentence in error
    assert error.count("\n") == 1
    assert not list(tmp_path.iterdir())


def test_plan_is_a_dry_run(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    small = ["--set", "grid.n_labels=[2]", "--out", str(tmp_path), "--json"]
    assert main(["quickstart", "--dry-run", *small]) == 0
    plan = json.loads(capsys.readouterr().out)
    assert sweep.__main__.main(["plan", "quickstart", *small]) == 0
    assert json.loads(capsys.readouterr().out)["trials"] == plan["trials"]


def test_file_of_the_users_comes_before_a_study_of_that_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert find_config(Path("laptop.yaml")) == list_shipped()["laptop"]
    (tmp_path / "laptop").mkdir()
    assert find_config(Path("laptop")) == list_shipped()["laptop"]
    (tmp_path / "laptop.yaml").touch()
    assert find_config(Path("laptop.yaml")) == Path("laptop.yaml")
    assert find_config(Path("other/laptop.yaml")) == Path("other/laptop.yaml")


def test_paths_mean_the_same_from_any_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, write_config: Callable[..., Path]
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "org" / "local").mkdir(parents=True)
    models = [
        {"name": "folder", "path": "org/local"},
        {"name": "home", "path": "~/model"},
        {"name": "hub", "path": "org/elsewhere"},
        {"name": "tiny", "path": "tiny:gpt2"},
    ]
    config = make_absolute(
        load_config(
            write_config(
                data={"path": "texts", "labels_file": "names.txt"},
                grid={"models": models, "n_labels": [2], "n_samples": [8]},
                storage={"checkpoints": "~/kept"},
                trackers={"mlflow": {"tracking_uri": "./mlruns"}},
            )
        )
    )
    assert config.data.path == str(tmp_path / "texts")
    assert config.data.labels_file == "names.txt"
    assert [model.path for model in config.grid.models] == [
        str(tmp_path / "org" / "local"),
        str(Path.home() / "model"),
        "org/elsewhere",
        "tiny:gpt2",
    ]
    assert config.storage.checkpoints == str(Path.home() / "kept")
    assert config.trackers.mlflow is not None
    assert config.trackers.mlflow.tracking_uri == str(tmp_path / "mlruns")


def test_splits_without_a_path_become_absolute(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, write_config: Callable[..., Path]
) -> None:
    monkeypatch.chdir(tmp_path)
    data = {"splits": {"train": "a.csv", "test": "/b.csv"}, "labels_file": "names.txt"}
    found = make_absolute(load_config(write_config(data=data))).data
    assert found.splits == {"train": str(tmp_path / "a.csv"), "test": "/b.csv"}
    assert found.labels_file == str(tmp_path / "names.txt")


def test_shipped_configurations_stay_as_they_are() -> None:
    for path in Path("sweep_configs").glob("*.yaml"):
        tree = yaml.safe_load(path.read_text())
        if tree.get("data", {}).get("source") != "files":
            config = load_config(path)
            assert make_absolute(config) == config


@pytest.mark.parametrize("command", [export, report])
def test_other_commands_refuse_what_is_given_twice_too(
    command: Callable[[list[str]], int], capsys: pytest.CaptureFixture[str]
) -> None:
    best = ["--best"] if command is export else []
    assert command(["run", *best, "--out", "a", "--out", "b"]) == 2
    assert capsys.readouterr().err == "error: --out is given twice, 'a' and 'b'; keep one\n"


def test_report_says_which_option_has_no_effect(capsys: pytest.CaptureFixture[str]) -> None:
    assert report(["run", "--charts", "a", "--out", "b"]) == 2
    assert "--out has no effect with --charts" in capsys.readouterr().err


def test_dry_run_says_that_a_run_is_there_already(
    write_config: Callable[..., Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command = [str(write_config()), "--out", str(tmp_path), "--dry-run"]
    assert main(command) == 0
    assert "not empty" not in capsys.readouterr().out
    (tmp_path / "small").mkdir()
    (tmp_path / "small" / "config.yaml").touch()
    assert main(command) == 0
    assert (
        f"note: {tmp_path / 'small'}: is not empty; add --resume to continue"
        in capsys.readouterr().out
    )


@pytest.mark.parametrize(
    "address", ["nonsense", "http://127.0.0.1:1", ":", "a b", "h:99999", "h:x"]
)
def test_what_is_no_address_is_refused_by_its_name(
    address: str,
    write_config: Callable[..., Path],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    command = [str(write_config()), "--dry-run"]
    assert main([*command, "--address", address]) == 2
    assert f"--address {address}: is not the address of a Ray cl" in capsys.readouterr().err
    monkeypatch.setenv("RAY_ADDRESS", address)
    assert main(command) == 2
    assert "or auto, or unset RAY_ADDRESS" in capsys.readouterr().err


def test_cluster_that_does_not_answer_leaves_no_run_behind(
    write_config: Callable[..., Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "runs"
    command = [str(write_config()), "--out", str(out), "--address", "127.0.0.1:1"]
    assert main(command) == 2
    errors = capsys.readouterr().err
    assert "--address 127.0.0.1:1: no Ray cluster answers" in errors
    assert errors.count("\n") == 1
    assert not out.exists()


@pytest.mark.parametrize(
    ("out", "sentence"),
    [
        ("file", "cannot be created ({0}/file is a file); choose another --out"),
        (".", "{0}/small: is not empty; add --resume to continue a run (there is none here)"),
    ],
)
def test_what_is_in_the_way_of_a_run_is_reported_with_a_remedy_that_works(
    out: str,
    sentence: str,
    write_config: Callable[..., Path],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    (tmp_path / "file").touch()
    (tmp_path / "small").mkdir()
    (tmp_path / "small" / "mine.txt").touch()
    command = [str(write_config()), "--out", str(tmp_path / out)]
    assert main([*command, "--dry-run"]) == 0
    assert sentence.format(tmp_path) in capsys.readouterr().out
    assert main(command) == 2
    assert sentence.format(tmp_path) in capsys.readouterr().err


def test_path_that_no_file_system_takes_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--out", "x" * 300, "--dry-run"]) == 2
    assert "cannot be a path: it is too long" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("option", "place"), [("--out", "."), ("--out", "none/x.html"), ("--charts", "file")]
)
def test_report_that_cannot_be_written_is_one_sentence(
    option: str,
    place: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    run = write_fake_run(tmp_path / "run", models=MODELS[:1], counts=(2,), samples=(800,))
    (tmp_path / "file").touch()
    monkeypatch.chdir(tmp_path)
    assert report([str(run), option, place]) == 2
    errors = capsys.readouterr().err
    assert errors.startswith(f"error: {place}: cannot be written (")
    assert errors.endswith(f"; choose another {option}\n")


@pytest.mark.parametrize(
    ("arguments", "step"),
    [
        (["doctor"], "sweep.doctor.cli.examine_machine"),
        (["configs"], "sweep.cli.configs.list_shipped"),
        (["export", "runs/x", "--best", "--out", "new"], "sweep.export.cli.find_winner"),
        (["report", "runs/x"], "analysis.report.write_report"),
        (["plan"], "sweep.api.resolve_inputs"),
        (["--version"], "sweep.__main__._answer"),
    ],
)
def test_interrupted_command_says_so_and_has_the_exit_code_of_a_shell(
    arguments: list[str],
    step: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(step, interrupt)
    assert sweep.__main__.main(arguments) == INTERRUPTED
    assert capsys.readouterr().err == "interrupted\n"
