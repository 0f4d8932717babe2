"""``python -m sweep.doctor.torch_check``: what training would find, as it imports torch,
transformers and peft: devices, and the number format of ``train.dtype: auto``."""

from collections.abc import Iterator

import torch
from transformers import LlamaConfig, LlamaForSequenceClassification

from sweep.cluster.hardware import find_gpus
from sweep.doctor.children import tell
from sweep.errors import Finding, first_line, format_bytes
from sweep.models.device import (
    convert_dtype,
    free_gpu_memory,
    lacks_kernels,
    name_device,
    read_gpu_dtype,
)

INSTALL = "https://pytorch.org/get-started/locally/"
# A GPU with less of its memory free is in use by another program.
FREE_SHARE = 0.5
# The width of SmolLM2-135M, in two of its 30 layers: enough to time.
SIZES = {
    "hidden_size": 576, "intermediate_size": 1536, "num_hidden_layers": 2,
    "num_attention_heads": 9, "num_key_value_heads": 3, "vocab_size": 1000, "pad_token_id": 0,
}  # fmt: skip


def check_torch() -> Iterator[Finding]:
    """Yield what torch is built for, and a finding for each device."""
    # What trains: peft and transformers may be there, and yet not fit each other.
    import sweep.training.solo  # noqa: F401

    yield Finding("note", "torch", f"torch {torch.__version__}, {_describe_build()}")
    count, listed = torch.cuda.device_count(), find_gpus()
    if listed and not count:
        yield _explain_unused(len(listed))
    for index in range(count):
        yield _check_gpu(torch.device("cuda", index))
    if not count:
        yield _check_cpu()


def _describe_build() -> str:
    if torch.version.hip:
        return f"built for ROCm {torch.version.hip}"
    if torch.version.cuda:
        return f"built for CUDA {torch.version.cuda}"
    return "built for CPUs only"


def _explain_unused(gpus: int) -> Finding:
    start = f"nvidia-smi lists {gpus} GPU{'s' * (gpus != 1)}, but torch sees none: "
    if not torch.version.cuda:
        why = f"it is built for CPUs only; install a build for CUDA, see {INSTALL}"
        return Finding("error", "gpu", start + why)
    try:
        torch.zeros(1, device="cuda")
        reason = "no reason is given"
    except (RuntimeError, AssertionError) as error:
        reason = first_line(error)
    why = f"{reason}; update the driver, or install a build for its CUDA version, see {INSTALL}"
    return Finding("error", "gpu", start + why)


def _check_gpu(device: torch.device) -> Finding:
    """Return what ``device`` is, after a small computation on it."""
    name = f"GPU {device.index}, {name_device(device)}"
    try:
        (torch.ones(64, 64, device=device) @ torch.ones(64, 64, device=device)).sum().item()
        free = free_gpu_memory(device)
        total = torch.cuda.get_device_properties(device).total_memory
        dtype = read_gpu_dtype(device)
    except RuntimeError as error:
        remedy = "restart this machine or its driver"
        if lacks_kernels(error):
            remedy = f"install a build of torch for this GPU, see {INSTALL}"
        sentence = f"{name}: cannot compute ({first_line(error)}); {remedy}"
        return Finding("error", "gpu", sentence)
    sentence = (
        f"{name}: {format_bytes(total)} of memory, {format_bytes(free)} of it free; "
        f"train.dtype: auto takes {dtype}"
    )
    if free >= FREE_SHARE * total:
        return Finding("note", "gpu", sentence)
    return Finding(
        "warning", "gpu", f"{sentence}; another program uses this GPU: end it (see nvidia-smi)"
    )


def _check_cpu() -> Finding:
    """Return the number format that is faster here in layers of the width of a small model."""
    torch.manual_seed(0)
    model = LlamaForSequenceClassification(LlamaConfig(**SIZES))
    model.requires_grad_(False)
    chosen, _ = convert_dtype(model, "auto", torch.device("cpu"))
    dtype = str(chosen.dtype).removeprefix("torch.")
    return Finding(
        "note",
        "cpu",
        f"training on the {name_device(torch.device('cpu'))}: train.dtype: auto takes {dtype} for "
        f"a model {SIZES['hidden_size']} wide, and times each model anew",
    )


if __name__ == "__main__":
    tell(check_torch())
