"""The run's hosts: an actor that starts them, a few per GPU or node, and knows which trial is on
which host."""

import math
from collections import Counter
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from functools import cache
from typing import Any

import ray
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from sweep.plan import Capacity
from sweep.workers.host import CALLS_AT_A_TIME, Host

# A node's id, and the id of a GPU on it.
Location = tuple[str, str | None]
ANSWER_SECONDS = 30
# What a call to a host raises if the host has ended, hangs, or says that it is about to end.
GONE = (
    ray.exceptions.RayActorError,
    ray.exceptions.GetTimeoutError,
    ray.exceptions.RayTaskError,
)


@dataclass
class Hosted:
    """A host, where it runs, and the model of its last trial."""

    actor: Any
    location: Location
    model: str | None = None


class HostPool:
    """Owned by the driver, so that all hosts end with it, and none with a trial's actor.

    Only the pool starts hosts and assigns them, one call at a time, and it keeps a reference to
    each: Ray ends an actor that nobody references. A GPU has one host; a node without GPUs has one
    per ``cpus`` CPUs, with as many threads. A host takes up to ``slots`` trials of one model at a
    time, and changes the model when it has no trial. A trial that finds no free host waits a
    little, because the trials of a pack often end together and a host takes seconds to start;
    after that, one more host is started for as long as it is needed. On a GPU that happens
    only if its memory holds ``per_gpu`` full hosts, since a host keeps its memory until it has no
    trial and takes another model; otherwise the trial waits for that.
    """

    def __init__(
        self,
        subsets: list[Any],
        run_folder: str | None,
        slots: int,
        capacities: Mapping[str, Capacity],
        cpus: float,
        per_gpu: int = 1,
    ) -> None:
        # The reference is wrapped in a list, or Ray would fetch what it refers to.
        self._subsets = subsets[0]
        self._run_folder = run_folder
        self._slots = slots
        self._capacities = capacities
        self._cpus = cpus
        self._per_gpu = per_gpu
        self._hosts: dict[int, Hosted] = {}
        self._started = 0
        self._homes: dict[str, int] = {}

    def warm(self) -> None:
        """Start the hosts of the nodes without GPUs, so that their imports are done early."""
        for node in ray.nodes():
            location = (node["NodeID"], None)
            if node["Alive"] and not node["Resources"].get("GPU"):
                for _ in range(self._count_usual(location) - len(self._at(location))):
                    self._hosts[self._start(location)].actor.warm.remote()

    def acquire(self, trial_id: str, model: str, location: Location, insist: bool) -> Any:
        """Return a host at ``location`` for a trial of ``model``; None if none is free and the
        trial does not ``insist`` on one.

        The trial is removed from the host that it had before.
        """
        before = self._homes.get(trial_id)
        chosen = self._choose(trial_id, model, location, insist)
        while chosen is not None and not self._is_alive(chosen):
            chosen = self._choose(trial_id, model, location, insist)
        if chosen is None:
            return None
        if before not in (None, chosen) and before in self._hosts:
            with suppress(*GONE):
                ray.get(self._hosts[before].actor.close.remote(trial_id), timeout=ANSWER_SECONDS)
        self._homes[trial_id] = chosen
        self._hosts[chosen].model = model
        self._retire(location)
        return self._hosts[chosen].actor

    def _choose(self, trial_id: str, model: str, location: Location, insist: bool) -> int | None:
        """Return the number of the host that a trial should get, started if need be."""
        before = self._homes.get(trial_id)
        others = (number for each, number in self._homes.items() if each != trial_id)
        here, trials = self._at(location), Counter(others)
        room = [n for n in here if self._hosts[n].model == model and trials[n] < self._slots]
        if before in room:
            return before
        # Two trials on two cores are faster than both on one: prefer an idle host, ideally one that
        # already has the model; then the one with the fewest trials.
        idle = sorted((self._hosts[n].model != model, n) for n in here if not trials[n])
        if idle:
            return idle[0][1]
        if len(here) < self._count_usual(location):
            return self._start(location)
        if room:
            return min(room, key=lambda n: (trials[n], n))
        return self._start(location) if insist and self._has_memory(location) else None

    def _has_memory(self, location: Location) -> bool:
        """Return whether one more host fits; memory for hosts on CPUs is not counted here."""
        return location[1] is None or len(self._at(location)) < self._per_gpu

    def _at(self, location: Location) -> list[int]:
        return [number for number, host in self._hosts.items() if host.location == location]

    def _count_usual(self, location: Location) -> int:
        """Return how many hosts a location has as long as no trial insists on one."""
        node, gpu = location
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

    def _start(self, location: Location) -> int:
        node, gpu = location
        options = {
            "num_cpus": 0,
            "max_concurrency": CALLS_AT_A_TIME,
            "scheduling_strategy": NodeAffinitySchedulingStrategy(node, soft=False),
        }
        threads = int(_count_cpus(node) if gpu is not None else self._cpus)
        actor = ray.remote(Host).options(**options)
        self._started += 1
        handle = actor.remote(self._subsets, self._run_folder, threads, self._capacities, gpu)
        self._hosts[self._started] = Hosted(handle, location)
        return self._started

    def _retire(self, location: Location) -> None:
        """End hosts without a trial that exceed the usual number."""
        busy = set(self._homes.values())
        here = self._at(location)
        spare = len(here) - self._count_usual(location)
        for number in [n for n in here if n not in busy][: max(0, spare)]:
            ray.kill(self._hosts.pop(number).actor)

    def vacate(self, location: Location) -> None:
        """End the hosts at ``location`` without a trial, since they hold memory."""
        busy = set(self._homes.values())
        for number in [n for n in self._at(location) if n not in busy]:
            ray.kill(self._hosts.pop(number).actor)

    def forget(self, trial_id: str) -> None:
        """Forget a trial that has ended; its host may end with it."""
        number = self._homes.pop(trial_id, None)
        if number in self._hosts:
            self._retire(self._hosts[number].location)


@cache
def _count_cpus(node: str) -> float:
    """Return how many CPUs Ray counts on a node; the number is fixed for the node's lifetime."""
    cpus = {each["NodeID"]: each["Resources"].get("CPU", 1.0) for each in ray.nodes()}
    return float(cpus.get(node, 1.0))
