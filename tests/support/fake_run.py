"""Writes a run folder with made-up but plausible numbers, through the real journal and tables."""

import math
from collections.abc import Sequence
from dataclasses import replace
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
from sklearn.metrics import f1_score

from sweep.errors import Finding
from sweep.plan import Candidate, Cell, ModelRef, Recipe, TrialSpec
from sweep.storage.account import DataAccount, LeftOut, Reason, SplitAccount
from sweep.storage.forecast import Forecast
from sweep.storage.journal import Journal
from sweep.storage.tables import write_tables

BASELINES = ("majority", "tf-idf")
MODELS = ("qwen2-tiny", "llama-tiny", "gpt2-tiny", "gemma3-tiny")
LABELS = [
    "admiration",
    "amusement",
    "gratitude",
    "love",
    "anger",
    "approval",
    "curiosity",
    "sadness",
    "joy",
    "surprise",
    "fear",
    "optimism",
    "confusion",
    "remorse",
    "disgust",
    "desire",
]
COUNTS = (2, 4, 8, 16)
SAMPLES = (800, 1600, 2400)
TEST_TEXTS = 320
EPOCHS = 4
CANDIDATES = (
    Candidate(0, 8, 16.0, 1.27e-3, 0.05, 0.01),
    Candidate(1, 32, 64.0, 2.4e-4, 0.05, 0.01),
)
NO_RESULT_CELL = ("gpt2-tiny", 16, 800)
ERROR = "RuntimeError: the loss is not a number after 12 steps"
MEMORY_ERROR = "OutOfMemoryError: the batch did not fit; lower train.batch_size"


def write_fake_run(
    folder: Path,
    models: Sequence[str] = MODELS,
    labels: Sequence[str] = LABELS,
    counts: Sequence[int] = COUNTS,
    samples: Sequence[int] = SAMPLES,
    seeds: Sequence[int] = (0,),
    error: str = ERROR,
    end_trials: bool = True,
    baselines: bool = True,
    repeats: int = 0,
    repeat_seeds: str | None = None,
) -> Path:
    """Write a run over the complete grid into ``folder`` and return it.

    Per cell one candidate finishes and the other finishes, is stopped or fails; the third model's
    cell with the most labels and the fewest samples has no result. ``end_trials=False`` leaves a
    run that has only planned; ``baselines`` adds the majority class and TF-IDF.
    ``repeats`` trains the first candidate again with as many fresh seeds, 100 and up; the driver
    notes ``repeat_seeds``.
    """
    folder.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(0)
    with Journal(folder) as journal:
        journal.append("opened", **_opened(models, labels), repeat_seeds=repeat_seeds)
        specs = list(_plan(models, labels, counts, samples, seeds))
        journal.append_all([("planned", {"trial": spec}) for spec in specs])
        fresh = range(100, 100 + repeats)
        copies = _repeat(specs, seeds[0], fresh)
        journal.append_all([("planned", {"trial": t, "repeat_of": of}) for t, of in copies])
        for count in counts:
            journal.append("test_set", **_test_set(labels[:count]))
        if end_trials and baselines:
            subsets = product(counts, samples, seeds)
            events = [_baseline(name, labels, *s, rng) for s in subsets for name in BASELINES]
            journal.append_all([("baseline", event) for event in events])
        if end_trials:
            hopeless = _hopeless_cell(models, counts, samples)
            events = [e for spec in specs for e in _trial(spec, models, hopeless, error, rng)]
            journal.append_all(events)
            events = [e for t, _ in copies for e in _trial(t, models, hopeless, error, rng)]
            journal.append_all(events)
            again = product(BASELINES if baselines else (), counts, samples, fresh)
            journal.append_all(
                [("baseline", _baseline(name, labels, *s, rng)) for name, *s in again]
            )
            journal.append("closed", reason="all trials ended")
    (folder / "config.yaml").write_text("name: fake\ngrid:\n  n_labels: [2, 4, 8, 16]\n")
    write_tables(folder)
    return folder


def _baseline(
    name: str, labels: Sequence[str], k: int, n: int, seed: int, rng: np.random.Generator
) -> dict[str, Any]:
    truth = np.arange(TEST_TEXTS) % k
    skill = (0.86 - 0.1 * math.log2(k / 2)) * (1 - math.exp(-n / 700))
    right = rng.random(TEST_TEXTS) < 1 / k + (1 - 1 / k) * skill
    guess = np.where(right, truth, (truth + rng.integers(1, k, TEST_TEXTS)) % k)
    predicted = np.zeros(TEST_TEXTS, int) if name == "majority" else guess
    accuracy = float((predicted == truth).mean())
    identity = f"{name}-{k}-{n}-{seed}"
    cell = {"model": name, "n_labels": k, "labels": list(labels[:k]), "n_samples": n, "seed": seed}
    return {
        "trial_id": identity,
        "cell_id": identity,
        **cell,
        "val_accuracy": min(1.0, accuracy + 0.01),
        "test_accuracy": accuracy,
        "n_test": TEST_TEXTS,
        "test_macro_f1": float(f1_score(truth, predicted, average="macro")),
        "train_seconds": n / 4000,
        "wall_seconds": n / 3000,
        "predictions": predicted.tolist(),
    }


def _account(labels: Sequence[str]) -> DataAccount:
    """Return the account of two files, of which one also gives validation texts."""
    train = SplitAccount(
        "train",
        files=("data/train.csv",),
        text_columns=("text",),
        label_column="label",
        read=12_000,
        cut_off=1_000,
        usable=9_800,
        left_out=(
            LeftOut(Reason.SEVERAL_LABELS, 400),
            LeftOut(Reason.EXCLUDED_LABEL, 700, {labels[-1]: 700}),
            LeftOut(Reason.REPEATED, 100),
        ),
    )
    validation = SplitAccount("validation", from_training=1_000, fraction=0.1, usable=1_000)
    test = SplitAccount(
        "test",
        files=("data/test.csv",),
        text_columns=("text",),
        label_column="label",
        read=1_000,
        usable=1_000,
    )
    remark = Finding("warning", "data.splits", f"data.splits: {labels[0]}.csv is not used")
    splits = train, validation, test
    return DataAccount("files", 0, splits, (f"data/{labels[0]}.csv",), (remark,))


def _opened(models: Sequence[str], labels: Sequence[str]) -> dict[str, Any]:
    return {
        "host": "worker-1",
        "pid": 1,
        "command": "python -m sweep.run sweep_configs/quickstart.yaml --name fake",
        "versions": {"ray": "2.55.1", "torch": "2.10.0", "peft": "0.19.0", "transformers": "5.0.0"},
        "git_commit": "0123456789abcdef0123456789abcdef01234567",
        "predicted": Forecast((0.0, 45.0, 300.0), dict.fromkeys(models, 640 * 2**20)),
        "data": _account(labels),
    }


def _plan(
    models: Sequence[str],
    labels: Sequence[str],
    counts: Sequence[int],
    samples: Sequence[int],
    seeds: Sequence[int],
) -> Any:
    recipe = Recipe(16, 64, 64, "float32", 0.1, 1.0, 2, EPOCHS)
    for m, k, n, seed in product(range(len(models)), counts, samples, seeds):
        cell_id = f"c{m}-{k}-{n}-{seed}"
        cell = Cell(cell_id, models[m], k, tuple(labels[:k]), n, seed)
        ref = ModelRef(models[m], models[m], "0" * 12)
        for candidate in CANDIDATES:
            trial_id = f"{cell_id}-t{candidate.index}"
            yield TrialSpec(trial_id, cell, candidate, ref, recipe, "f" * 12)


def _repeat(
    specs: Sequence[TrialSpec], tuned: int, fresh: Sequence[int]
) -> list[tuple[TrialSpec, str]]:
    """Return repeats of the first candidate of each cell, and of which trial they are."""
    return [
        (replace(spec, trial_id=f"{cell.cell_id}-t0", cell=cell), spec.trial_id)
        for spec in specs
        if spec.cell.seed == tuned and spec.candidate.index == 0
        for seed in fresh
        for cell in [replace(spec.cell, seed=seed, cell_id=f"{spec.cell.cell_id}-{seed}")]
    ]


def _test_set(labels: Sequence[str]) -> dict[str, Any]:
    truth = [i % len(labels) for i in range(TEST_TEXTS)]
    return {"labels": list(labels), "items": list(range(TEST_TEXTS)), "truth": truth}


def _hopeless_cell(
    models: Sequence[str], counts: Sequence[int], samples: Sequence[int]
) -> tuple[str, int, int] | None:
    return (models[2], max(counts), min(samples)) if len(models) > 2 else None


def _accuracy(spec: TrialSpec, models: Sequence[str], epoch: int) -> float:
    k, n = spec.cell.n_labels, spec.cell.n_samples
    skill = 0.92 - 0.045 * models.index(spec.cell.model) - 0.1 * math.log2(k / 2)
    gain = (1 - math.exp(-n / 700)) * (
        1 - math.exp(-(epoch + 0.3) * (1.2 - spec.candidate.index / 2))
    )
    return 1 / k + (1 - 1 / k) * skill * gain


def _choose_status(spec: TrialSpec, hopeless: tuple[str, int, int] | None) -> str:
    cell, index = spec.cell, spec.candidate.index
    if (cell.model, cell.n_labels, cell.n_samples) == hopeless:
        return ("failed", "diverged")[index]
    if index == 0:
        return "finished"
    turn = sum(map(ord, cell.cell_id)) % 7
    return {0: "finished", 1: "finished", 2: "diverged", 3: "oom"}.get(turn, "stopped")


def _trial(
    spec: TrialSpec,
    models: Sequence[str],
    hopeless: tuple[str, int, int] | None,
    error: str,
    rng: np.random.Generator,
) -> Any:
    status = _choose_status(spec, hopeless)
    name = {"trial_id": spec.trial_id}
    yield "started", {**name, "host": "worker-1", "device": "cpu", "dtype": "float32"}
    epochs = {"finished": EPOCHS, "stopped": 1, "diverged": 2}.get(status, 0)
    history = [_epoch(spec, models, epoch, rng) for epoch in range(1, epochs + 1)]
    for values in history:
        last = values["epoch"] == epochs
        decision = "continue" if not last else "stop" if status == "stopped" else "done"
        asha = {"rung": 1.0, "cutoff": 0.6} if values["epoch"] == 1 else {}
        yield "epoch", {**name, **values, **asha, "decision": decision}
    ended = _finish(spec, models, history, rng) if status == "finished" else {}
    failed = status in ("failed", "diverged", "oom")
    yield (
        "ended",
        {
            **name,
            "status": status,
            "error": MEMORY_ERROR if status == "oom" else error if failed else None,
            "epochs_run": epochs,
            **_summary(history),
            **ended,
        },
    )


def _epoch(
    spec: TrialSpec, models: Sequence[str], epoch: int, rng: np.random.Generator
) -> dict[str, Any]:
    accuracy = min(0.99, _accuracy(spec, models, epoch) + rng.normal(0, 0.012))
    return {
        "epoch": epoch,
        "train_loss": 1.5 - accuracy,
        "val_loss": 1.6 - accuracy,
        "val_accuracy": round(accuracy, 4),
        "val_macro_f1": round(accuracy - 0.01, 4),
        "train_seconds": spec.cell.n_samples / 900,
        "eval_seconds": 0.3,
    }


def _summary(history: list[dict[str, Any]]) -> dict[str, Any]:
    if not history:
        return {}
    best = max(history, key=lambda values: values["val_accuracy"])
    names = ("val_accuracy", "val_macro_f1", "val_loss")
    tokens = round(900 * sum(values["train_seconds"] for values in history)) * 17
    return {
        "train_tokens": tokens,
        "padded_tokens": round(1.06 * tokens),
        "best_epoch": best["epoch"],
        **{name: best[name] for name in names},
        "train_seconds": sum(values["train_seconds"] for values in history),
        "eval_seconds": 0.3 * len(history),
        "wall_seconds": sum(values["train_seconds"] for values in history) * 1.3 + 1,
        "peak_memory_bytes": 600 * 2**20,
    }


def _finish(
    spec: TrialSpec, models: Sequence[str], history: list[dict[str, Any]], rng: np.random.Generator
) -> dict[str, Any]:
    k = spec.cell.n_labels
    truth = np.arange(TEST_TEXTS) % k
    right = rng.random(TEST_TEXTS) < _accuracy(spec, models, len(history)) - 0.01
    predicted = np.where(right, truth, (truth + rng.integers(1, k, TEST_TEXTS)) % k)
    return {
        "test_accuracy": float((predicted == truth).mean()),
        "test_macro_f1": float(f1_score(truth, predicted, average="macro")),
        "n_validation": TEST_TEXTS,
        "n_test": TEST_TEXTS,
        "predictions": predicted.tolist(),
    }
