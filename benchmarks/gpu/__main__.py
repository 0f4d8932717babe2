"""Checks the engines on this machine's GPU and measures them, within a time limit; without a GPU,
it does so with tiny models on the CPU.

Each part writes its findings to DIR/PART.json at once; a summary, in Markdown, comes last and is
DIR/summary.md too. The exit code is 1 if a check failed or a part broke off, 2 if the command is
wrong, else 0: a slow figure is no failure.
"""

import argparse
import os
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
# PyTorch 2.13 would build some of its kernels with a C compiler, which a machine may lack.
os.environ.setdefault("TORCH_DISABLE_NATIVE_JIT", "1")

import torch

from benchmarks.gpu.findings import format_summary
from benchmarks.gpu.parts import NAMES, PARTS, has_gpu, run_parts
from benchmarks.gpu.setting import FAMILIES, Setting
from benchmarks.random_models import SIZES


def build_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.gpu",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    add("--minutes", type=float, default=8.0, help="time limit (default: 8)")
    add("--out", type=Path, default=Path("runs/gpu-check"), metavar="DIR",
        help="folder of the findings (default: runs/gpu-check)")  # fmt: skip
    add("--parts", help=f"some of {','.join(NAMES)} (default: all, in this order)")
    add("--models", nargs="+", default=[], metavar="NAME",
        help=f"tiny models to check ({', '.join(FAMILIES)}), sizes to time with random weights "
        f"({', '.join(SIZES)}) or folders of real models")  # fmt: skip
    add("--data", type=Path, help="folder of a corpus to time with (default: the built-in one)")
    add("--device", choices=("auto", "cpu", "cuda"), default="auto")
    return parser


def main(arguments: Sequence[str] | None = None) -> int:
    start = time.time()
    parser = build_parser()
    options = parser.parse_args(arguments)
    wanted = options.parts.split(",") if options.parts else list(NAMES)
    for name in wanted:
        if name not in NAMES:
            parser.error(f"there is no part {name!r}; choose among {', '.join(NAMES)}")
    for name in options.models:
        if name not in (*FAMILIES, *SIZES) and not Path(name).is_dir():
            parser.error(f"{name!r} is neither a known model nor a folder; see --help")
    if options.device == "cpu":
        # For the processes that sweeps start too.
        os.environ["CUDA_VISIBLE_DEVICES"] = ""
    device = torch.device("cuda" if has_gpu() else "cpu")
    if options.device == "cuda" and device.type != "cuda":
        parser.error("PyTorch finds no GPU; see python -m torch.utils.collect_env")
    options.out.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as folder:
        setting = Setting(
            device,
            Path(folder),
            start + 60 * options.minutes,
            tuple(options.models),
            options.data,
        )
        found = run_parts([part for part in PARTS if part.name in wanted], setting, options.out)
    summary = format_summary(found)
    (options.out / "summary.md").write_text(summary + "\n")
    print(f"\n{summary}")
    return int(any(one.outcome == "FAILED" for one in found))


if __name__ == "__main__":
    sys.exit(main())
