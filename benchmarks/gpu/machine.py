"""What the findings were made on."""

import os
import platform
import shutil
import subprocess
from importlib.metadata import version

import torch

from benchmarks.gpu.findings import Findings
from benchmarks.gpu.setting import Setting
from sweep.models.device import name_device, read_gpu_dtype
from sweep.models.flat.attention import Rules, runs_flat
from sweep.training.packed.products import choose_product

# The size of an attention head in most models.
HEAD = 64
PACKAGES = ("torch", "transformers", "peft", "accelerate", "ray", "triton")


def describe_machine(setting: Setting, findings: Findings) -> None:
    """Add the device, its driver and the versions of the libraries."""
    facts = {"device": name_device(setting.device), "CPU cores": str(os.cpu_count())}
    if setting.on_gpu:
        properties = torch.cuda.get_device_properties(setting.device)
        facts |= {
            "memory": f"{properties.total_memory / 1e9:.0f} GB",
            "compute capability": f"{properties.major}.{properties.minor}",
            "processors": str(properties.multi_processor_count),
            "driver": read_driver(),
            "CUDA": str(torch.version.cuda),
            **name_kernels(setting.device),
        }
    facts["Python"] = platform.python_version()
    for name in PACKAGES:
        facts[name] = find_version(name)
    for name, value in facts.items():
        findings.add("machine", what=name, value=value)


def name_kernels(device: torch.device) -> dict[str, str]:
    """Return what passes over flat rows use there, as each is tried before it is used."""
    dtype = getattr(torch, read_gpu_dtype(device))
    takes_rows = runs_flat(device, dtype, HEAD, Rules(HEAD**-0.5))
    return {
        "attention": f"{'rows' if takes_rows else 'rectangles'} in {dtype}",
        "adapters of a pack": choose_product(device, dtype).__name__,
    }


def read_driver() -> str:
    """Return the version of NVIDIA's driver, "unknown" without its command-line tool."""
    program = shutil.which("nvidia-smi")
    if program is None:
        return "unknown"
    words = [program, "--query-gpu=driver_version", "--format=csv,noheader"]
    done = subprocess.run(words, capture_output=True, text=True)
    return (done.stdout.split() or ["unknown"])[0]


def find_version(package: str) -> str:
    try:
        return version(package)
    except ModuleNotFoundError:  # `importlib.metadata.PackageNotFoundError` is one
        return "not installed"
