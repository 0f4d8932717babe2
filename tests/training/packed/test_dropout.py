"""LoRA dropout of packed trials: a hash that behaves like chance."""

import pytest
import torch

from sweep.training.packed.dropout import Dropout, Masks

CPU = torch.device("cpu")


def drop(seeds: list[int], shape: tuple[int, int], probability: float = 0.3, number: int = 0,
         tokens: int = 8) -> torch.Tensor:  # fmt: skip
    """Return ones after dropout (slots, rows x tokens, values)."""
    masks = Masks([Dropout(probability, seed) for seed in seeds], CPU)
    return masks.drop(torch.ones(len(seeds), *shape), number, tokens)


@pytest.mark.parametrize("probability", [0.0, 0.05, 0.5, 0.9])
def test_as_many_are_dropped_as_the_probability_says(probability: float) -> None:
    dropped = drop([2**62 + 5, 6], (64, 2048), probability)
    share = (dropped == 0).double().mean((1, 2))
    assert share.tolist() == pytest.approx([probability] * 2, abs=0.005)
    kept = dropped[dropped != 0]
    assert torch.equal(kept, torch.full_like(kept, 1 / (1 - probability)))


def test_each_row_column_layer_and_seed_has_draws_of_its_own() -> None:
    one = drop([1], (64, 512), 0.5)[0] == 0
    # Of independent draws a half agree, give or take a few hundredths.
    neighbors = {
        "token": (one[1:], one[:-1]),
        "value": (one[:, 1:], one[:, :-1]),
        "layer": (one, drop([1], (64, 512), 0.5, number=1)[0] == 0),
        "seed": (one, drop([2], (64, 512), 0.5)[0] == 0),
        "token and value": (one[1:, 1:], one[:-1, :-1]),
    }
    for name, (left, right) in neighbors.items():
        assert float((left == right).double().mean()) == pytest.approx(0.5, abs=0.02), name
    assert float((one.double().mean(0) - 0.5).abs().max()) < 0.3
    assert float((one.double().mean(1) - 0.5).abs().max()) < 0.12


def test_padding_of_a_batch_moves_no_draw() -> None:
    narrow = drop([3], (4 * 5, 16), tokens=5).view(4, 5, 16)
    wide = drop([3, 4], (6 * 9, 16), tokens=9)[0].view(6, 9, 16)
    assert torch.equal(narrow, wide[:4, :5])


def test_slot_without_dropout_keeps_all_beside_one_that_has_some() -> None:
    masks = Masks([Dropout(0.0, 1), Dropout(0.5, 1)], CPU)
    x = torch.randn(2, 8, 32)
    dropped = masks.drop(x, 0, 8)
    assert torch.equal(dropped[0], x[0])
    assert bool((dropped[1] == 0).any())
