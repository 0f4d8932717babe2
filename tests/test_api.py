"""The parts of the Python interface that need no run; those that do are in tuning/test_sweep.py."""

from pathlib import Path

import pytest
from rich.console import Console

from sweep import api
from sweep.doctor import examination
from sweep.errors import ConfigError, DataError, RunFolderError
from sweep.plan import Plan
from sweep.storage.journal import Journal

QUIET = Console(quiet=True)


def write_reviews(folder: Path) -> Path:
    rows = [f"this is text number {i} about {('praise', 'returns')[i % 2]}" for i in range(200)]
    lines = ["text,label", *(f"{row},{row.rpartition(' ')[2]}" for row in rows)]
    path = folder / "reviews.csv"
    path.write_text("\n".join(lines))
    return path


def test_drafted_study_can_be_loaded_and_says_what_was_chosen(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data, out = write_reviews(tmp_path), tmp_path / "study.yaml"
    drafted = api.draft_study(data, "2h", out, models=["tiny:llama"], text_columns=["text"])
    study = api.load_study(drafted.path)
    assert (study.data.path, study.data.text_column) == (str(data), "text")
    assert any(line.startswith("Chosen: ") for line in drafted.sentences)
    assert capsys.readouterr().out == ""
    with pytest.raises(ConfigError, match="exists already"):
        api.draft_study(data, "2h", out)


def test_study_that_cannot_be_drafted_leaves_no_file(tmp_path: Path) -> None:
    data, out = write_reviews(tmp_path), tmp_path / "study.yaml"
    with pytest.raises(ConfigError, match="--budget"):
        api.draft_study(data, "soon", out)
    with pytest.raises(DataError, match="--label-column names 'topic'"):
        api.draft_study(data, "2h", out, label_column="topic")
    assert not out.exists()


def test_examined_machine_has_the_findings_of_the_command(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[tuple[str, list[str]]] = []

    def ask(library: str, arguments: list[str] | None = None) -> list[api.Finding]:
        asked.append((library, arguments or []))
        return [api.Finding("error", library, "is broken; install it again")]

    monkeypatch.setattr(examination, "ask", ask)
    found = api.examine_machine(tmp_path / "runs", "10.0.0.1:6379")
    assert sorted(asked) == [("ray", ["10.0.0.1:6379"]), ("torch", [])]
    assert [each.key for each in found if each.level == "error"] == ["torch", "ray"]
    assert any(str(tmp_path / "runs") in each.sentence for each in found if each.key == "disk")
    with pytest.raises(ConfigError, match="is not the address of a Ray cluster"):
        api.examine_machine(tmp_path, "x y")


def test_attached_run_says_whether_its_driver_ended(tmp_path: Path, plan: Plan) -> None:
    with Journal(tmp_path) as journal:
        journal.append("opened", predicted=None)
        journal.append_all([("planned", {"trial": spec}) for spec in plan.trials])
        journal.append("closed", trials_left=len(plan.trials))
    attached = api.attach_run(tmp_path, QUIET)
    assert (attached.folder, attached.driver) == (tmp_path, "ended")
    assert (attached.unfinished, attached.exit_code) == (len(plan.trials), 0)
    with pytest.raises(RunFolderError, match="name a run folder"):
        api.attach_run(tmp_path / "none", QUIET)


def test_attached_run_says_whether_its_driver_died(
    tmp_path: Path, plan: Plan, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sweep.display.attach.SILENT_SECONDS", -1.0)
    with Journal(tmp_path) as journal:
        journal.append("opened", predicted=None)
        journal.append_all([("planned", {"trial": spec}) for spec in plan.trials])
        trial_id = plan.trials[0].trial_id
        journal.append("ended", trial_id=trial_id, status="finished", val_accuracy=0.5)
    attached = api.attach_run(tmp_path, QUIET)
    assert (attached.driver, attached.exit_code) == ("died", 1)
    assert attached.unfinished == len(plan.trials) - 1
