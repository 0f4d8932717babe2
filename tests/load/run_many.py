"""Trains many tiny trials on real Ray and prints the driver's memory by number of trials done."""

import argparse
import gc
import os
import sys
import tempfile
import time
import tracemalloc
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")

import numpy as np
from big_run import plan_config
from measure import read_resident
from rich.console import Console

from sweep.preflight.setup import RunSetup
from sweep.storage.journal import Journal
from sweep.tuning.callbacks import SessionCallback
from sweep.tuning.driver import run_plan

CONFIG = """\
name: many
data: {{source: synthetic, max_eval_per_label: 8}}
grid:
  models: [{{name: tiny-llama, path: "tiny:llama"}}]
  n_labels: [2]
  n_samples: [16]
  seeds: {seeds}
tune:
  candidates: {candidates}
  lora_rank: [2, 4]
  learning_rate: {{loguniform: [1.0e-3, 1.0e-2]}}
serving: {{measure: false}}
asha: {{max_epochs: 1, grace_epochs: 1, reduction_factor: 2}}
train: {{batch_size: 16, max_length: 16, dtype: float32}}
baselines: []
"""
CANDIDATES = 8
SAMPLE_EVERY = 20
WARM_UP = 0.2
"""Part of the trials that is left out of the slope: pools and caches fill once."""


class MemoryMeter(SessionCallback):
    """Notes the driver's resident memory after every few trials."""

    def __init__(self, trace: bool) -> None:
        self.samples: list[tuple[int, int]] = []
        self.begun = time.monotonic()
        self.first_result: float | None = None
        self._done = 0
        self._trace = trace
        self._before: tracemalloc.Snapshot | None = None
        self._types: Counter[str] = Counter()

    def on_trial_complete(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        """Sample the memory if it is time."""
        self.first_result = self.first_result or time.monotonic()
        self._done += 1
        if self._done % SAMPLE_EVERY == 0:
            gc.collect()
            self.samples.append((self._done, read_resident()))
        if self._trace and self._done == 10 * SAMPLE_EVERY:
            tracemalloc.start(1)
            self._before, self._types = tracemalloc.take_snapshot(), count_objects()

    def slope(self) -> float:
        """Return the least-squares growth in kB per trial, after the warm-up."""
        done, resident = np.array(self.samples[int(len(self.samples) * WARM_UP) :], float).T
        return float(np.polyfit(done, resident, 1)[0]) / 1e3

    def show(self) -> str:
        """Return a line per tenth of the samples, and the slope."""
        step = max(1, len(self.samples) // 10)
        lines = [f"{done:>6} trials {size / 1e6:8.1f} MB" for done, size in self.samples[::step]]
        return "\n".join([*lines, f"slope: {self.slope():.1f} kB per trial"])

    def format_trace(self) -> str:
        """Return which lines and types of the driver hold more than they did at the start."""
        if self._before is None:
            return ""
        after = tracemalloc.take_snapshot().compare_to(self._before, "lineno")
        count = self._done - 10 * SAMPLE_EVERY
        lines = [f"{e.size_diff / count:8.0f} B/trial {e.traceback}" for e in after[:40]]
        grown = (count_objects() - self._types).most_common(25)
        return "\n".join([*lines, *(f"{n / count:8.1f} objects/trial {name}" for name, n in grown)])


def count_objects() -> Counter[str]:
    """Return how many objects of each type the garbage collector knows."""
    return Counter(f"{type(o).__module__}.{type(o).__qualname__}" for o in gc.get_objects())


def write_config(trials: int, folder: Path) -> Path:
    """Write a configuration of ``trials`` small trials; return its path."""
    path = folder / "many.yaml"
    seeds = list(range(max(1, trials // CANDIDATES)))
    path.write_text(CONFIG.format(seeds=seeds, candidates=CANDIDATES))
    return path


def add_callback(meter: MemoryMeter) -> None:
    """Have the driver call ``meter`` beside its own callbacks."""
    from sweep.tuning import driver

    build: Callable[..., list[SessionCallback]] = driver.build_trackers
    driver.build_trackers = lambda *given: [*build(*given), meter]


def main() -> None:
    """Run the trials, and print how the driver's memory grew."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--trials", type=int, default=1000)
    parser.add_argument("--trace", action="store_true", help="name what grows (slow)")
    options = parser.parse_args()
    meter = MemoryMeter(options.trace)
    add_callback(meter)
    with tempfile.TemporaryDirectory() as place:
        config, plan, subsets = plan_config(write_config(options.trials, Path(place)))
        folder = Path(place) / config.name
        folder.mkdir()
        with Journal(folder) as journal:
            setup = RunSetup(config, plan, subsets, folder)
            record = run_plan(setup, journal, None, Console(file=sys.stderr))
    seconds = time.monotonic() - (meter.first_result or meter.begun)
    print(f"{len(record.done())} of {len(plan.trials)} trials, {seconds:.0f} s from the first on;")
    print(f"the driver's processor time: {time.process_time():.0f} s")
    print(meter.show())
    print(meter.format_trace())


if __name__ == "__main__":
    main()
