"""One base model, many trials: nothing of one survives in the next."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from model_folders import DECODERS, write_decoder
from torch import nn

from sweep.config import ModelConfig
from sweep.data import Subsets
from sweep.models.base import Base, load_base, materialize
from sweep.models.flat.texts import FlatTexts
from sweep.models.methods import attach_adapter, detach
from sweep.models.sources import resolve_revision
from sweep.models.tiny_configs import TINY_FAMILIES
from sweep.plan import Candidate, Capacity, ModelRef, Plan, TrialSpec
from sweep.training.packed.pack import Pack
from sweep.training.solo import SoloEngine

CANDIDATE = Candidate(0, 4, 8.0, 5e-3, 0.0, 0.0)
LABELS = ("a", "b", "c")
NAMES = [*DECODERS, "llama, sharded", *(f"tiny:{family}" for family in TINY_FAMILIES)]


@pytest.fixture(params=NAMES)
def ref(request: pytest.FixtureRequest, tmp_path: Path) -> ModelRef:
    """Return a model of each kind that is accepted, written to disk."""
    name = request.param
    if name.startswith("tiny:"):
        tiny = ModelConfig(name="m", path=name)
        path = materialize(
            ModelRef("m", name, resolve_revision(tiny)), tmp_path, ["what a day", "a day"]
        )
    elif name == "llama, sharded":
        path = str(write_decoder(tmp_path / "m", "llama", max_shard_size="20KB"))
    else:
        path = str(write_decoder(tmp_path / "m", name))
    return ModelRef("m", path, "x")


def load(ref: ModelRef) -> Base:
    torch.manual_seed(0)
    return load_base(ref, ref.path, "float32", torch.device("cpu"))


def draw_logits(base: Base) -> torch.Tensor:
    ids = torch.tensor([[5, 6, 7, 8], [9, 10, 0, 0]])
    mask = torch.tensor([[1, 1, 1, 1], [1, 1, 0, 0]])
    ids[mask == 0] = base.tokenizer.pad_token_id
    with torch.no_grad():
        return base.forward(FlatTexts.from_padded(ids, mask, base.tokenizer.pad_token_id)).clone()


def describe(model: nn.Module) -> dict[str, Any]:
    """Return all of a model that a trial might leave changed."""
    facts: dict[str, Any] = {"config": model.config.to_dict(), "labels": model.num_labels}
    for name, module in model.named_modules():
        hooks = len(module._forward_hooks) + len(module._forward_pre_hooks)
        keeps = getattr(module, "gradient_checkpointing", None)
        facts[name] = (type(module), module.training, hooks, keeps, "forward" in vars(module))
    facts |= {f"{name}?": p.requires_grad for name, p in model.named_parameters()}
    return facts


def check_same(found: nn.Module, expected: nn.Module) -> None:
    assert describe(found) == describe(expected)
    weights, wanted = found.state_dict(), expected.state_dict()
    assert weights.keys() == wanted.keys()
    assert [name for name in weights if not torch.equal(weights[name], wanted[name])] == []


def test_detached_model_is_a_freshly_loaded_one(ref: ModelRef) -> None:
    base, fresh = load(ref), load(ref)
    model = attach_adapter(base, LABELS, CANDIDATE, seed=0)
    model.train()
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.requires_grad:
                parameter.fill_(7.0)
    detach(base, model)
    check_same(base.model, fresh.model)
    assert torch.equal(draw_logits(base), draw_logits(fresh))
    # And the next trial, with other labels, starts where it would on a fresh model.
    for each in (base, fresh):
        attach_adapter(each, ("x", "y"), CANDIDATE, seed=1)
    check_same(base.model, fresh.model)
    assert torch.equal(draw_logits(base), draw_logits(fresh))


def test_pack_that_a_trial_has_left_starts_the_next_as_a_fresh_one(
    ref: ModelRef, plan: Plan
) -> None:
    capacity = Capacity.for_trials(plan.trials, 1)
    used, fresh = Pack(load(ref), capacity), Pack(load(ref), capacity)
    first, second = (replace(spec, model=ref) for spec in plan.trials[:2])
    place = used.take(first)
    used.fill(first, place)
    for name in ("weights", "means", "squares", "best"):
        used.stacks.row(name, place).fill_(7.0)
    used.free(place)
    for pack in (used, fresh):
        place = pack.take(second)
        pack.fill(second, place)
    for name in ("weights", "means", "squares", "best", "gradients"):
        assert torch.equal(getattr(used.stacks, name), getattr(fresh.stacks, name))
    frozen, wanted = used.base.model.state_dict(), fresh.base.model.state_dict()
    assert [name for name in wanted if not torch.equal(frozen[name], wanted[name])] == []


def test_classes_of_a_checkpoint_are_nothing_to_the_next_classifier(tmp_path: Path) -> None:
    path = str(write_decoder(tmp_path / "m", "llama, five labels"))
    base = load(ModelRef("m", path, "x"))
    attach_adapter(base, ("x", "y"), CANDIDATE, seed=0)
    config = base.model.config
    assert (config.num_labels, config.id2label) == (2, {0: "x", 1: "y"})
    assert config.problem_type is None
    assert draw_logits(base).shape == (2, 2)


def run_epochs(engine: SoloEngine, spec: TrialSpec, folder: Path) -> Iterator[float]:
    """Yield the first epoch's loss of one trial, run three times."""
    for number in range(3):
        engine.start(spec, folder / str(number))
        yield engine.run_epoch()["train_loss"]
        engine.close()


def test_trial_run_three_times_in_one_worker_has_one_first_loss(
    ref: ModelRef, plan: Plan, subsets: Subsets, tmp_path: Path
) -> None:
    recipe = replace(plan.trials[0].recipe, dtype="float32")
    spec = replace(plan.trials[0], model=ref, recipe=recipe)
    losses = set(run_epochs(SoloEngine(subsets, tmp_path / "models"), spec, tmp_path / "kept"))
    assert len(losses) == 1
