"""Heads: found, and drawn anew for each trial."""

from pathlib import Path

import pytest
import torch
from model_folders import ENCODERS, write_decoder, write_folder
from torch import nn
from transformers import AutoModelForSequenceClassification, BertConfig, BertModel

from sweep.errors import ModelError
from sweep.models.base import Base, load_base
from sweep.models.heads import MARKED_LABELS, Loaded, draw_head, find_head
from sweep.models.methods import attach, attach_adapter, detach
from sweep.plan import Candidate, ModelRef
from sweep.seeds import derive_seed

LORA = Candidate(0, 4, 8.0, 5e-3, 0.0, 0.0)
FULL = Candidate(0, None, None, 1e-4, None, 0.01)
LABELS = ("a", "b", "c")


def load(folder: Path, method: str = "lora") -> Base:
    ref = ModelRef("m", str(folder), "x", method=method)  # type: ignore[arg-type]
    return load_base(ref, str(folder), "float32", torch.device("cpu"))


def encoder(name: str, folder: Path) -> Path:
    torch.manual_seed(0)
    return write_folder(folder, ENCODERS[name]())


@pytest.mark.parametrize(
    ("name", "parts"),
    [
        ("bert", ["bert.pooler", "classifier"]),
        ("roberta", ["classifier"]),
        ("distilbert", ["pre_classifier", "classifier"]),
        ("deberta-v2", ["pooler", "classifier"]),
        ("modernbert", ["head", "classifier"]),
        ("albert", ["albert.pooler", "classifier"]),
    ],
)
def test_the_head_is_what_lies_outside_the_base_model_and_a_lacking_pooler(
    name: str, parts: list[str], tmp_path: Path
) -> None:
    assert list(load(encoder(name, tmp_path / "m")).head) == parts


def test_a_pooler_that_has_weights_belongs_to_the_base_model(tmp_path: Path) -> None:
    config = BertConfig(
        vocab_size=300, hidden_size=32, intermediate_size=48, num_hidden_layers=1,
        num_attention_heads=4, max_position_embeddings=64,
    )  # fmt: skip
    base = load(write_folder(tmp_path / "m", BertModel(config)))
    assert list(base.head) == ["classifier"]
    model = attach(base, LABELS, LORA, seed=0)
    assert any("pooler.dense.lora_A" in name for name, _ in model.named_parameters())


def test_a_lacking_block_is_not_taken_for_a_pooler(tmp_path: Path) -> None:
    model = ENCODERS["bert"]()
    kept = {k: v for k, v in model.state_dict().items() if "layer.1.attention.self" not in k}
    folder = write_folder(tmp_path / "m", model, state_dict=kept)
    with pytest.raises(ModelError, match="lack 6 of the 37 tensors of a bert model"):
        load(folder)


def test_the_head_of_a_decoder_is_drawn_as_earlier_releases_drew_it(tmp_path: Path) -> None:
    base = load(write_decoder(tmp_path / "m"))
    torch.manual_seed(derive_seed(7, "adapter"))
    expected = nn.Linear(32, 3, bias=False)
    nn.init.normal_(expected.weight, std=0.02)
    model = attach_adapter(base, LABELS, LORA, seed=7)
    drawn = model.base_model.model.score.modules_to_save["default"].weight
    assert torch.equal(drawn, expected.weight)


@pytest.mark.parametrize("name", ENCODERS)
def test_a_head_is_drawn_as_the_architecture_initializes_it(name: str) -> None:
    config = ENCODERS[name]().config
    config.num_labels = MARKED_LABELS
    model = AutoModelForSequenceClassification.from_config(config)
    head = find_head(model, Loaded(), name)
    before = {key: value.clone() for key, value in model.state_dict().items()}
    torch.manual_seed(0)
    drawn = [_draw(model, head, 40) for _ in range(5)]
    rest = [key for key in before if not key.startswith(tuple(head))]
    assert all(torch.equal(before[key], model.state_dict()[key]) for key in rest)
    for path in head:
        for key, stock in model.get_submodule(path).named_parameters():
            mine = torch.stack(
                [each[f"{path}.{key}"] for each in drawn if stock.dim() > 1] or [stock]
            )
            wanted = before[f"{path}.{key}"]
            assert float(mine.std()) == pytest.approx(float(wanted.std()), rel=0.25, abs=1e-6)


def _draw(model: nn.Module, head: dict[str, nn.Module], n_labels: int) -> dict[str, torch.Tensor]:
    draw_head(model, head, n_labels)  # type: ignore[arg-type]
    return {key: value.detach().clone() for key, value in model.state_dict().items()}


@pytest.mark.parametrize("candidate", [LORA, FULL], ids=["lora", "full"])
def test_a_head_depends_on_the_seed_alone_and_is_not_that_of_another_trial(
    candidate: Candidate, tmp_path: Path
) -> None:
    base = load(encoder("modernbert", tmp_path / "m"), "lora" if candidate.lora else "full")
    heads = []
    for seed in (1, 2, 1):
        model = attach(base, LABELS, candidate, seed)
        trained = {k: v for k, v in model.named_parameters() if v.requires_grad}
        heads.append(
            torch.cat(
                [
                    v.detach().flatten().clone()
                    for k, v in trained.items()
                    if "classifier" in k or "head" in k
                ]
            )
        )
        with torch.no_grad():
            for value in trained.values():
                value.add_(1.0)
        detach(base, model)
    assert torch.equal(heads[0], heads[2])
    assert not torch.equal(heads[0], heads[1])
