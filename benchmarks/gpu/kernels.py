"""What this device can do at best: products at the shapes of a model's layers, copies, launches."""

import time
from collections.abc import Callable

import torch
from torch import nn
from transformers import AutoConfig

from benchmarks.gpu.findings import Findings
from benchmarks.gpu.setting import Setting
from sweep.models.base import materialize

# Tokens of a product: a batch of one trial, packs of 4 and of 16, and what fills a large GPU.
TOKENS = {"cuda": (256, 1024, 4096, 16384), "cpu": (256, 1024)}
COPIED_BYTES = {"cuda": 2**30, "cpu": 2**26}
# Launches in a row, and seconds that a measurement takes at least.
LAUNCHES = 2000
SECONDS = {"cuda": 0.1, "cpu": 0.05}


def measure_kernels(setting: Setting, findings: Findings) -> None:
    for name in setting.timed:
        with findings.attempt(f"products of {name}"):
            _measure_products(setting, findings, name)
    with findings.attempt("copies"):
        _measure_copies(setting, findings)
    with findings.attempt("launches"):
        _measure_launches(setting, findings)


def _measure_products(setting: Setting, findings: Findings, name: str) -> None:
    ref = setting.find_model(name)
    source = materialize(ref, setting.models_folder, setting.subsets.training_texts)
    config = AutoConfig.from_pretrained(source).get_text_config()
    hidden = int(config.hidden_size)
    wide = int(getattr(config, "intermediate_size", None) or 4 * hidden)
    for inputs, outputs in ((hidden, hidden), (hidden, wide), (wide, hidden)):
        for tokens in TOKENS[setting.device.type]:
            x = torch.randn(tokens, inputs, device=setting.device, dtype=torch.bfloat16)
            weight = torch.randn(outputs, inputs, device=setting.device, dtype=torch.bfloat16)
            seconds = _time(setting, lambda x=x, weight=weight: nn.functional.linear(x, weight))  # type: ignore[misc]
            findings.add(
                "bfloat16 products",
                model=name,
                tokens=tokens,
                inputs=inputs,
                outputs=outputs,
                **{"TFLOP/s": 2e-12 * tokens * inputs * outputs / seconds, "us": 1e6 * seconds},
            )


def _measure_copies(setting: Setting, findings: Findings) -> None:
    size = COPIED_BYTES[setting.device.type]
    here = torch.zeros(size, dtype=torch.uint8, device=setting.device)
    there = torch.zeros_like(here)
    # Each byte is read and written.
    _add_copy(setting, findings, "on the device, read and written", 2 * size, there, here)
    if not setting.on_gpu:
        findings.note("no GPU: nothing is copied between it and the host")
        return
    host = torch.zeros(size // 4, dtype=torch.uint8, pin_memory=True)
    part = here[: size // 4]
    _add_copy(setting, findings, "host (pinned) to device", size // 4, part, host)
    _add_copy(setting, findings, "device to host (pinned)", size // 4, host, part)


def _add_copy(
    setting: Setting,
    findings: Findings,
    name: str,
    size: int,
    target: torch.Tensor,
    source: torch.Tensor,
) -> None:
    seconds = _time(setting, lambda: target.copy_(source, non_blocking=True))
    findings.add("copies", what=name, **{"GB/s": size / seconds / 1e9})


def _measure_launches(setting: Setting, findings: Findings) -> None:
    """Time an operation on one value: the thread that launches it, and the device."""
    value = torch.zeros(1, device=setting.device)
    value.add_(1)
    setting.wait()
    start = time.perf_counter()
    for _ in range(LAUNCHES):
        value.add_(1)
    launched = time.perf_counter() - start
    setting.wait()
    total = time.perf_counter() - start
    findings.add(
        "launches",
        **{"us of the thread": 1e6 * launched / LAUNCHES, "us in all": 1e6 * total / LAUNCHES},
    )


def _time(setting: Setting, run: Callable[[], object]) -> float:
    """Return the seconds of one ``run``, over enough runs to be measured."""
    run()
    count, least = 4, SECONDS[setting.device.type]
    while True:
        setting.wait()
        start = time.perf_counter()
        for _ in range(count):
            run()
        setting.wait()
        seconds = time.perf_counter() - start
        if seconds >= least:
            return seconds / count
        count *= 4
