"""LoRA dropout of packed trials: a hash that behaves like chance."""

import pytest
import torch

from sweep.models.flat.texts import FlatTexts
from sweep.training.packed.dropout import Dropout, Masks


def drop(seeds: list[int], shape: tuple[int, int], probability: float = 0.3, number: int = 0,
         tokens: int = 8) -> torch.Tensor:  # fmt: skip
    """Return ones after dropout (slots, rows x tokens, values)."""
    rows, values = shape
    masks = build_masks([Dropout(probability, seed) for seed in seeds], rows, tokens)
    return masks.drop(torch.ones(len(seeds) * rows, values), number).view(len(seeds), *shape)


def build_masks(dropout: list[Dropout], rows: int, tokens: int) -> Masks:
    """Return the masks of slots with ``rows`` tokens each, in texts of ``tokens``."""
    texts = len(dropout) * rows // tokens
    lengths, ids = [tokens] * texts, torch.zeros(texts * tokens)
    counts = [rows // tokens] * len(dropout)
    return Masks(dropout, counts, FlatTexts(ids, lengths, [tokens - 1] * texts, 0))


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
    masks = build_masks([Dropout(0.0, 1), Dropout(0.5, 1)], rows=8, tokens=8)
    x = torch.randn(16, 32)
    dropped, x = masks.drop(x, 0).view(2, 8, 32), x.view(2, 8, 32)
    assert torch.equal(dropped[0], x[0])
    assert bool((dropped[1] == 0).any())


def test_rows_of_a_flat_batch_have_the_draws_of_the_rectangle() -> None:
    lengths = [3, 7, 2, 7, 1]
    texts = FlatTexts(torch.zeros(20), lengths, [0] * 5, 0)
    masks = Masks([Dropout(0.5, 1), Dropout(0.3, 2)], [2, 3], texts)
    rectangle = masks.drop(torch.ones(5 * 7, 16), 4).view(5, 7, 16)
    real = torch.arange(7) < torch.tensor(lengths)[:, None]
    assert torch.equal(masks.drop(torch.ones(20, 16), 4), rectangle[real])
    # The last block passes one row for each text.
    assert torch.equal(masks.drop(torch.ones(5, 16), 4), rectangle[:, 0])
