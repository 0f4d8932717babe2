"""Which host a trial gets, without Ray."""

from typing import Any

import pytest

from sweep.cluster.allocation import count_hosts
from sweep.storage.forecast import PackBytes
from sweep.workers import host_pool as hosts
from sweep.workers.host_pool import Hosted, HostPool

NODE, GPU = ("node", None), ("node", "0")


class Books(HostPool):
    """The books of the hosts, which are never started."""

    def __init__(self, slots: int, per_gpu: int = 1) -> None:
        super().__init__([None], None, slots, {}, 1, per_gpu)
        self.ended: list[int] = []
        self.dead: set[int] = set()

    def _start(self, location: hosts.Location) -> int:
        self._started += 1
        self._hosts[self._started] = Hosted(self._started, location)
        return self._started

    def _is_alive(self, number: int) -> bool:
        if number in self.dead:
            self._hosts.pop(number, None)
        return number not in self.dead

    def ask(self, trial: str, model: str, location: Any = NODE, insist: bool = False) -> Any:
        return self.acquire(trial, model, location, insist)


@pytest.fixture(autouse=True)
def two_cpus(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hosts, "_count_cpus", lambda node: 2.0)
    # What is ended is a number here, no actor.
    monkeypatch.setattr(hosts.ray, "kill", lambda actor: None)


def test_trials_of_one_model_spread_over_the_hosts() -> None:
    books = Books(slots=2)
    assert [books.ask(f"a{i}", "a") for i in range(4)] == [1, 2, 1, 2]
    assert books.ask("a4", "a") is None


def test_each_model_has_a_host_while_there_are_enough() -> None:
    books = Books(slots=4)
    assert [books.ask("a", "a"), books.ask("b", "b"), books.ask("a2", "a")] == [1, 2, 1]
    for trial in ("a", "a2", "b"):
        books.forget(trial)
    assert [books.ask("b2", "b"), books.ask("a3", "a")] == [2, 1]


def test_host_without_trials_takes_another_model() -> None:
    books = Books(slots=4)
    assert [books.ask("a", "a"), books.ask("b", "b")] == [1, 2]
    assert books.ask("c", "c") is None
    books.forget("a")
    assert books.ask("c", "c") == 1
    assert books.ask("c2", "c") == 1
    assert len(books._hosts) == 2


def test_trial_that_insists_gets_one_host_more_as_long_as_it_is_needed() -> None:
    books = Books(slots=4)
    books.ask("a", "a")
    books.ask("b", "b")
    assert books.ask("c", "c", insist=True) == 3
    books.forget("a")
    assert sorted(books._hosts) == [2, 3]


def test_gpu_has_one_host_at_a_time() -> None:
    books = Books(slots=4)
    assert [books.ask("a", "a", GPU), books.ask("a2", "a", GPU)] == [1, 1]
    assert books.ask("b", "b", GPU) is None
    books.forget("a")
    books.forget("a2")
    assert books.ask("b", "b", GPU) == 1
    assert books.ask("c", "c", ("node", "1")) == 2


def test_trial_of_another_model_waits_for_a_gpu_that_holds_one_host() -> None:
    books = Books(slots=4)
    books.ask("a", "a", GPU)
    books.ask("a2", "a", GPU)
    assert books.ask("b", "b", GPU, insist=True) is None
    books.forget("a")
    assert books.ask("b", "b", GPU, insist=True) is None
    books.forget("a2")
    assert books.ask("b", "b", GPU) == 1
    # The books have one model at a time there.
    assert books.ask("a3", "a", GPU, insist=True) is None


def test_gpu_gets_another_host_if_its_memory_holds_two_and_a_trial_insists() -> None:
    books = Books(slots=4, per_gpu=2)
    books.ask("a", "a", GPU)
    assert books.ask("b", "b", GPU) is None
    assert books.ask("b", "b", GPU, insist=True) == 2
    assert books.ask("c", "c", GPU, insist=True) is None
    # Not more than are needed: without a trial the first one ends, and with it its memory.
    books.forget("a")
    assert list(books._hosts) == [2]


@pytest.mark.parametrize(
    ("gpu", "hosts"), [(80 * 10**9, 3), (24 * 10**9, 1), (10 * 10**9, 1), (None, 1)]
)
def test_gpu_holds_as_many_full_hosts_as_its_memory(gpu: int | None, hosts: int) -> None:
    # Four trials: 22 GB.
    pack = PackBytes(6 * 10**9, 3 * 10**9, 10**9, 4 * 10**9)
    assert count_hosts(4, [pack], gpu) == hosts


def test_trial_that_comes_again_gets_its_host_even_if_full() -> None:
    books = Books(slots=2)
    places = [books.ask(trial, "a") for trial in ("a", "a2", "a3", "a4", "a")]
    assert places == [1, 2, 1, 2, 1]


def test_host_that_has_ended_is_replaced() -> None:
    books = Books(slots=2)
    assert [books.ask("a", "a"), books.ask("a2", "a")] == [1, 2]
    books.dead = {1}
    assert [books.ask("a", "a"), books.ask("a2", "a")] == [3, 2]


def test_hosts_without_trials_make_room_for_a_trial_that_trains_alone(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    killed: list[Any] = []
    monkeypatch.setattr(hosts.ray, "kill", killed.append)
    books = Books(slots=2)
    other = ("node", "1")
    assert [books.ask("a", "a", GPU), books.ask("b", "b", other)] == [1, 2]
    books.vacate(GPU)
    assert killed == []
    books.forget("a")
    books.vacate(GPU)
    assert killed == [1]
    assert books.ask("c", "c", GPU) == 3
