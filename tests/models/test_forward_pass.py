"""Forward passes that leave out what is not read, against the models' own."""

import copy
from typing import Any

import pytest
import torch
from passes import (
    DECODER,
    adapt_all,
    build,
    check_checkpointing,
    compare,
    draw_texts,
    flatten,
    run_whole,
)
from peft.tuners.lora.layer import Linear as PeftLinear
from transformers import (
    Gemma3TextConfig,
    GPT2Config,
    GPTNeoXConfig,
    LlamaConfig,
    LlamaForSequenceClassification,
    MistralConfig,
    PreTrainedConfig,
    Qwen2Config,
    Qwen3Config,
)

from sweep.models import forward_pass
from sweep.models.flat import attention
from sweep.models.flat.attention import Rules, attend, attend_once
from sweep.models.flat.blocks import FlatForward
from sweep.models.flat.decoders import FLAT_DECODERS
from sweep.models.flat.texts import FlatTexts, find_last
from sweep.models.float16 import store_in_float16
from sweep.models.forward_pass import choose_forward
from sweep.models.full_pass import build_unmasked_forward
from sweep.models.fused import NORMS, FastLinear, speed_up
from sweep.models.shape import FAMILIES

WINDOWED = {"layer_types": ["full_attention"] * 2 + ["sliding_attention"], "sliding_window": 4}
CONFIGS: dict[str, PreTrainedConfig] = {
    "llama": LlamaConfig(**DECODER, attention_bias=True, mlp_bias=True),
    "llama of one layer": LlamaConfig(**DECODER | {"num_hidden_layers": 1}),
    "qwen2": Qwen2Config(**DECODER),
    "qwen2 with a window": Qwen2Config(**DECODER, **WINDOWED, use_sliding_window=True),
    "gemma3": Gemma3TextConfig(**DECODER, head_dim=16, query_pre_attn_scalar=8),
    "gemma3 with a window": Gemma3TextConfig(**DECODER, **WINDOWED, head_dim=16),
    "gpt2": GPT2Config(**DECODER, n_embd=32, n_layer=3, n_head=4, n_positions=64),
    "gpt2, scaled by layer": GPT2Config(
        **DECODER, n_embd=32, n_layer=3, n_head=4, scale_attn_by_inverse_layer_idx=True
    ),
}
OTHERS: dict[str, PreTrainedConfig] = {
    "mistral": MistralConfig(**DECODER, sliding_window=None),
    "mistral with a window": MistralConfig(**DECODER, sliding_window=4),
    "qwen3": Qwen3Config(**DECODER, head_dim=8),
    "qwen3 with a window": Qwen3Config(**DECODER, **WINDOWED, head_dim=8, use_sliding_window=True),
    "gpt-neox": GPTNeoXConfig(**DECODER),
}


@pytest.fixture(autouse=True)
def seed() -> None:
    torch.manual_seed(0)


@pytest.mark.parametrize("name", CONFIGS)
def test_short_pass_gives_logits_and_gradients_of_the_models_own(name: str) -> None:
    model = build(CONFIGS[name])
    plain = copy.deepcopy(model)
    short = choose_forward(model)
    assert short.flat, "it does not agree with the model's own pass"
    weights, fast = adapt_all(plain), adapt_all(model)
    for module in model.modules():
        assert type(module) is not FastLinear
    speed_up(model)  # type: ignore[arg-type]
    assert not any(type(module) is PeftLinear for module in model.modules())
    ids, mask = draw_texts()
    logits, found = run_whole(plain, ids, mask), short(flatten(ids, mask))
    compare(logits, found, weights, fast)


@pytest.mark.parametrize("name", CONFIGS)
def test_padding_changes_no_text(name: str) -> None:
    model = build(CONFIGS[name])
    short = choose_forward(model)
    ids, mask = draw_texts()
    together = short(flatten(ids, mask))
    for text, length in enumerate(mask.sum(1).tolist()):
        alone = short(flatten(ids[text : text + 1, :length], mask[text : text + 1, :length]))
        torch.testing.assert_close(together[text : text + 1], alone, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", ["llama", "gemma3", "gpt2"])
def test_checkpointing_keeps_little_of_each_block(name: str) -> None:
    model = build(CONFIGS[name])
    check_checkpointing(model, choose_forward(model, trains_base=True))


@pytest.mark.parametrize("name", ["llama", "gpt2"])
def test_dropout_of_adapters_draws_as_peft_does(name: str) -> None:
    # Layer by layer: in a whole model the last block draws for fewer tokens.
    model = build(CONFIGS[name])
    adapt_all(model, dropout=0.5)
    layer = next(module for module in model.modules() if type(module) is PeftLinear)
    layer.train()
    x = torch.randn(2, 5, layer.in_features, requires_grad=True)
    results = []
    for kind in (PeftLinear, FastLinear):
        layer.__class__ = kind
        torch.manual_seed(3)
        y = layer(x)
        weights = [weight for weight in layer.parameters() if weight.requires_grad]
        results.append((y, *torch.autograd.grad(y.square().sum(), [x, *weights])))
    for expected, found in zip(*results, strict=True):
        torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)


def test_merged_layers_give_the_same_and_disabled_ones_their_base() -> None:
    model = build(CONFIGS["llama"])
    ids, mask = draw_texts()
    adapt_all(model)
    speed_up(model)  # type: ignore[arg-type]
    layers = [module for module in model.modules() if type(module) is FastLinear]
    adapted = run_whole(model, ids, mask)
    for layer in layers:
        layer.merge()
    torch.testing.assert_close(run_whole(model, ids, mask), adapted, rtol=1e-4, atol=1e-5)
    for layer in layers:
        layer.unmerge()
        layer.enable_adapters(False)
        x = torch.randn(3, layer.in_features)
        torch.testing.assert_close(layer(x), layer.get_base_layer()(x), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("name", OTHERS)
def test_other_decoders_take_their_own_pass_without_a_mask(name: str) -> None:
    model = build(OTHERS[name])
    plain = copy.deepcopy(model)
    forward = choose_forward(model)
    ids, mask = draw_texts()
    unmasked = build_unmasked_forward(plain)(ids, mask)
    assert torch.equal(forward(flatten(ids, mask)), unmasked), "it does not agree with the masked"
    weights, fast = adapt_all(plain), adapt_all(model)
    logits, found = run_whole(plain, ids, mask), forward(flatten(ids, mask))
    compare(logits, found, weights, fast)


def test_a_decoder_whose_tokens_see_later_ones_keeps_its_mask() -> None:
    config = copy.deepcopy(OTHERS["mistral"])
    config.is_causal = False
    model = build(config)
    with torch.no_grad():
        for layer in model.model.layers:
            layer.self_attn.o_proj.weight.mul_(1e-4)
    ids, mask = draw_texts()
    expected, unmasked = run_whole(model, ids, mask), build_unmasked_forward(model)(ids, mask)
    # Tokens see so little of others that the logits alone would not tell.
    assert 0 < (unmasked - expected).abs().max() <= 1e-3 * expected.abs().max()
    assert torch.equal(choose_forward(model)(flatten(ids, mask)), expected)


def test_model_of_other_code_takes_its_own_pass() -> None:
    class OtherLlama(LlamaForSequenceClassification):
        """Takes the name of Llama, and has other modules."""

    model = OtherLlama(copy.deepcopy(CONFIGS["llama"])).eval().requires_grad_(False)
    del model.model.layers[-1].self_attn.v_proj
    for layer in model.model.layers:
        layer.forward = lambda hidden, **options: hidden
    ids, mask = draw_texts()
    assert torch.equal(choose_forward(model)(flatten(ids, mask)), run_whole(model, ids, mask))


def test_pass_that_does_not_agree_is_not_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    def build_wrong(model: Any) -> FlatForward:
        return lambda texts: torch.zeros(len(texts.lengths), 5)

    monkeypatch.setitem(forward_pass.FLAT_PASSES, "llama", build_wrong)
    # A later release's norm of the same name that adds one to its weight.
    monkeypatch.setitem(NORMS, "LlamaRMSNorm", ("variance_epsilon", 1.0))
    model = build(CONFIGS["llama"])
    ids, mask = draw_texts()
    expected = build_unmasked_forward(model)(ids, mask)
    assert torch.equal(choose_forward(model)(flatten(ids, mask)), expected)


def test_forecast_knows_the_same_architectures() -> None:
    assert set(FAMILIES) == set(FLAT_DECODERS)


def test_last_token_is_found_where_transformers_finds_it() -> None:
    rows = [[3, 0, 5, 0, 0], [0, 0, 0, 0, 0], [1, 2, 3, 4, 5], [7, 0, 0, 0, 0]]
    assert [find_last(ids, 0) for ids in rows] == [2, 0, 4, 0]


def test_choosing_leaves_a_models_mode_as_it_was() -> None:
    for training in (True, False):
        model = build(CONFIGS["gemma3"]).train(training)
        choose_forward(model)
        assert model.training is training


@pytest.mark.parametrize("name", CONFIGS)
def test_short_pass_in_float16_gives_the_logits_of_the_models_own(name: str) -> None:
    model = build(CONFIGS[name])
    store_in_float16(model)
    plain = copy.deepcopy(model)
    short = choose_forward(model)
    assert short.flat, "it does not agree with the model's own pass"
    ids, mask = draw_texts()
    with torch.autocast("cpu", torch.float16):
        expected, found = run_whole(plain, ids, mask).float(), short(flatten(ids, mask)).float()
    assert (found - expected).abs().max() <= 0.01 * expected.abs().max()


def test_attention_in_float16_does_not_overflow_before_it_is_scaled() -> None:
    texts = FlatTexts(torch.zeros(3), [3], [2], 0)
    queries = torch.full((1, 2, 64), 60.0, dtype=torch.float16)
    keys = torch.full((3, 1, 64), 60.0, dtype=torch.float16)
    values = torch.tensor([1.0, 2.0, 3.0]).half().view(3, 1, 1).expand(3, 1, 64)
    mixed = attend_once(queries, keys, values, texts, Rules(1 / 64))
    assert torch.equal(mixed, torch.full((1, 128), 2.0, dtype=torch.float16))


LENGTHS = {
    "one": [7], "alike": [5, 5, 5], "few": [20, 1, 7, 13, 19],
    "many, in several rectangles": [60, 3, 4, 9, 30, 2, 5, 31, 58, 3, 3, 3, 8, 16, 15] * 4,
}  # fmt: skip
KINDS = {
    "causal": Rules(0.3),
    "causal, with a window": Rules(0.3, window=4),
    "of both sides": Rules(0.3, causal=False),
    "of both sides, with a window": Rules(0.3, causal=False, window=4),
}


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", LENGTHS)
def test_attention_in_a_row_is_that_of_each_text_alone(
    name: str, kind: str, dtype: torch.dtype
) -> None:
    lengths, rules = LENGTHS[name], KINDS[kind]
    texts = FlatTexts(torch.zeros(sum(lengths)), lengths, [n - 1 for n in lengths], 0)
    drawn = [torch.randn(sum(lengths), heads, 8) for heads in (4, 2, 2)]
    leaves = [[x.to(dtype).requires_grad_() for x in drawn] for _ in range(4)]
    row = attend(*leaves[0], texts, rules)
    ends = torch.tensor([0 if not rules.causal else n - 1 for n in lengths]) + texts.layout.starts
    queries, keys, values = leaves[1]
    once = attend_once(queries[ends], keys, values, texts, rules, first=not rules.causal)
    plain = [attend_plainly(*each, lengths, rules) for each in leaves[2:]]
    tolerance = (
        {"rtol": 1e-4, "atol": 1e-5} if dtype == torch.float32 else {"rtol": 0.05, "atol": 0.05}
    )
    torch.testing.assert_close(row, plain[0], **tolerance)
    torch.testing.assert_close(once, plain[1][ends], **tolerance)
    weights = torch.randn_like(row)
    for found, expected, own, wanted in (
        (row, plain[0], leaves[0], leaves[2]),
        (once, plain[1][ends], leaves[1], leaves[3]),
    ):
        weighed = weights[: len(found)]
        torch.autograd.backward((found * weighed).sum())
        torch.autograd.backward((expected * weighed).sum())
        for one, other in zip(own, wanted, strict=True):
            torch.testing.assert_close(one.grad, other.grad, **tolerance)


def attend_plainly(
    queries: torch.Tensor,
    keys: torch.Tensor,
    values: torch.Tensor,
    lengths: list[int],
    rules: Rules,
) -> torch.Tensor:
    """Attend in one text after another, by the definition."""
    mixed = []
    for q, k, v in zip(*(x.split(lengths) for x in (queries, keys, values)), strict=True):
        k, v = (x.repeat_interleave(q.shape[1] // x.shape[1], 1) for x in (k, v))
        scores = torch.einsum("qhs,khs->hqk", q, k).float() * rules.scaling
        seen = torch.ones(len(q), len(q), dtype=torch.bool)
        if rules.causal:
            seen = seen.tril()
        if rules.window is not None:
            seen = seen.triu(1 - rules.window).tril(rules.window - 1)
        weights = scores.masked_fill(~seen, -torch.inf).softmax(-1).to(v.dtype)
        mixed.append(torch.einsum("hqk,khs->qhs", weights, v).flatten(1))
    return torch.cat(mixed)


def test_rows_are_cut_into_rectangles_with_little_padding() -> None:
    lengths = [64] * 3 + [2] * 200 + [20] * 9 + [63, 61]
    texts = FlatTexts(torch.arange(sum(lengths)), lengths, [0] * len(lengths), -1)
    layout = texts.layout
    assert len(layout.places) <= 1.125 * texts.tokens
    assert len(layout.buckets) == 3
    assert torch.equal(layout.places[layout.origins], torch.arange(texts.tokens))
    ids, mask = texts.padded()
    assert torch.equal(ids[mask.bool()], texts.ids)


@pytest.mark.parametrize("asked_in", [torch.no_grad, torch.inference_mode, torch.enable_grad])
def test_the_kernel_for_rows_is_tried_with_gradients_whoever_asks_first(
    asked_in: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    # No CPU has the kernel.
    monkeypatch.setattr(attention, "_attend_flat", attention._attend_in_rectangles)
    attention.runs_flat.cache_clear()
    with asked_in():
        assert attention.runs_flat(torch.device("cpu"), torch.bfloat16, 16, Rules(0.25))
    monkeypatch.setattr(attention, "_attend_flat", _attend_without_gradients)
    attention.runs_flat.cache_clear()
    with asked_in():
        assert not attention.runs_flat(torch.device("cpu"), torch.bfloat16, 16, Rules(0.25))
    attention.runs_flat.cache_clear()


def _attend_without_gradients(queries: torch.Tensor, *others: Any) -> torch.Tensor:
    return attention._attend_in_rectangles(queries.detach(), *others)
