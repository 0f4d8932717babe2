"""The schedule of looks, and the looks of fixed numbers of seeds."""

import pytest

from sweep.verdicts import ONE_LOOK, SCHEDULE, list_looks, next_look


def test_each_look_has_half_as_many_seeds_again() -> None:
    looks = [next_look(0)]
    while looks[-1] < 50:
        looks.append(next_look(looks[-1]))
    assert looks == [2, 3, 5, 8, 12, 18, 27, 41, 62]
    assert next_look(6) == 8


def test_the_weights_of_all_looks_that_a_run_may_take_are_at_most_the_level() -> None:
    assert SCHEDULE.sizes[-1] > 1000
    assert sum(SCHEDULE.weights) == pytest.approx(1, abs=1e-3)
    assert sum(SCHEDULE.weights) <= 1 + 1e-12
    assert min(SCHEDULE.weights) > 0


@pytest.mark.parametrize(
    ("seeds", "passed"), [(0, []), (1, []), (2, [2]), (4, [2, 3]), (5, [2, 3, 5])]
)
def test_a_look_of_the_schedule_is_passed_once_its_seeds_are_there(
    seeds: int, passed: list[int]
) -> None:
    assert [size for size, _ in SCHEDULE.list_passed(seeds)] == passed


def test_a_fixed_number_is_one_look_at_whatever_is_there() -> None:
    assert list_looks([]) == list_looks([5]) == list_looks([5, 5, 0]) == ONE_LOOK
    assert ONE_LOOK.list_passed(3) == [(3, 1.0)]
    assert ONE_LOOK.list_passed(0) == []


def test_a_second_number_shares_the_level_with_the_first() -> None:
    looks = list_looks([8, 3])
    assert looks.list_passed(8) == [(3, 0.5), (8, 0.25)]
    assert looks.list_passed(5) == [(3, 0.5), (5, 0.25)]
    assert looks.list_passed(3) == [(3, 0.5)]
    assert looks.list_passed(2) == [(2, 0.5)]
    assert list_looks([3, 5, 8]).list_passed(9) == [(3, 0.5), (5, 0.25), (9, 0.125)]


def test_the_best_weight_is_that_of_a_look_to_come() -> None:
    assert SCHEDULE.best_weight(2) == max(SCHEDULE.weights)
    assert SCHEDULE.best_weight(8) == SCHEDULE.weights[4]
    assert ONE_LOOK.best_weight(9) == 1
