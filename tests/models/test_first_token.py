"""The last block of encoders at the first token only, where they have no flat pass."""

from pathlib import Path

import pytest
import torch
from model_folders import ENCODERS, write_folder

from sweep.models import forward_pass
from sweep.models.base import Base, load_base
from sweep.models.first_token import find_last_block
from sweep.models.flat.texts import FlatTexts
from sweep.models.full_pass import build_full_forward
from sweep.models.methods import attach
from sweep.plan import Candidate, ModelRef

SHORTENED = ("bert", "roberta", "xlm-roberta", "electra")
CANDIDATES = {
    "lora": Candidate(0, 4, 8.0, 5e-3, 0.0, 0.0),
    "full": Candidate(0, None, None, 1e-4, None, 0.0),
}


@pytest.fixture(autouse=True)
def without_flat_passes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(forward_pass, "FLAT_PASSES", {})


def load(name: str, method: str, folder: Path) -> Base:
    torch.manual_seed(0)
    write_folder(folder, ENCODERS[name]())
    ref = ModelRef(name, str(folder), "x", method=method)  # type: ignore[arg-type]
    return load_base(ref, str(folder), "float32", torch.device("cpu"))


def backward(base: Base, forward: object) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
    ids = torch.arange(4 * 12).view(4, 12) % 200 + 5
    mask = torch.ones_like(ids)
    mask[1, 5:] = 0
    mask[3, 2:] = 0
    logits = forward(ids, mask)  # type: ignore[operator]
    torch.autograd.backward(logits.square().sum())
    named = base.model.named_parameters()
    found = {name: p.grad.clone() for name, p in named if p.grad is not None}
    base.model.zero_grad()
    return logits.detach(), found


@pytest.mark.parametrize("method", CANDIDATES)
@pytest.mark.parametrize("name", SHORTENED)
def test_logits_and_gradients_are_those_of_all_tokens(
    name: str, method: str, tmp_path: Path
) -> None:
    base = load(name, method, tmp_path / "m")
    attach(base, ("a", "b", "c"), CANDIDATES[method], seed=0)
    block = find_last_block(base.model)
    assert "forward" in vars(block)
    short = backward(base, lambda ids, mask: base.forward(FlatTexts.from_padded(ids, mask, 0)))
    shortened = block.__dict__.pop("forward")
    whole = backward(base, build_full_forward(base.model))
    block.forward = shortened
    torch.testing.assert_close(short[0], whole[0], atol=1e-6, rtol=1e-5)
    assert short[1].keys() == whole[1].keys()
    for key, value in short[1].items():
        torch.testing.assert_close(value, whole[1][key], atol=1e-6, rtol=1e-4)


@pytest.mark.parametrize("name", [name for name in ENCODERS if name not in SHORTENED])
def test_blocks_of_another_kind_stay_as_they_are(name: str, tmp_path: Path) -> None:
    base = load(name, "lora", tmp_path / "m")
    assert not any("forward" in vars(module) for module in base.model.modules())


def test_a_block_is_not_shortened_where_the_classifier_reads_other_tokens(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from transformers.models.bert.modeling_bert import BertPooler

    def pool(self: BertPooler, hidden_states: torch.Tensor) -> torch.Tensor:
        pooled: torch.Tensor = self.activation(self.dense(hidden_states.mean(1)))
        return pooled

    monkeypatch.setattr(BertPooler, "forward", pool)
    monkeypatch.setattr("sweep.models.base.ignores_padding", lambda model: True)
    base = load("bert", "lora", tmp_path / "m")
    assert "forward" not in vars(find_last_block(base.model))
