"""Whether the engines compute the same: alone and packed, fused and as PEFT does, and after an
out-of-memory error."""

import math
from contextlib import ExitStack
from dataclasses import replace
from functools import partial

import torch
from transformers import BertConfig, BertForMaskedLM

from benchmarks.gpu.engines import Curve, run_packed, run_solo, stock_modules, watch_passes
from benchmarks.gpu.findings import Findings, Value
from benchmarks.gpu.setting import Setting, build_recipe, build_trials
from sweep.models.device import FAST_FLOAT16
from sweep.models.tiny import build_tokenizer
from sweep.plan import ModelRef, TrialSpec
from sweep.storage.atomic import create_folder

LOSSES = ("train_loss", "val_loss")
SCORES = ("val_accuracy", "val_macro_f1", "test_accuracy", "test_macro_f1")
# Largest difference of losses that rounding explains: in a pack, products have other shapes than
# alone, so they are rounded in another order. Measured with tiny models: up to 2e-7 in float32; in
# bfloat16, which keeps 8 bits, up to 6e-4; in float16, which keeps 11, up to 3e-5.
TOLERANCE = {"float32": 1e-4, "bfloat16": 5e-3, "float16": 1e-3}
# Of the three trials that are compared.
RANKS, LABELS, RATES = (4, 8, 2), (2, 4, 4), (2e-3, 5e-3, 1e-3)
# Texts in a batch of the trial that is too large for the planted memory limit, and of the others;
# and that limit. Texts of the built-in corpus have 7 to 27 tokens.
TOO_MANY, FEW, LIMIT = 64, 8, 300


def check_same(setting: Setting, findings: Findings) -> None:
    """Compare loss curves on the built-in corpus; the most valuable comparisons first."""
    setting = replace(setting, data=None)
    for number, compare in enumerate(comparisons := list_comparisons(setting)):
        if setting.left < 0:
            findings.note(f"no time for the last {len(comparisons) - number} comparisons")
            return
        with findings.attempt(f"{compare.func.__name__} of {compare.keywords}"):
            compare(setting, findings)


def list_comparisons(setting: Setting) -> list[partial[None]]:
    families, first = setting.families, setting.families[0]
    decoder = replace(setting.find_model(first), method="full")
    modules = [*map(setting.find_model, families), write_encoder(setting), decoder]
    return [
        *(partial(compare_engines, family=family, dtype="float32") for family in families),
        partial(plant_memory_error, family=first),
        *(partial(compare_modules, ref=ref) for ref in modules),
        *(
            partial(compare_engines, family=family, dtype=dtype)
            for dtype in list_narrow(setting)
            for family in (families if setting.on_gpu else families[:1])
        ),
    ]


def list_narrow(setting: Setting) -> list[str]:
    """Return the 16-bit formats that the device computes in."""
    if not setting.on_gpu:
        return ["bfloat16"]
    fast = torch.cuda.get_device_capability(setting.device) >= FAST_FLOAT16
    found = {
        "bfloat16": torch.cuda.is_bf16_supported(including_emulation=False),
        "float16": fast,
    }
    return [name for name, supported in found.items() if supported]


def write_encoder(setting: Setting) -> ModelRef:
    """Write the folder of a tiny BERT, all of whose weights are trained, and return the model."""
    path = setting.models_folder / "tiny-bert"
    tokenizer = build_tokenizer(setting.subsets.training_texts)
    config = BertConfig(
        vocab_size=len(tokenizer), hidden_size=64, intermediate_size=128, num_hidden_layers=2,
        num_attention_heads=4, max_position_embeddings=128, hidden_dropout_prob=0.0,
        attention_probs_dropout_prob=0.0, pad_token_id=tokenizer.pad_token_id,
    )  # fmt: skip
    torch.manual_seed(0)
    with create_folder(path) as folder:
        BertForMaskedLM(config).save_pretrained(folder)
        tokenizer.save_pretrained(folder)
    return ModelRef("tiny-bert", str(path), "local", method="full")


def build_mixed(setting: Setting, ref: ModelRef, dtype: str, batch_size: int) -> list[TrialSpec]:
    amounts = setting.amounts
    recipe = build_recipe(dtype, amounts.epochs, batch_size)
    return build_trials(
        setting, ref, 3, recipe, amounts.samples, ranks=RANKS, labels=LABELS, rates=RATES
    )


def compare_engines(setting: Setting, findings: Findings, family: str, dtype: str) -> None:
    """Train three different trials alone and in a pack."""
    specs = build_mixed(setting, setting.find_model(family), dtype, FEW)
    alone = run_solo(setting, specs)
    packed, failures = run_packed(setting, specs)
    for error in failures.values():
        raise error
    compare_curves(findings, f"{family} packed as alone", dtype, alone, packed)


def compare_modules(setting: Setting, findings: Findings, ref: ModelRef) -> None:
    """Train a trial by this project's layers and by those of transformers and PEFT."""
    amounts = setting.amounts
    recipe = build_recipe("float32", amounts.epochs, FEW)
    rate = 1e-4 if ref.method == "full" else 2e-3
    specs = build_trials(setting, ref, 1, recipe, amounts.samples, rates=(rate,))
    with stock_modules():
        stock = run_solo(setting, specs)
    name = f"{ref.name} ({ref.method}) as by transformers and PEFT"
    compare_curves(findings, name, "float32", stock, run_solo(setting, specs))


def plant_memory_error(setting: Setting, findings: Findings, family: str) -> None:
    """Raise an out-of-memory error in every pass that is too large for small batches: the trial
    with large ones fails, and the others go on as if nothing had been."""
    specs = build_mixed(setting, setting.find_model(family), "float32", FEW)
    recipe = replace(specs[0].recipe, batch_size=TOO_MANY)
    cell = replace(specs[0].cell, n_samples=max(TOO_MANY, setting.amounts.samples), seed=9)
    big = replace(specs[0], trial_id="too-large", recipe=recipe, cell=cell)
    raised: list[int] = []

    def see(tokens: int) -> None:
        if torch.is_grad_enabled() and tokens > LIMIT:
            raised.append(tokens)
            raise torch.OutOfMemoryError(f"planted: a pass of {tokens} tokens")

    with ExitStack() as stack:
        packed, failures = run_packed(
            setting,
            [*specs, big],
            lambda engine: stack.enter_context(watch_passes(engine, specs[0], see)),
        )
    found = [type(error) for error in failures.values()]
    findings.check(
        "a trial that does not fit fails alone",
        list(failures) == [big.trial_id] and found == [torch.OutOfMemoryError],
        errors_planted=len(raised),
    )
    del packed[big.trial_id]
    alone = run_solo(setting, specs)
    compare_curves(findings, f"{family} beside it as alone", "float32", alone, packed)


def compare_curves(
    findings: Findings, name: str, dtype: str, one: dict[str, Curve], other: dict[str, Curve]
) -> None:
    """Check that both have the same trials with the same curves: losses to ``TOLERANCE`` and, in
    float32, scores exactly."""
    pairs = [(one[key], other.get(key, [])) for key in one]
    loss = max(distance(a, b, LOSSES) for a, b in pairs)
    score = max(distance(a, b, SCORES) for a, b in pairs)
    detail: dict[str, Value] = {"loss_difference": loss, "score_difference": score}
    passed = loss <= TOLERANCE[dtype] and (score == 0.0 or dtype != "float32")
    findings.check(f"{name}, {dtype}", passed, allowed=TOLERANCE[dtype], **detail)


def distance(one: Curve, other: Curve, names: tuple[str, ...]) -> float:
    """Return the largest difference of these metrics in any epoch, relative to those above 1;
    infinite where one curve lacks what the other has, or either is not a number."""
    if len(one) != len(other):
        return math.inf
    pairs = [(a.get(name), b.get(name)) for a, b in zip(one, other, strict=True) for name in names]
    return max(_difference(a, b) for a, b in pairs)


def _difference(a: object, b: object) -> float:
    if a is None and b is None:
        return 0.0
    if not (isinstance(a, float) and isinstance(b, float)):
        return math.inf
    gap = abs(a - b) / max(1.0, abs(a))
    return gap if math.isfinite(gap) else math.inf
