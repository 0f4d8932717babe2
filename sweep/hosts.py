"""The run's hosts: an actor that starts one per base model and GPU or node, and knows which trial
is where."""

from contextlib import suppress
from typing import Any

import ray
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from sweep.host import CALLS_AT_A_TIME, Host

Place = tuple[str, str | None]
"""A node's id, and a GPU's on it."""
ANSWER_SECONDS = 30
GONE = (ray.exceptions.RayActorError, ray.exceptions.GetTimeoutError)
"""What a call to a host that has ended, or hangs, gives."""


class Hosts:
    """Owned by the driver, so that all hosts end with it, and none with a trial's actor.

    It alone starts hosts and hands them out, one call at a time, and keeps hold of them: Ray ends
    an actor that nobody holds.
    """

    def __init__(self, subsets: list[Any], run_folder: str | None) -> None:
        # A reference comes inside a list, or Ray would fetch what it stands for.
        self._subsets = subsets[0]
        self._run_folder = run_folder
        self._hosts: dict[tuple[str, Place], Any] = {}
        self._homes: dict[str, tuple[str, Place]] = {}

    def find(self, trial_id: str, model: str, place: Place) -> Any:
        """Return the host of ``model`` at ``place``, started if there is none alive.

        The trial is taken from the host that it had before. A host of another model at the same
        place ends with its last trial.
        """
        key, before = (model, place), self._homes.get(trial_id)
        if before not in (None, key) and before in self._hosts:
            with suppress(*GONE):
                ray.get(self._hosts[before].close.remote(trial_id), timeout=ANSWER_SECONDS)
        if not self._is_alive(key):
            self._hosts[key] = self._start(place)
        self._homes[trial_id] = key
        self._retire_others(key)
        return self._hosts[key]

    def _is_alive(self, key: tuple[str, Place]) -> bool:
        if key not in self._hosts:
            return False
        try:
            ray.get(self._hosts[key].pid.remote(), timeout=ANSWER_SECONDS)
        except GONE:
            ray.kill(self._hosts.pop(key))
            return False
        return True

    def _start(self, place: Place) -> Any:
        node, gpu = place
        cpus = {node["NodeID"]: node["Resources"].get("CPU", 1) for node in ray.nodes()}
        options = {
            "num_cpus": 0,
            "max_concurrency": CALLS_AT_A_TIME,
            "scheduling_strategy": NodeAffinitySchedulingStrategy(node, soft=False),
        }
        host = ray.remote(Host).options(**options)
        return host.remote(self._subsets, self._run_folder, int(cpus.get(node, 1)), gpu)

    def _retire_others(self, key: tuple[str, Place]) -> None:
        """End the hosts of other models at the same place that have no trial."""
        busy = set(self._homes.values())
        for other in list(self._hosts):
            if other != key and other[1] == key[1] and other not in busy:
                ray.kill(self._hosts.pop(other))

    def forget(self, trial_id: str) -> None:
        """Forget a trial that has ended; its host ends with its last trial, if another model has
        its place by now."""
        key = self._homes.pop(trial_id, None)
        others = [other for other in self._homes.values() if key and other[1] == key[1]]
        if key in self._hosts and others and key not in others:
            ray.kill(self._hosts.pop(key))

    def pids(self) -> list[int]:
        """Return the hosts' process ids."""
        return [ray.get(host.pid.remote()) for host in self._hosts.values()]
