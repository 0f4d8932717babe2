"""The run's hosts: an actor that starts them, a few on each GPU or node, and knows which trial is
where."""

import math
from collections import Counter
from contextlib import suppress
from dataclasses import dataclass
from functools import cache
from typing import Any

import ray
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from sweep.workers.host import CALLS_AT_A_TIME, Host

Place = tuple[str, str | None]
"""A node's id, and a GPU's on it."""
ANSWER_SECONDS = 30
GONE = (ray.exceptions.RayActorError, ray.exceptions.GetTimeoutError)
"""What a call to a host that has ended, or hangs, gives."""


@dataclass
class Hosted:
    """A host, where it is, and the model that its last trial was of."""

    actor: Any
    place: Place
    model: str | None = None


class HostPool:
    """Owned by the driver, so that all hosts end with it, and none with a trial's actor.

    It alone starts hosts and hands them out, one call at a time, and keeps hold of them: Ray ends
    an actor that nobody holds. A GPU has one host, a node without GPUs one for every ``cpus`` CPUs
    of it, with as many threads; a host takes up to ``slots`` trials of one model at a time, and
    another model's when it has none. A trial that finds none waits a little, for a pack often
    ends together and a host takes seconds to start; then there is one host more, as long as
    needed.
    """

    def __init__(self, subsets: list[Any], run_folder: str | None, slots: int, cpus: float) -> None:
        # A reference comes inside a list, or Ray would fetch what it stands for.
        self._subsets = subsets[0]
        self._run_folder = run_folder
        self._slots = slots
        self._cpus = cpus
        self._hosts: dict[int, Hosted] = {}
        self._started = 0
        self._homes: dict[str, int] = {}

    def warm(self) -> None:
        """Start the hosts of the nodes without GPUs, which import meanwhile what trains."""
        for node in ray.nodes():
            place = (node["NodeID"], None)
            if node["Alive"] and not node["Resources"].get("GPU"):
                for _ in range(self._count_usual(place) - len(self._at(place))):
                    self._hosts[self._start(place)].actor.warm.remote()

    def acquire(self, trial_id: str, model: str, place: Place, insist: bool) -> Any:
        """Return a host at ``place`` for a trial of ``model``; None where there is none yet and the
        trial does not ``insist``.

        The trial is taken from the host that it had before.
        """
        before = self._homes.get(trial_id)
        chosen = self._choose(trial_id, model, place, insist)
        while chosen is not None and not self._is_alive(chosen):
            chosen = self._choose(trial_id, model, place, insist)
        if chosen is None:
            return None
        if before not in (None, chosen) and before in self._hosts:
            with suppress(*GONE):
                ray.get(self._hosts[before].actor.close.remote(trial_id), timeout=ANSWER_SECONDS)
        self._homes[trial_id] = chosen
        self._hosts[chosen].model = model
        self._retire(place)
        return self._hosts[chosen].actor

    def _choose(self, trial_id: str, model: str, place: Place, insist: bool) -> int | None:
        """Return the number of the host that a trial should have, started if need be."""
        before = self._homes.get(trial_id)
        others = (number for each, number in self._homes.items() if each != trial_id)
        here, trials = self._at(place), Counter(others)
        room = [n for n in here if self._hosts[n].model == model and trials[n] < self._slots]
        if before in room:
            return before
        # Two trials on two cores are faster than both on one: an idle host first, of those the one
        # that has the model already; then the emptiest.
        idle = sorted((self._hosts[n].model != model, n) for n in here if not trials[n])
        if idle:
            return idle[0][1]
        if len(here) < self._count_usual(place):
            return self._start(place)
        if room:
            return min(room, key=lambda n: (trials[n], n))
        return self._start(place) if insist else None

    def _at(self, place: Place) -> list[int]:
        return [number for number, host in self._hosts.items() if host.place == place]

    def _count_usual(self, place: Place) -> int:
        """Return how many hosts a place has where no trial insists."""
        node, gpu = place
        return 1 if gpu is not None else max(1, math.floor(_count_cpus(node) / self._cpus))

    def _is_alive(self, number: int) -> bool:
        actor = self._hosts[number].actor
        try:
            ray.get(actor.pid.remote(), timeout=ANSWER_SECONDS)
        except GONE:
            ray.kill(actor)
            del self._hosts[number]
            return False
        return True

    def _start(self, place: Place) -> int:
        node, gpu = place
        options = {
            "num_cpus": 0,
            "max_concurrency": CALLS_AT_A_TIME,
            "scheduling_strategy": NodeAffinitySchedulingStrategy(node, soft=False),
        }
        threads = int(_count_cpus(node) if gpu is not None else self._cpus)
        actor = ray.remote(Host).options(**options)
        self._started += 1
        handle = actor.remote(self._subsets, self._run_folder, threads, gpu)
        self._hosts[self._started] = Hosted(handle, place)
        return self._started

    def _retire(self, place: Place) -> None:
        """End hosts without a trial, where more are there than usual."""
        busy = set(self._homes.values())
        here = self._at(place)
        spare = len(here) - self._count_usual(place)
        for number in [n for n in here if n not in busy][: max(0, spare)]:
            ray.kill(self._hosts.pop(number).actor)

    def forget(self, trial_id: str) -> None:
        """Forget a trial that has ended; its host may end with it."""
        number = self._homes.pop(trial_id, None)
        if number in self._hosts:
            self._retire(self._hosts[number].place)

    def pids(self) -> list[int]:
        """Return the hosts' process ids."""
        return [ray.get(host.actor.pid.remote()) for host in self._hosts.values()]


@cache
def _count_cpus(node: str) -> float:
    """Return how many CPUs Ray counts on a node, which stay as many as long as it lives."""
    cpus = {each["NodeID"]: each["Resources"].get("CPU", 1.0) for each in ray.nodes()}
    return float(cpus.get(node, 1.0))
