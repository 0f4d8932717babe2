"""Which trial is exported, what is refused, and what is uploaded."""

import json
import os
import shutil
from pathlib import Path
from typing import Any

import pytest
from small_run import TINY_LLAMA, build_run, cell_of, write_data

from sweep.cli.outcome import INTERRUPTED
from sweep.data import Corpus
from sweep.export.cli import main
from sweep.export.winner import find_winner
from sweep.models.base import materialize
from sweep.plan import ModelRef
from sweep.storage.checkpoints import list_checkpoints
from sweep.storage.journal import Journal
from sweep.training.checkpoint import read_checkpoint, write_checkpoint

TOKEN = "hf_secretsecretsecret"


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory, corpus: Corpus) -> Path:
    """Return a run with one trial."""
    root = tmp_path_factory.mktemp("one")
    return build_run(root, write_data(root / "data", corpus), TINY_LLAMA)


@pytest.fixture
def copy(run: Path, tmp_path: Path) -> Path:
    """Return a copy of the run that a test may damage."""
    return Path(shutil.copytree(run, tmp_path / "copy"))


def fail(capsys: pytest.CaptureFixture[str], *arguments: Any) -> str:
    """Return the sentence with which an export is refused."""
    assert main([str(argument) for argument in arguments]) == 2
    printed = capsys.readouterr()
    assert printed.out == ""
    assert printed.err.startswith("error: ")
    assert printed.err.count("\n") == 1
    return printed.err


def test_export_leaves_the_run_as_it_was(copy: Path, tmp_path: Path) -> None:
    before = {p: p.stat().st_mtime_ns for p in copy.rglob("*") if p.is_file()}
    assert main([str(copy), "--best", "--out", str(tmp_path / "new" / "winner")]) == 0
    assert {p: p.stat().st_mtime_ns for p in copy.rglob("*") if p.is_file()} == before


def test_best_is_chosen_by_chance_normalized_validation_accuracy(run: Path, tmp_path: Path) -> None:
    spec = json.loads((run / "journal.jsonl").read_text().splitlines()[2])["trial"]
    facts = {  # labels, validation, test: the second guesses least, though others look better
        "aaa": (2, 0.80, 0.99),
        "bbb": (4, 0.75, 0.10),
        "ccc": (4, 0.70, 0.90),
    }
    with Journal(tmp_path) as journal:
        for name, (k, validation, test) in facts.items():
            labels = [f"label-{index}" for index in range(k)]
            cell = spec["cell"] | {"cell_id": name, "n_labels": k, "labels": labels}
            journal.append("planned", trial=spec | {"trial_id": name, "cell": cell})
            scores = {"val_accuracy": validation, "test_accuracy": test}
            journal.append("ended", trial_id=name, status="finished", **scores)
    assert find_winner(tmp_path, None).spec.cell.cell_id == "bbb"
    assert find_winner(tmp_path, "ccc").spec.cell.cell_id == "ccc"


def test_damaged_checkpoint_is_refused(
    copy: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for file in copy.glob("checkpoints/*/*/best.safetensors"):
        data = bytearray(file.read_bytes())
        data[-1] ^= 1
        file.write_bytes(data)
    out = tmp_path / "winner"
    error = fail(capsys, copy, "--cell", cell_of(copy, "llama"), "--out", out)
    assert "missing or damaged" in error
    assert not list(tmp_path.glob("winner*"))


@pytest.mark.parametrize("options", [(), ("--merge",)])
def test_folder_with_another_score_than_the_run_gets_no_name(
    options: tuple[str, ...], copy: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for checkpoints in (copy / "checkpoints").iterdir():
        newest = list_checkpoints(checkpoints)[0]
        groups, state = read_checkpoint(newest) or ({}, {})
        for name, tensor in groups["best"].items():
            groups["best"][name] = tensor.flip(0) if "score" in name else tensor
        write_checkpoint(newest, groups, state)
    out = tmp_path / "winner"
    error = fail(capsys, copy, "--best", "--out", out, *options)
    assert "is not the model that was measured" in error
    assert not out.exists()
    assert not (tmp_path / "winner.partial" / "README.md").exists()
    assert "winner.partial: is left over" in fail(capsys, copy, "--best", "--out", out)


def test_accuracy_that_the_weights_do_not_give_is_refused(
    copy: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = copy / "journal.jsonl"
    events = [json.loads(line) for line in path.read_text().splitlines()]
    for event in events:
        if event["event"] == "ended":
            event["test_accuracy"] += 0.003
    path.write_text("".join(json.dumps(event) + "\n" for event in events))
    assert "the run has" in fail(capsys, copy, "--best", "--out", tmp_path / "winner")


def test_missing_checkpoint_is_named(
    copy: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.rmtree(copy / "checkpoints")
    error = fail(capsys, copy, "--best", "--out", tmp_path / "winner")
    assert "missing or damaged" in error


def test_folder_in_use_is_refused(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "mine.txt").write_text("mine")
    assert "is not empty" in fail(capsys, run, "--best", "--out", tmp_path)
    assert (tmp_path / "mine.txt").read_text() == "mine"


def test_empty_folder_is_accepted(run: Path, tmp_path: Path) -> None:
    (tmp_path / "winner").mkdir()
    assert main([str(run), "--best", "--out", str(tmp_path / "winner")]) == 0
    assert (tmp_path / "winner" / "adapter_model.safetensors").is_file()


def test_unknown_cell_gets_the_nearest_and_how_to_list_all(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    cell = cell_of(run, "llama")
    error = fail(capsys, run, "--cell", cell[:-1] + "!", "--out", tmp_path / "winner")
    assert f"did you mean {cell}?" in error
    assert "--dry-run" in error


def test_cell_without_a_finished_trial_says_how_its_trials_ended(
    copy: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    text = (copy / "journal.jsonl").read_text()
    (copy / "journal.jsonl").write_text(text.replace('"finished"', '"diverged"'))
    cell, out = cell_of(copy, "llama"), tmp_path / "winner"
    error = fail(capsys, copy, "--cell", cell, "--out", out)
    assert "no finished trial (1 diverged)" in error
    assert "no cell has a result yet" in fail(capsys, copy, "--best", "--out", out)


def test_folder_without_a_run_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    error = fail(capsys, tmp_path, "--best", "--out", tmp_path / "winner")
    assert "name a run folder" in error


@pytest.fixture
def own_base(tmp_path: Path, corpus: Corpus) -> tuple[Path, Path]:
    """Return a run whose base model is an ordinary folder, and that folder."""
    data = write_data(tmp_path / "data", corpus)
    texts = [row.text for row in corpus.splits["train"]]
    source = materialize(ModelRef("x", "tiny:gpt2", "gpt2-v1"), tmp_path, texts)
    models = [{"name": "own", "path": source}]
    return build_run(tmp_path, data, models), Path(source)


def test_base_model_that_changed_or_is_missing_is_named(
    own_base: tuple[Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run, base = own_base
    first = tmp_path / "first"
    assert main([str(run), "--best", "--out", str(first)]) == 0
    config = json.loads((first / "adapter_config.json").read_text())
    assert config["base_model_name_or_path"] == str(base)
    capsys.readouterr()
    with (base / "config.json").open("a") as file:
        file.write(" ")
    assert "has changed since" in fail(capsys, run, "--best", "--out", tmp_path / "second")
    shutil.rmtree(base)
    assert "is missing" in fail(capsys, run, "--best", "--out", tmp_path / "second")


def test_data_that_changed_are_refused(
    corpus: Corpus, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data = write_data(tmp_path / "data", corpus)
    run = build_run(tmp_path, data, TINY_LLAMA)
    text = (data / "test.jsonl").read_text()
    (data / "test.jsonl").write_text(text.replace("today", "tomorrow", 1))
    assert "have changed" in fail(capsys, run, "--best", "--out", tmp_path / "winner")


class StandInHub:
    """Replaces the Hub's client, and records how it is called."""

    calls: list[tuple[str, dict[str, Any]]]
    problem: Exception | None

    def __init__(self, token: str) -> None:
        assert token == TOKEN

    def create_repo(self, repo_id: str, **options: Any) -> None:
        self.calls.append((repo_id, options))

    def upload_folder(self, *, repo_id: str, folder_path: Path) -> str:
        if self.problem:
            raise self.problem
        self.calls.append((repo_id, {"files": sorted(p.name for p in folder_path.iterdir())}))
        return f"https://hub/{repo_id}"


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch) -> type[StandInHub]:
    StandInHub.calls, StandInHub.problem = [], None
    monkeypatch.setattr("huggingface_hub.HfApi", StandInHub)
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    return StandInHub


def test_pushed_folder_is_private_and_holds_no_token(
    run: Path, tmp_path: Path, hub: type[StandInHub], capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "winner"
    assert main([str(run), "--best", "--out", str(out), "--merge", "--push", "me/winner"]) == 0
    assert hub.calls[0] == ("me/winner", {"private": True, "exist_ok": True})
    assert "model.safetensors" in hub.calls[1][1]["files"]
    assert "https://hub/me/winner" in capsys.readouterr().out
    assert not [p for p in out.rglob("*") if p.is_file() and TOKEN.encode() in p.read_bytes()]


def test_failed_push_keeps_the_folder_and_hides_the_token(
    run: Path, tmp_path: Path, hub: type[StandInHub], capsys: pytest.CaptureFixture[str]
) -> None:
    hub.problem = OSError(f"refused for {TOKEN}")
    out = tmp_path / "winner"
    assert main([str(run), "--best", "--out", str(out), "--merge", "--push", "me/winner"]) == 2
    printed = capsys.readouterr()
    assert TOKEN not in printed.out + printed.err
    assert "could not be uploaded to me/winner" in printed.err
    assert (out / "README.md").is_file()


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        (("--merge", "--push", "no repository"), "OWNER/NAME"),
        (("--push", "me/winner"), "add --merge"),
    ],
)
def test_push_that_cannot_help_anybody_is_refused_before_the_export(
    options: tuple[str, ...],
    sentence: str,
    run: Path,
    tmp_path: Path,
    hub: type[StandInHub],
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert sentence in fail(capsys, run, "--best", "--out", tmp_path / "winner", *options)
    assert not hub.calls


def test_push_without_a_token_says_where_to_put_it(
    run: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.delenv("HF_TOKEN", raising=False)
    options = ("--merge", "--push", "me/winner")
    assert "HF_TOKEN" in fail(capsys, run, "--best", "--out", tmp_path / "winner", *options)
    assert TOKEN not in os.environ.values()


def test_interrupted_export_leaves_nothing_and_can_be_repeated(
    run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupt(*_: object) -> None:
        assert any((tmp_path / "winner.partial").iterdir())
        raise KeyboardInterrupt

    command = [str(run), "--best", "--out", str(tmp_path / "winner")]
    with monkeypatch.context() as patch:
        patch.setattr("sweep.export.cli.rescore", interrupt)
        assert main(command) == INTERRUPTED
    assert not list(tmp_path.iterdir())
    assert main(command) == 0
