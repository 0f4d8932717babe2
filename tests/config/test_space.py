"""The search space and its draws."""

from itertools import islice, pairwise

import pytest

from sweep.config.search_space import draw_points, dump_space, read_space

SPACES = {
    "lora_rank": read_space([4, 8, 16, 32]),
    "learning_rate": read_space({"loguniform": [1e-4, 1e-2]}),
}


def take(count: int, seed: int = 0) -> list[dict[str, float]]:
    return list(islice(draw_points(SPACES, seed), count))


def test_points_do_not_depend_on_how_many_are_taken() -> None:
    assert take(4) == take(16)[:4]


def test_another_seed_gives_other_points() -> None:
    assert take(4, seed=1) != take(4, seed=2)


def test_first_four_points_take_each_of_four_ranks_once() -> None:
    assert sorted(point["lora_rank"] for point in take(4)) == [4, 8, 16, 32]


def test_first_three_learning_rates_lie_in_three_thirds_of_the_range() -> None:
    rates = sorted(point["learning_rate"] for point in take(3))
    third = 100 ** (1 / 3)
    assert all(high / low == pytest.approx(third, rel=1e-3) for low, high in pairwise(rates))


def test_points_stay_inside_the_bounds() -> None:
    assert all(1e-4 <= point["learning_rate"] <= 1e-2 for point in take(200))


@pytest.mark.parametrize("value", [3, [1, 2], {"uniform": [0.0, 1.0]}, {"loguniform": [0.1, 1.0]}])
def test_space_survives_a_round_trip(value: object) -> None:
    space = read_space(value)
    assert read_space(dump_space(space)) == space


def test_text_that_means_a_number_is_read_as_one() -> None:
    assert read_space("1e-4").values == (1e-4,)


@pytest.mark.parametrize(
    ("value", "sentence"),
    [
        ([], "an empty list leaves nothing to try"),
        ([1, 1], "listed twice"),
        ("fast", "'fast' is not a number"),
        (True, "True is not a number"),
        (float("nan"), "not a finite number"),
        ({"normal": [0, 1]}, "write {uniform"),
        ({"uniform": [1]}, "takes two bounds"),
        ({"loguniform": [0, 1]}, "need 0 < low <= high"),
        ({"uniform": [2, 1]}, "need 0 < low <= high"),
    ],
)
def test_bad_spaces_are_refused_with_a_sentence(value: object, sentence: str) -> None:
    with pytest.raises(ValueError, match=sentence.replace("{", r"\{")):
        read_space(value)
