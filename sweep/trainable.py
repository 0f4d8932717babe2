"""The Tune side of a trial: a reusable actor that hands its trials to an engine."""

import traceback
from pathlib import Path
from typing import Any

import ray
import torch
from ray import tune

from sweep.engine import SoloEngine
from sweep.errors import SweepError
from sweep.plan import TrialSpec
from sweep.subsets import Subsets


class SweepTrial(tune.Trainable):  # type: ignore[misc]
    """One trial after another in one actor; each ``step`` is an epoch.

    A trial that fails reports so and ends: only a lost worker or machine is an error to Tune,
    which then starts the trial again elsewhere, from its newest whole checkpoint.
    """

    def setup(self, config: dict[str, Any], subsets: Subsets, run_folder: str) -> None:
        """Prepare the actor, once; trials follow through ``reset_config``."""
        cpus = ray.get_runtime_context().get_assigned_resources().get("CPU", 1)
        torch.set_num_threads(max(1, int(cpus)))
        self._folder = Path(run_folder)
        self._engine = SoloEngine(subsets, self._folder / "models")
        self._take(config)

    def reset_config(self, new_config: dict[str, Any]) -> bool:
        """End the trial at hand and take the next one."""
        self._engine.close()
        self._take(new_config)
        return True

    def _take(self, config: dict[str, Any]) -> None:
        self._spec = TrialSpec.from_dict(config["trial"])
        self._resume_epoch = int(config["resume_epoch"])
        self._facts: dict[str, Any] | None = None

    def step(self) -> dict[str, Any]:
        """Train one epoch; return its metrics, or how the trial failed."""
        try:
            if self._facts is None:
                checkpoints = self._folder / "checkpoints" / self._spec.trial_id
                self._facts = self._engine.start(self._spec, checkpoints, self._resume_epoch)
            metrics = self._engine.run_epoch()
        except torch.OutOfMemoryError as error:
            return self._fail("oom", error)
        except SweepError as error:
            return self._fail("failed", error)
        except Exception as error:  # a trial's failure is a row of the table, not the run's end
            return self._fail("failed", error)
        return metrics | {"facts": self._facts}

    def _fail(self, status: str, error: Exception) -> dict[str, Any]:
        # What is left of the trial may hold memory or half an adapter.
        self._engine.discard()
        message = str(error).strip() or type(error).__name__
        known = isinstance(error, SweepError)
        return {
            "done": True,
            "status": status,
            "error": message if known else f"{type(error).__name__}: {message}",
            "traceback": "" if known else traceback.format_exc(),
            "facts": self._facts or {},
        }

    def cleanup(self) -> None:
        """Let go of the base model."""
        self._engine.discard()
