"""Whatever the command line is given: a plan, or exit code 2 and one sentence, nothing else."""

import json
import os
import tempfile
from collections.abc import Iterator
from contextlib import chdir, redirect_stderr, redirect_stdout
from io import StringIO
from pathlib import Path
from typing import Any
from unittest import mock

import pytest
import yaml
from cases import REACHED, cases, check_sentence, untouched
from hypothesis import strategies as st
from strategies import ODD_TEXTS, dotted, plain_texts, texts, values

from sweep.data import hub
from sweep.preflight import runtime as estimate
from sweep.run import main

FILE = "data.csv"
SMALL: dict[str, Any] = {
    "name": "small",
    "data": {"source": "files", "path": FILE},
    "grid": {
        "models": [{"name": "tiny", "path": "tiny:llama"}],
        "n_labels": [2],
        "n_samples": [4, 8],
    },
    "tune": {"candidates": 2, "lora_rank": [2, 4], "learning_rate": 5e-3},
    "asha": {"max_epochs": 3, "grace_epochs": 1, "reduction_factor": 2},
}
ROWS = "text,label\n" + "".join(
    f"text {i} of {label},{label}\n" for label in ("joy", "fear", "calm") for i in range(12)
)
ARGUMENTS = ("--json", "--resume", "--out=runs", "--out=data.csv", "--name=other", "--name=used")


@pytest.fixture(scope="module", autouse=True)
def quiet_machine() -> Iterator[None]:
    """Do not measure this machine or use the network."""
    with (
        mock.patch.object(estimate, "measure_cpu_flops", lambda threads: 1e11),
        mock.patch.object(hub, "go_offline_if_silent", lambda: None),
        mock.patch.dict(os.environ, {"HF_HUB_OFFLINE": "1"}),
    ):
        yield


def run(arguments: list[str], files: dict[str, str] | None = None) -> None:
    """Check one dry run in a folder of its own, which it does not change."""
    with tempfile.TemporaryDirectory() as name, chdir(name):
        given = {FILE: ROWS, "small.yaml": yaml.safe_dump(SMALL), **(files or {})}
        for file, text in given.items():
            Path(file).parent.mkdir(parents=True, exist_ok=True)
            Path(file).write_bytes(text.encode("utf-8", "replace"))
        out, errors = StringIO(), StringIO()
        with untouched(Path(name)), redirect_stdout(out), redirect_stderr(errors):
            code = main(["small.yaml", "--dry-run", *arguments])
    check_output(code, out.getvalue(), errors.getvalue(), "--json" in arguments)


def check_output(code: int, out: str, errors: str, as_json: bool) -> None:
    assert "Traceback" not in out + errors
    if errors:
        assert code == 2
        assert not out
        assert errors.startswith("error: ")
        check_sentence(errors.removesuffix("\n"))
        return
    assert code in (0, 2)
    REACHED["dry runs"] += code == 0
    if as_json:
        found = json.loads(out)["preflight"]["findings"]
        sentences = [each["sentence"] for each in found if each["level"] == "error"]
    else:
        sentences = [line for line in out.split("\n") if line.startswith("  error: ")]
    assert bool(sentences) == (code == 2)
    for sentence in sentences:
        check_sentence(sentence)


sets = st.lists(st.builds("--set={}={}".format, dotted, values) | texts.map("--set={}".format),
                max_size=3)  # fmt: skip


@cases(100, sets=sets, options=st.lists(st.sampled_from(ARGUMENTS), max_size=2, unique=True))
def test_any_override(sets: list[str], options: list[str]) -> None:
    run([*sets, *options])


@cases(50, name=texts)
def test_any_run_name(name: str) -> None:
    run([f"--name={name}"])


@cases(60, path=texts, key=st.sampled_from(
    ["data.path", "data.labels_file", "data.splits.test", "grid.models.0.path", "data.text_column"]
))  # fmt: skip
def test_any_path(path: str, key: str) -> None:
    run([f"--set={key}={json.dumps(path)}"])


table_lines = st.builds("{},{}".format, plain_texts, plain_texts | st.sampled_from(["joy", "fear"]))


@cases(80, lines=st.lists(table_lines, max_size=8), sound=st.booleans(), as_json=st.booleans())
def test_any_data_file(lines: list[str], sound: bool, as_json: bool) -> None:
    text = (ROWS if sound else "text,label\n") + "\n".join(lines)
    run(["--json"] if as_json else [], {FILE: text})


@cases(30, names=st.lists(st.sampled_from(ODD_TEXTS), min_size=2, max_size=3, unique=True))
def test_any_label_name(names: list[str]) -> None:
    rows = [{"text": f"text {i} of {name}", "label": name} for name in names for i in range(12)]
    text = "\n".join(map(json.dumps, rows))
    run(["--set=data.path=rows.jsonl"], {"rows.jsonl": text})


@cases(40, lines=st.lists(st.sampled_from(
    ['{"event":"opened","time":1}', "{}", "[]", "null", "", '{"event":"unknown","time":1}', "\x00"]
), max_size=4))  # fmt: skip
def test_any_run_folder(lines: list[str]) -> None:
    run(["--name=used"], {"runs/used/journal.jsonl": "\n".join(lines) + "\n"})
