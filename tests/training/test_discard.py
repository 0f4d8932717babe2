"""Memory of models that an engine has dropped."""

import gc
import weakref
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from model_folders import DECODERS, ENCODERS, write_folder

from sweep.data import Subsets
from sweep.plan import ModelRef, Plan
from sweep.training.solo import SoloEngine


@pytest.mark.parametrize("family", ["bert", "modernbert", "llama"])
def test_model_that_an_engine_drops_is_freed_at_once(
    plan: Plan, subsets: Subsets, tmp_path: Path, family: str
) -> None:
    torch.manual_seed(0)
    write_folder(tmp_path / "m", {**DECODERS, **ENCODERS}[family]())
    spec = replace(plan.trials[0], model=ModelRef("m", str(tmp_path / "m"), "x"))
    engine = SoloEngine(subsets, tmp_path)
    engine.start(spec, tmp_path / "states")
    base = engine._base
    assert base is not None
    model = weakref.ref(base.model)
    del base
    gc.disable()
    try:
        engine.discard()
        assert model() is None
    finally:
        gc.enable()
