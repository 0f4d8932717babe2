"""First weights of packed trials, against those that PEFT and transformers draw."""

from pathlib import Path

import pytest
import torch
from model_folders import DECODERS, MORE_DECODERS, write_folder

from sweep.models.base import load_base
from sweep.models.checkpointing import is_checkpointing
from sweep.models.heads import is_plain
from sweep.models.methods import attach_adapter, detach, set_checkpointing
from sweep.plan import Candidate, Capacity, Cell, ModelRef, Plan, TrialSpec
from sweep.training.packed.pack import Pack

FAMILIES = {**DECODERS, **MORE_DECODERS}
LABELS = tuple("abcdefghijklmnop")


def build_spec(plan: Plan, rank: int, classes: int, seed: int) -> TrialSpec:
    like = plan.trials[0]
    cell = Cell("cell", "m", classes, LABELS[:classes], 32, seed)
    candidate = Candidate(0, rank, 2.0 * rank, 1e-3, 0.0, 0.01)
    return TrialSpec("trial", cell, candidate, like.model, like.recipe, "data")


@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float16"])
@pytest.mark.parametrize("family", FAMILIES)
def test_first_weights_are_bit_by_bit_those_of_the_libraries(
    plan: Plan, tmp_path: Path, family: str, dtype: str
) -> None:
    torch.manual_seed(0)
    write_folder(tmp_path / "m", FAMILIES[family]())
    ref = ModelRef("m", str(tmp_path / "m"), "x")
    base = load_base(ref, ref.path, dtype, torch.device("cpu"))
    if not is_plain(base.head):
        pytest.skip("its head has more than one layer, so no pack can hold it")
    specs = [
        build_spec(plan, rank, classes, seed)
        for seed, (rank, classes) in enumerate(((4, 2), (8, 16), (16, 4), (1, 3)))
    ]
    expected = []
    for spec in specs:
        model = attach_adapter(base, spec.cell.labels, spec.candidate, spec.cell.seed)
        named = [(n, p) for n, p in model.named_parameters() if p.requires_grad]
        total = sum(p.numel() for p in model.parameters())
        expected.append(({name: value.detach().clone() for name, value in named}, total))
        detach(base, model)
    pack = Pack(base, Capacity.for_trials(specs, len(specs)))
    assert pack.draws_alone
    for spec, (wanted, total) in zip(specs, expected, strict=True):
        place = pack.take(spec)
        pack.fill(spec, place)
        found = dict(pack.trainable_weights(place))
        assert found.keys() == wanted.keys()
        assert [name for name in wanted if not torch.equal(found[name], wanted[name])] == []
        assert pack.count_parameters(place) == total


def test_weights_that_the_pack_cannot_draw_itself_are_drawn_by_the_libraries(
    plan: Plan, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    torch.manual_seed(0)
    write_folder(tmp_path / "m", FAMILIES["llama"]())
    ref = ModelRef("m", str(tmp_path / "m"), "x")
    spec = build_spec(plan, 4, 3, seed=5)
    rows = []
    for deviation in (0.02, 0.5):
        base = load_base(ref, ref.path, "float32", torch.device("cpu"))
        with monkeypatch.context() as patch:
            # What the configuration says is not what transformers does with this model.
            patch.setattr(
                "sweep.training.packed.pack._read_deviation", lambda model, d=deviation: d
            )
            pack = Pack(base, Capacity(2, 4, 4))
        assert pack.draws_alone == (deviation == 0.02)
        place = pack.take(spec)
        pack.fill(spec, place)
        rows.append(pack.stacks.row("weights", place))
    assert torch.equal(*rows)


def test_drawing_by_the_libraries_leaves_gradient_checkpointing_as_it_is(
    plan: Plan, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_folder(tmp_path / "m", FAMILIES["llama"]())
    ref = ModelRef("m", str(tmp_path / "m"), "x")
    base = load_base(ref, ref.path, "float32", torch.device("cpu"))
    monkeypatch.setattr("sweep.training.packed.pack._read_deviation", lambda model: 0.5)
    pack = Pack(base, Capacity(2, 4, 4))
    set_checkpointing(base, True)
    spec = build_spec(plan, 4, 3, seed=5)
    pack.fill(spec, pack.take(spec))
    assert not pack.draws_alone
    assert is_checkpointing(base.model)
