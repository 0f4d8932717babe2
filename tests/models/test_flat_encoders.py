"""Encoders in flat rows, against the models' own passes."""

import copy
from collections import Counter
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from model_folders import ENCODERS, write_folder
from passes import (
    ENCODER,
    adapt_all,
    build,
    check_checkpointing,
    compare,
    draw_texts,
    flatten,
    run_whole,
)
from peft.tuners.lora.layer import Linear as PeftLinear
from torch import nn
from transformers import (
    AutoConfig,
    BertConfig,
    CamembertConfig,
    Data2VecTextConfig,
    DistilBertConfig,
    ElectraConfig,
    ErnieConfig,
    MegatronBertConfig,
    ModernBertConfig,
    PreTrainedConfig,
    PreTrainedModel,
    RobertaConfig,
    XLMRobertaConfig,
)

from sweep.models import forward_pass
from sweep.models.base import load_base
from sweep.models.checkpointing import enable_checkpointing
from sweep.models.flat.blocks import FlatForward
from sweep.models.flat.encoders import FLAT_ENCODERS
from sweep.models.flat.texts import FlatTexts
from sweep.models.float16 import store_in_float16
from sweep.models.forward_pass import choose_forward
from sweep.models.full_pass import ForwardPass
from sweep.models.fused import FastLinear, speed_up
from sweep.plan import ModelRef

# Drawn texts hold this padding token among others.
PADDED = ENCODER | {"pad_token_id": 1}
DISTIL: dict[str, Any] = {
    "vocab_size": 96, "dim": 32, "hidden_dim": 48, "n_layers": 3, "n_heads": 4,
    "max_position_embeddings": 64, "pad_token_id": 0, "num_labels": 5,
}  # fmt: skip
MODERN = ENCODER | {
    "global_attn_every_n_layers": 2, "local_attention": 6, "eos_token_id": 2, "bos_token_id": 3,
    "cls_token_id": 3, "sep_token_id": 2,
}  # fmt: skip
CONFIGS: dict[str, PreTrainedConfig] = {
    "bert": BertConfig(**ENCODER),
    "bert of one layer": BertConfig(**ENCODER | {"num_hidden_layers": 1}),
    "roberta": RobertaConfig(**PADDED),
    "xlm-roberta": XLMRobertaConfig(**PADDED),
    "camembert": CamembertConfig(**PADDED),
    "data2vec-text": Data2VecTextConfig(**PADDED),
    "ernie": ErnieConfig(**ENCODER, use_task_id=True),
    "electra": ElectraConfig(**ENCODER, embedding_size=32),
    "electra, narrow embeddings": ElectraConfig(**ENCODER, embedding_size=24),
    "distilbert": DistilBertConfig(**DISTIL),
    "distilbert, feeding forward in chunks": DistilBertConfig(**DISTIL, chunk_size_feed_forward=1),
    "modernbert": ModernBertConfig(**MODERN, classifier_pooling="cls"),
    "modernbert, the last layer local": ModernBertConfig(
        **MODERN | {"num_hidden_layers": 4}, classifier_pooling="cls"
    ),
    "modernbert, reading the mean": ModernBertConfig(**MODERN, classifier_pooling="mean"),
}  # fmt: skip
# An encoder that goes by the names of BERT's modules, but normalizes before its layers.
ALIKE = MegatronBertConfig(**ENCODER)
EVERY = pytest.mark.parametrize("name", CONFIGS)


@pytest.fixture(autouse=True)
def seed() -> None:
    torch.manual_seed(0)


def build_encoder(config: PreTrainedConfig) -> PreTrainedModel:
    """Return a frozen classifier of random weights whose tokens see few others each: with norms
    that scale by next to nothing, all would see all alike."""
    model = build(config)
    with torch.no_grad():
        for module in model.modules():
            if isinstance(module, nn.LayerNorm):
                module.weight.add_(1)
    return model


def choose_flat(model: PreTrainedModel, trains_base: bool = False) -> ForwardPass:
    forward = choose_forward(model, trains_base)
    assert forward.flat, "it does not agree with the model's own pass"
    return forward


@EVERY
def test_flat_pass_with_adapters_gives_logits_and_gradients_of_the_models_own(name: str) -> None:
    model = build_encoder(CONFIGS[name])
    plain = copy.deepcopy(model)
    flat = choose_flat(model)
    weights, fast = adapt_all(plain), adapt_all(model)
    speed_up(model)  # type: ignore[arg-type]
    kinds = {type(module) for module in model.modules()}
    assert FastLinear in kinds
    assert PeftLinear not in kinds
    ids, mask = draw_texts()
    compare(run_whole(plain, ids, mask), flat(flatten(ids, mask)), weights, fast)


@pytest.mark.parametrize("checkpointing", [False, True])
@EVERY
def test_flat_pass_gives_the_gradients_of_all_weights(name: str, checkpointing: bool) -> None:
    model = build_encoder(CONFIGS[name])
    plain = copy.deepcopy(model)
    flat = choose_flat(model, trains_base=True)
    for each in (plain, model):
        each.requires_grad_(True)
    if checkpointing:
        enable_checkpointing(model)
    ids, mask = draw_texts()
    weights, fast = [*plain.parameters()], [*model.parameters()]
    compare(run_whole(plain, ids, mask), flat(flatten(ids, mask)), weights, fast)


@EVERY
def test_neither_other_texts_nor_the_longest_one_change_a_text(name: str) -> None:
    model = build_encoder(CONFIGS[name])
    flat = choose_flat(model)
    ids, mask = draw_texts()
    # Where positions begin past the padding token's number, so many fewer fit.
    skipped = 2 if model.config.pad_token_id else 0
    longest = torch.randint(2, 96, (1, 64 - skipped))
    rows = [*(row[real][None] for row, real in zip(ids, mask.bool(), strict=True)), longest]
    joined = FlatTexts.join([flatten(row, torch.ones_like(row)) for row in rows])
    together = flat(joined)
    for row, logits in zip(rows, together, strict=True):
        expected = run_whole(model, row, torch.ones_like(row))
        torch.testing.assert_close(logits[None], expected, rtol=1e-4, atol=1e-5)


def test_padding_tokens_that_a_text_holds_are_not_counted_as_positions() -> None:
    model = build_encoder(CONFIGS["roberta"])
    flat = choose_flat(model)
    ids, mask = draw_texts()
    ids[0, 3:5] = ids[1, 0] = ids[3, 0] = 1
    texts = FlatTexts.from_padded(ids, mask, 1)
    torch.testing.assert_close(flat(texts), run_whole(model, ids, mask), rtol=1e-4, atol=1e-5)


@EVERY
def test_flat_pass_in_float16_gives_the_logits_of_the_models_own(name: str) -> None:
    model = build_encoder(CONFIGS[name])
    store_in_float16(model)
    plain = copy.deepcopy(model)
    flat = choose_flat(model)
    ids, mask = draw_texts()
    with torch.autocast("cpu", torch.float16):
        expected, found = run_whole(plain, ids, mask).float(), flat(flatten(ids, mask)).float()
    assert (found - expected).abs().max() <= 0.01 * expected.abs().max()


@pytest.mark.parametrize("name", ["bert", "distilbert", "modernbert, reading the mean"])
def test_checkpointing_keeps_little_of_each_block(name: str) -> None:
    model = build_encoder(CONFIGS[name])
    check_checkpointing(model, choose_flat(model, trains_base=True))


# Each layer drops with a share of its own.
DROPPING: Mapping[str, PreTrainedConfig] = {
    "bert": BertConfig(
        **ENCODER, hidden_dropout_prob=0.1, attention_probs_dropout_prob=0.2, classifier_dropout=0.3
    ),
    "roberta": RobertaConfig(
        **PADDED, hidden_dropout_prob=0.1, attention_probs_dropout_prob=0.2, classifier_dropout=0.3
    ),
    "electra": ElectraConfig(
        **ENCODER, hidden_dropout_prob=0.1, attention_probs_dropout_prob=0.2, classifier_dropout=0.3
    ),
    "distilbert": DistilBertConfig(
        **DISTIL, dropout=0.1, attention_dropout=0.2, seq_classif_dropout=0.3
    ),
    "modernbert": ModernBertConfig(
        **MODERN, embedding_dropout=0.1, attention_dropout=0.2, mlp_dropout=0.3,
        classifier_dropout=0.4, classifier_pooling="mean",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", DROPPING)
def test_training_drops_where_the_models_own_pass_does(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = build_encoder(DROPPING[name])
    flat = choose_flat(model)
    ids = torch.randint(2, 96, (3, 9))
    model.train()
    drawn: list[Counter[tuple[str, float]]] = []
    for run in (
        lambda: run_whole(model, ids, torch.ones_like(ids)),
        lambda: flat(flatten(ids, torch.ones_like(ids))),
    ):
        with monkeypatch.context() as patch:
            drawn.append(count_dropout(patch))
            run()
    assert drawn[0] == drawn[1]
    assert len({share for _, share in drawn[0]}) > 2
    texts = flatten(*draw_texts())
    assert not torch.equal(flat(texts), flat(texts))


def count_dropout(patch: pytest.MonkeyPatch) -> Counter[tuple[str, float]]:
    """Return how often a kind of dropout is called with a share, from now on."""
    counts: Counter[tuple[str, float]] = Counter()
    drop, attend = nn.functional.dropout, nn.functional.scaled_dot_product_attention

    def count_drop(x: torch.Tensor, p: float = 0.5, *args: Any, **options: Any) -> torch.Tensor:
        counts["values", p] += 1
        return drop(x, p, *args, **options)

    def count_attend(*args: Any, **options: Any) -> torch.Tensor:
        counts["attention", options["dropout_p"]] += 1
        return attend(*args, **options)

    patch.setattr(nn.functional, "dropout", count_drop)
    patch.setattr(nn.functional, "scaled_dot_product_attention", count_attend)
    patch.setattr("sweep.models.flat.attention.scaled_dot_product_attention", count_attend)
    return counts


def test_attention_that_drops_nearly_all_has_gradients_that_are_numbers() -> None:
    config = BertConfig(**ENCODER, attention_probs_dropout_prob=0.9)
    model = build_encoder(config).requires_grad_(True)
    flat = choose_flat(model, trains_base=True)
    model.train()
    torch.autograd.backward(flat(flatten(*draw_texts())).sum())
    assert all(p.grad.isfinite().all() for p in model.parameters() if p.grad is not None)


@pytest.mark.parametrize("method", ["lora", "full"])
@pytest.mark.parametrize("name", ENCODERS)
def test_published_encoders_of_known_structure_pass_flat(
    name: str, method: Any, tmp_path: Path
) -> None:
    write_folder(tmp_path / "m", ENCODERS[name]())
    ref = ModelRef(name, str(tmp_path / "m"), "x", method=method)
    base = load_base(ref, ref.path, "float32", torch.device("cpu"))
    assert base.forward.flat is (name in FLAT_ENCODERS)


def build_wrong(model: Any) -> FlatForward:
    return lambda texts: torch.zeros(len(texts.lengths), 5)


def build_of_other_names(model: Any) -> FlatForward:
    return lambda texts: model.bert.encoder.blocks[0](texts.ids)


def refuse(model: Any) -> FlatForward:
    raise AttributeError("another name")


@pytest.mark.parametrize("other", [build_wrong, build_of_other_names, refuse])
def test_bert_whose_flat_pass_does_not_fit_takes_its_own(
    other: Callable[[Any], FlatForward], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(forward_pass.FLAT_PASSES, "bert", other)
    check_own_pass(CONFIGS["bert"])


def test_an_encoder_built_otherwise_takes_its_own_pass(monkeypatch: pytest.MonkeyPatch) -> None:
    check_own_pass(ALIKE)
    monkeypatch.setitem(forward_pass.FLAT_PASSES, "megatron-bert", FLAT_ENCODERS["bert"])
    check_own_pass(ALIKE)
    check_own_pass(AutoConfig.for_model("bert", **ENCODER, is_decoder=True))


def check_own_pass(config: PreTrainedConfig) -> None:
    model = build_encoder(config)
    plain = copy.deepcopy(model)
    forward = choose_forward(model)
    assert not forward.flat
    weights, fast = adapt_all(plain), adapt_all(model)
    ids, mask = draw_texts()
    compare(run_whole(plain, ids, mask), forward(flatten(ids, mask)), weights, fast)
