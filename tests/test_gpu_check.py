"""The check for GPUs works, on a CPU, and tells what is wrong."""

import json
import os
import subprocess
import sys
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModelForSequenceClassification, LlamaConfig

import benchmarks.random_models
from benchmarks.gpu import __main__ as command
from benchmarks.gpu import compiled
from benchmarks.gpu.findings import Findings, format_summary
from benchmarks.gpu.parts import Part, run_parts
from benchmarks.gpu.same import compare_curves
from benchmarks.gpu.setting import Setting
from benchmarks.gpu.waits import ROOT, WAIT, record_waits
from benchmarks.random_models import write_random_model
from sweep.training.solo import SoloEngine

# All but the sweep under Ray, which tests/tuning has, and compiled blocks, which take a minute.
PARTS = ("machine", "same", "waits", "speed", "starts", "checkpoints", "stock", "kernels")
CURVE: Any = [{"train_loss": 1.0, "val_loss": 1.0, "val_accuracy": 0.5}]


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """Return what the command wrote, by part, and its "output"."""
    out = tmp_path_factory.mktemp("found")
    words = ["--device", "cpu", "--models", "tiny-llama", "--parts", ",".join(PARTS)]
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.gpu", *words, "--out", str(out)],
        capture_output=True, text=True, cwd=ROOT, env=os.environ | {"OMP_NUM_THREADS": "1"},
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    written = {part: json.loads((out / f"{part}.json").read_text()) for part in PARTS}
    return written | {"output": done.stdout}


def build_setting(folder: Path, seconds: float = 60.0) -> Setting:
    return Setting(torch.device("cpu"), folder, time.time() + seconds)


def run_one(
    folder: Path, run: Callable[[Setting, Findings], None], wanted: float, seconds: float = 60.0
) -> Findings:
    part = Part("one", run, {"cpu": wanted})
    return run_parts([part], build_setting(folder, seconds), folder)[0]


def test_every_part_passes_on_a_cpu(found: dict[str, Any]) -> None:
    assert {part: found[part]["outcome"] for part in PARTS} == dict.fromkeys(PARTS, "passed")
    assert "Nothing failed." in found["output"]


def test_curves_are_compared_in_two_formats_and_by_both_methods(found: dict[str, Any]) -> None:
    names = " ".join(check["check"] for check in found["same"]["checks"])
    for word in ("packed as alone, float32", "packed as alone, bfloat16", "(lora)", "(full)"):
        assert word in names
    losses = [check.get("loss_difference", 0.0) for check in found["same"]["checks"]]
    assert max(losses) > 0.0


def test_memory_errors_were_planted(found: dict[str, Any]) -> None:
    checks = found["same"]["checks"]
    assert next(c["errors_planted"] for c in checks if "errors_planted" in c) > 0


def test_what_a_cpu_cannot_measure_is_told(found: dict[str, Any]) -> None:
    assert "no GPU" in found["waits"]["notes"][0]
    assert "no GPU" in found["kernels"]["notes"][0]


def test_engines_are_timed_side_by_side(found: dict[str, Any]) -> None:
    rows = found["speed"]["tables"]["training"]
    assert [row["engine"] for row in rows] == ["solo", "pack of 1", "pack of 4"]
    alone, one, four = rows
    assert alone["forecast GB"] < one["forecast GB"] + 1e-9 < four["forecast GB"]
    assert alone["padding"] == one["padding"] == four["padding"] == 0
    (recipes,) = found["stock"]["tables"].values()
    assert [row["engine"] for row in recipes] == ["stock", "solo", "pack of 2"]


def test_compiled_blocks_are_timed_beside_others(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def build(setting: Setting) -> SoloEngine:
        return SoloEngine(setting.subsets, setting.models_folder, compiler="eager")

    monkeypatch.setattr(compiled, "build_solo", build)
    findings = Findings("compiled", tmp_path / "compiled.json")
    compiled.measure_compiled(build_setting(tmp_path), findings)
    assert findings.outcome == "passed" and not findings.notes
    (rows,) = findings.tables.values()
    assert [row["blocks"] for row in rows] == ["uncompiled", "compiled"]
    assert rows[0]["times"] == 1.0 != rows[1]["times"] and rows[1]["graphs"] == 4


def test_checkpoints_of_both_engines_are_as_large(found: dict[str, Any]) -> None:
    (rows,) = found["checkpoints"]["tables"].values()
    sizes = {round(row["MB"], 2) for row in rows}
    assert len(rows) == 2 and len(sizes) == 1


@pytest.mark.parametrize(
    "changed",
    [{"train_loss": 1.001}, {"val_accuracy": 0.51}, {"val_loss": float("nan")}, {"val_loss": None}],
)
def test_a_curve_that_differs_is_a_failure(tmp_path: Path, changed: dict[str, Any]) -> None:
    findings = Findings("same", tmp_path / "same.json")
    compare_curves(findings, "equal", "float32", {"a": CURVE}, {"a": CURVE})
    assert findings.outcome == "passed"
    compare_curves(findings, "other", "float32", {"a": CURVE}, {"a": [CURVE[0] | changed]})
    assert findings.outcome == "FAILED"
    assert "- same: check other" in format_summary([findings])


def test_a_curve_that_is_too_short_is_a_failure(tmp_path: Path) -> None:
    findings = Findings("same", tmp_path / "same.json")
    compare_curves(findings, "short", "bfloat16", {"a": CURVE}, {"a": []})
    assert findings.outcome == "FAILED"


def test_a_failed_check_is_the_exit_code(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for passed, code in ((True, 0), (False, 1)):

        def check(setting: Setting, findings: Findings, passed: bool = passed) -> None:
            findings.check("planted", passed)

        monkeypatch.setattr(command, "PARTS", [Part("same", check, {"cpu": 1.0})])
        assert command.main(["--device", "cpu", "--out", str(tmp_path)]) == code


def test_a_part_for_which_there_is_no_time_is_skipped_and_told(tmp_path: Path) -> None:
    findings = run_one(tmp_path, lambda setting, findings: None, wanted=70.0)
    assert findings.outcome == "skipped"
    assert "it needs 70 s" in format_summary([findings])


def test_a_part_whose_process_dies_fails_and_keeps_what_it_found(tmp_path: Path) -> None:
    def die(setting: Setting, findings: Findings) -> None:
        findings.add("rows", found=1)
        os._exit(3)

    findings = run_one(tmp_path, die, wanted=1.0)
    assert findings.outcome == "FAILED" and findings.error.endswith("3")
    assert findings.tables == {"rows": [{"found": 1}]}


def test_an_error_in_a_part_is_told(tmp_path: Path) -> None:
    def fail(setting: Setting, findings: Findings) -> None:
        raise ValueError("planted")

    findings = run_one(tmp_path, fail, wanted=1.0)
    assert findings.outcome == "FAILED" and "planted" in format_summary([findings])


def test_an_error_in_one_comparison_leaves_the_others(tmp_path: Path) -> None:
    findings = Findings("same", tmp_path / "same.json")
    with findings.attempt("first"):
        raise ValueError("planted")
    with findings.attempt("second"):
        findings.check("second", True)
    assert [check["passed"] for check in findings.checks] == [False, True]
    assert "planted" in format_summary([findings])


def test_a_part_is_ended_with_the_time_of_all(tmp_path: Path) -> None:
    start = time.monotonic()
    findings = run_one(tmp_path, lambda setting, findings: time.sleep(60), 0.5, seconds=1.0)
    assert time.monotonic() - start < 30
    assert findings.outcome == "unfinished"


def test_waits_are_counted_by_the_line_that_leads_to_them() -> None:
    text = f"import warnings\nfor _ in range(2):\n    warnings.warn('called a {WAIT}')\n"
    code = compile(text, str(ROOT / "sweep" / "made.py"), "exec")
    with record_waits(on_gpu=False) as waits:
        warnings.warn("something else", stacklevel=1)
        exec(code)
    assert waits == {"sweep/made.py:3": 2}


def test_a_random_model_loads_whole_in_bfloat16(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = LlamaConfig(
        vocab_size=2000, hidden_size=16, intermediate_size=32, num_hidden_layers=2,
        num_attention_heads=2, tie_word_embeddings=True,
    )  # fmt: skip
    monkeypatch.setattr(benchmarks.random_models, "_config", lambda size: config)
    folder = write_random_model("llama-135m", tmp_path / "model")
    model, info = AutoModelForSequenceClassification.from_pretrained(
        folder, dtype="auto", output_loading_info=True
    )
    assert set(info["missing_keys"]) == {"score.weight"} and not info["unexpected_keys"]
    assert model.dtype == torch.bfloat16
    assert bool((model.model.norm.weight == 1).all())
    spread = model.model.embed_tokens.weight.detach().float().std()
    assert float(spread) == pytest.approx(0.02, rel=0.1)
