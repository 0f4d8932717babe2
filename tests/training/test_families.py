"""Every family of classifiers by every method: trained, exported, and loaded by stock libraries in
another process."""

import json
import subprocess
import sys
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import torch
from model_folders import DECODERS, ENCODERS, MORE_DECODERS, PLAIN, write_folder
from transformers import BertConfig, BertForMaskedLM, ByT5Tokenizer

from sweep.config import Config
from sweep.data import Subsets
from sweep.export.bundle import write_adapter, write_complete, write_tokenizer
from sweep.models.flat.texts import FlatTexts
from sweep.models.heads import is_of_head
from sweep.plan import Candidate, ModelRef, Plan, TrialSpec, build_plan
from sweep.training.classifier import build_classifier, find_best_weights
from sweep.training.solo import SoloEngine

FAMILIES = {name: ENCODERS[name] for name in ENCODERS} | {
    name: build
    for name, build in (*DECODERS.items(), *MORE_DECODERS.items())
    if name not in ("llama, tied", "llama, float16", "llama, five labels")
}
# A tokenizer without a fast form, and without a file of a vocabulary.
FAMILIES["bert, bytes"] = lambda: BertForMaskedLM(BertConfig(**PLAIN | {"vocab_size": 400}))
TOKENIZERS: dict[str, Any] = {"bert, bytes": ByT5Tokenizer}
TEXTS = ["what a day", "a much longer day than the one before", "", "so it goes"]
CANDIDATES = {
    "lora": Candidate(0, 4, 8.0, 1e-2, 0.0, 0.01),
    "full": Candidate(0, None, None, 1e-3, None, 0.01),
}
CASES = [(name, method) for name in FAMILIES for method in CANDIDATES]

# Loads each exported folder as its model card says, and prints logits and label names.
STOCK = """
import json, sys
import torch
from peft import AutoPeftModelForSequenceClassification
from transformers import AutoConfig, AutoModelForSequenceClassification, AutoTokenizer
from transformers.utils import logging

logging.set_verbosity_error()
logging.disable_progress_bar()
answers = {}
texts, folders = json.load(sys.stdin)
for folder, method in folders:
    if method == "full":
        model = AutoModelForSequenceClassification.from_pretrained(folder)
    else:
        config = AutoConfig.from_pretrained(folder, subfolder="classifier")
        names = ("id2label", "label2id", "pad_token_id")
        names = {name: getattr(config, name) for name in names if hasattr(config, name)}
        model = AutoPeftModelForSequenceClassification.from_pretrained(
            folder, dtype="float32", ignore_mismatched_sizes=True, **names
        )
    tokenizer = AutoTokenizer.from_pretrained(folder)
    batch = tokenizer(texts, padding=True, truncation=True, return_tensors="pt")
    with torch.no_grad():
        logits = model.eval()(**batch).logits.tolist()
    answers[folder] = [logits, [model.config.id2label[i] for i in range(len(logits[0]))]]
print(json.dumps(answers))
"""


class Trained(NamedTuple):
    """What a trial left: its logits, the epochs, where it was exported, and which of the base
    model's tensors differ from those that it was loaded with."""

    logits: torch.Tensor
    epochs: list[Any]
    folder: Path
    changed: list[str]
    touched: list[str]


class Laboratory:
    """Trains each case once, and has all exported folders loaded by one process."""

    def __init__(self, folder: Path, plan: Plan, subsets: Subsets) -> None:
        self._folder = folder
        self._plan = plan
        self._subsets = subsets
        self.train = cache(self._train)

    def _train(self, name: str, method: Any) -> Trained:
        source = self._folder / name
        if not source.exists():
            torch.manual_seed(0)
            write_folder(source, FAMILIES[name](), TOKENIZERS.get(name, lambda: None)())
        last = self._plan.trials[-1]
        spec = replace(
            last,
            model=ModelRef(name, str(source), "x", method=method),
            candidate=CANDIDATES[method],
            recipe=replace(last.recipe, dtype="float32", max_length=24, max_epochs=1),
        )
        engine, checkpoints = SoloEngine(self._subsets, self._folder), source / f"{method} states"
        engine.start(spec, checkpoints)
        trial = engine._trial
        before = {key: value.clone() for key, value in trial.trainable_weights()}
        epochs = [engine.run_epoch()]
        while not epochs[-1]["done"]:
            epochs.append(engine.run_epoch())
        touched = [k for k, v in trial.trainable_weights() if not torch.equal(v, before[k])]
        base, encoder = engine.get_base(spec)
        encoded = encoder.encode(TEXTS, [0] * len(TEXTS))
        logits = torch.stack([_score(trial, ids) for ids in encoded.ids])
        engine.close()
        target = self._folder / f"{name}, {method}"
        _export(spec, source, checkpoints, epochs[-1]["totals"]["best_epoch"], target)
        fresh = SoloEngine(self._subsets, self._folder).get_base(spec)[0].model.state_dict()
        own = base.model.state_dict()
        kept = [key for key in fresh if not is_of_head(key, base.head)]
        changed = [key for key in kept if not torch.equal(fresh[key], own[key])]
        return Trained(logits, epochs, target, changed, touched)

    def load(self) -> dict[str, Any]:
        """Return the logits and label names that stock libraries give for each exported folder."""
        folders = [(str(self.train(*case).folder), case[1]) for case in CASES]
        done = subprocess.run(
            [sys.executable, "-c", STOCK],
            input=json.dumps([TEXTS, folders]),
            capture_output=True,
            text=True,
            timeout=600,
        )
        assert done.returncode == 0, done.stderr[-2000:]
        answers: dict[str, Any] = json.loads(done.stdout)
        return answers


def _score(trial: Any, ids: list[int]) -> torch.Tensor:
    trial.model.eval()
    with torch.no_grad():
        row = torch.tensor([ids])
        logits: torch.Tensor = trial.base.forward(
            FlatTexts.from_padded(row, torch.ones_like(row), -1)
        )[0]
    return logits


def _export(spec: TrialSpec, source: Path, states: Path, epoch: int, target: Path) -> None:
    weights = find_best_weights(states, spec.trial_id, epoch)
    assert weights is not None
    base, model = build_classifier(spec, str(source), weights)
    target.mkdir()
    if spec.model.method == "full":
        write_complete(model, target)
    else:
        write_adapter(model, base, target, str(source), None)
    write_tokenizer(base, 24, target)


@pytest.fixture(scope="module")
def plan(subsets: Subsets) -> Plan:
    model = {"name": "m", "path": "tiny:llama"}
    grid = {"models": [model], "n_labels": [4], "n_samples": [16]}
    return build_plan(Config.model_validate({"grid": grid}), subsets, {"m": "x"})


@pytest.fixture(scope="module")
def laboratory(
    tmp_path_factory: pytest.TempPathFactory, plan: Plan, subsets: Subsets
) -> Laboratory:
    return Laboratory(tmp_path_factory.mktemp("families"), plan, subsets)


@pytest.fixture(scope="module")
def loaded(laboratory: Laboratory) -> dict[str, Any]:
    return laboratory.load()


@pytest.mark.parametrize(("name", "method"), CASES)
def test_trained_by_stock_libraries_gives_the_same_logits_and_label_names(
    name: str, method: str, laboratory: Laboratory, loaded: dict[str, Any], plan: Plan
) -> None:
    trained = laboratory.train(name, method)
    logits, names = loaded[str(trained.folder)]
    assert trained.epochs[-1]["status"] == "finished"
    torch.testing.assert_close(torch.tensor(logits), trained.logits, atol=1e-4, rtol=1e-4)
    assert tuple(names) == plan.trials[-1].cell.labels


@pytest.mark.parametrize(("name", "method"), CASES)
def test_a_trial_leaves_the_base_model_as_it_was_loaded(
    name: str, method: str, laboratory: Laboratory
) -> None:
    trained = laboratory.train(name, method)
    assert trained.changed == []
    assert trained.touched, "nothing was trained"
