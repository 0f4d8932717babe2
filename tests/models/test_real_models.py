"""The real weights at hand: SWEEP_MODELS names a folder of model folders (Gemma 3, Llama)."""

import os
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from peft import AutoPeftModelForSequenceClassification

from sweep.config import ModelConfig
from sweep.data import Subsets
from sweep.models.sources import resolve_revision
from sweep.plan import ModelRef, Plan
from sweep.training.solo import SoloEngine

FOLDER = os.environ.get("SWEEP_MODELS", "")
MODELS = sorted(Path(FOLDER).glob("*/config.json")) if FOLDER else []


@pytest.mark.skipif(not MODELS, reason="SWEEP_MODELS names no folder of model folders")
@pytest.mark.parametrize("weights", MODELS, ids=lambda path: path.parent.name)
def test_trained_adapter_gives_the_same_logits_in_stock_peft(
    weights: Path, plan: Plan, subsets: Subsets, tmp_path: Path
) -> None:
    spec = plan.trials[0]
    model = ModelConfig(name="real", path=str(weights.parent))
    ref = ModelRef("real", model.path, resolve_revision(model))
    recipe = replace(spec.recipe, dtype="float32", max_epochs=1)
    candidate = replace(spec.candidate, learning_rate=5e-4)
    engine = SoloEngine(subsets, tmp_path / "models")
    engine.start(replace(spec, model=ref, recipe=recipe, candidate=candidate), tmp_path / "kept")
    assert engine.run_epoch()["status"] == "finished"
    trial = engine._trial
    ours, tokenizer = trial.model.eval(), trial.base.tokenizer
    ours.save_pretrained(tmp_path / "adapter")
    batch = dict(tokenizer(["what a day", "thanks a lot, you"], padding=True, return_tensors="pt"))
    batch.pop("token_type_ids", None)
    stock = AutoPeftModelForSequenceClassification.from_pretrained(
        tmp_path / "adapter", num_labels=spec.cell.n_labels, dtype=torch.float32
    ).eval()
    stock.base_model.model.config.pad_token_id = tokenizer.pad_token_id
    with torch.inference_mode():
        expected = ours(**batch).logits
        assert expected.abs().max() > 1e-3
        assert torch.allclose(stock(**batch).logits, expected, atol=1e-4)
