"""The one worker that measures in use, and how it is replaced."""

from collections.abc import Callable
from typing import Any

import ray
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from sweep.cluster.nodes import choose_machine
from sweep.errors import shorten
from sweep.preflight.setup import RunSetup
from sweep.storage.events import ServingFacts
from sweep.workers.serving_actor import Answer, Job, ServingActor

# A worker's start and imports, which do not count as a measurement's time.
START_SECONDS = 120.0
# Seconds until it is told that the machine is waited for, and until it is given up.
PATIENCE_SECONDS, FREE_SECONDS = 20.0, 600.0


class MachineBusyError(Exception):
    """Others have held what the measurements need for too long."""


class Meter:
    """The actor that measures, alone on a machine, or on a GPU with its part of the CPUs; a new one
    takes the place of one that is lost."""

    def __init__(self, setup: RunSetup, on_gpu: bool, notify: Callable[[str], None]) -> None:
        self.on_gpu = on_gpu
        self.node, self.reserved = choose_machine(on_gpu)
        self._notify = notify
        self._limit = START_SECONDS + 60 * setup.config.resources.max_epoch_minutes
        self._minutes = setup.config.resources.max_epoch_minutes
        storage, seconds = setup.config.storage.checkpoints, setup.config.serving.seconds
        self._arguments = (ray.put(setup.subsets), str(setup.folder), storage, seconds)
        self._actor: Any = None
        self.host = ""

    def start(self) -> None:
        """Start the actor; raise MachineBusyError if the machine is not free in time."""
        threads = str(max(1, int(self.reserved["CPU"])))
        options: dict[str, Any] = {
            "num_cpus": self.reserved["CPU"],
            "num_gpus": self.reserved.get("GPU", 0.0),
            # With variables of its own it never gets a process in which a task has run.
            "runtime_env": {"env_vars": {"OMP_NUM_THREADS": threads, "RAYON_NUM_THREADS": threads}},
        }
        if self.node is not None:
            options["scheduling_strategy"] = NodeAffinitySchedulingStrategy(self.node, soft=False)
        self._actor = ray.remote(ServingActor).options(**options).remote(*self._arguments)
        found = self._actor.find_host.remote()
        ready, _ = ray.wait([found], timeout=PATIENCE_SECONDS)
        if not ready:
            self._notify("waiting until a whole machine is free to measure speed in use")
            ready, _ = ray.wait([found], timeout=FREE_SECONDS)
        if not ready:
            raise MachineBusyError
        self.host = ray.get(found)
        busy = ray.get(self._actor.wait_until_idle.remote())
        if busy:
            self._notify(
                f"{self.host} is busy with other work ({busy:.0%} of its CPUs): what is measured "
                "in use will be too slow"
            )

    def measure(self, job: Job) -> ServingFacts:
        """Return what is measured, or ``serving_error``."""
        try:
            answer: Answer = ray.get(self._actor.measure.remote(job), timeout=self._limit)
        except ray.exceptions.GetTimeoutError:
            answer = _lose(
                f"no result within {self._minutes:g} minutes (resources.max_epoch_minutes)"
            )
        except ray.exceptions.RayError as error:
            answer = _lose(f"its worker was lost ({shorten(error, 300) or type(error).__name__})")
        if answer.lost is not None:
            self.stop()
            self.start()
        return answer.facts

    def stop(self) -> None:
        """End the actor, whatever it is doing."""
        if self._actor is not None:
            ray.kill(self._actor)
            self._actor = None


def _lose(reason: str) -> Answer:
    return Answer({"serving_error": reason}, lost=reason)
