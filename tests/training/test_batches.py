"""Tokens and batches."""

from typing import Any

import pytest
import torch

from sweep.training.batches import (
    Encoder,
    build_batch,
    order_scoring,
    order_training,
    split_batch,
    upload,
)

LENGTHS = [3, 30, 5, 12, 7, 7, 21, 4, 9, 16] * 20


class Words:
    """A stand-in tokenizer: one token per word, 0 at the end, nothing for an empty text."""

    eos_token_id = 0

    def __call__(self, text: Any, truncation: bool = False, max_length: int = 0, **_: Any) -> Any:
        if isinstance(text, list):
            return {"input_ids": [self._encode(t) for t in text]}
        ids = self._encode(text)
        return {"input_ids": [*ids[: max_length - 1], 0] if truncation else ids}

    def _encode(self, text: str) -> list[int]:
        return [len(word) for word in text.split()] + [0] if text else []


def test_every_text_is_trained_on_once_an_epoch() -> None:
    order = order_training(LENGTHS, 8, seed=0, epoch=1)
    assert sorted(index for batch in order for index in batch) == list(range(len(LENGTHS)))
    assert all(len(batch) == 8 for batch in order)


def test_order_depends_on_seed_and_epoch_alone() -> None:
    orders = {
        (seed, epoch): order_training(LENGTHS, 8, seed, epoch)
        for seed in (0, 1)
        for epoch in (1, 2)
    }
    assert order_training(LENGTHS, 8, 1, 2) == orders[1, 2]
    assert len({str(order) for order in orders.values()}) == 4


def test_sorting_by_length_drops_most_padding() -> None:
    def padded(order: list[list[int]]) -> int:
        return sum(len(batch) * max(LENGTHS[i] for i in batch) for batch in order)

    random = [list(range(i, i + 8)) for i in range(0, len(LENGTHS), 8)]
    assert padded(order_training(LENGTHS, 8, 0, 1)) < 0.7 * padded(random)
    assert padded(order_scoring(LENGTHS, 8)) < 0.7 * padded(random)


def test_long_text_is_cut_and_counted() -> None:
    encoded = Encoder(Words(), max_length=3).encode(["a bb", "a bb ccc dddd"], [0, 1])
    assert encoded.ids == [[1, 2, 0], [1, 2, 0]]
    assert encoded.truncated == 1


def test_empty_text_has_one_token() -> None:
    assert Encoder(Words(), max_length=3).encode([""], [0]).ids == [[0]]


def test_mask_hides_padding_and_nothing_else() -> None:
    encoded = Encoder(Words(), max_length=9).encode(["a b c", "a"], [1, 0])
    batch = build_batch(encoded, [0, 1], pad_id=99, device=torch.device("cpu"))
    assert batch.input_ids.tolist() == [[1, 1, 1, 0], [1, 0, 99, 99]]
    assert batch.attention_mask.tolist() == [[1, 1, 1, 1], [1, 1, 0, 0]]
    assert batch.classes.tolist() == [1, 0]


def test_texts_are_selected_in_the_order_that_is_asked() -> None:
    encoded = Encoder(Words(), max_length=9).encode(["a b c", "", "a", "aa bb"], [1, 0, 2, 3])
    texts, classes = upload(encoded, 0, torch.device("cpu")).select([3, 1, 0])
    assert texts.ids.tolist() == [2, 2, 0, 0, 1, 1, 1, 0]
    assert (texts.lengths, classes.tolist()) == ([3, 1, 4], [3, 0, 1])
    # As transformers finds them where the token at the end is the one of padding.
    assert texts.lasts == [1, 0, 2]


@pytest.mark.parametrize("batch_size", [1, 7, 1000])
def test_any_batch_size_covers_all_texts(batch_size: int) -> None:
    order = order_scoring(LENGTHS, batch_size)
    assert sorted(index for batch in order for index in batch) == list(range(len(LENGTHS)))


@pytest.mark.parametrize("max_tokens", [64, 100, 10_000])
def test_parts_of_a_batch_are_bounded_in_tokens_and_lose_nothing(max_tokens: int) -> None:
    indices = list(range(len(LENGTHS)))
    parts = list(split_batch(indices, LENGTHS, max_tokens))
    assert [index for part in parts for index in part] == indices
    assert all(len(part) * max(LENGTHS[i] for i in part) <= max_tokens for part in parts)


@pytest.mark.parametrize("max_tokens", [64, 100, 10_000])
def test_flat_parts_are_bounded_in_tokens_without_padding(max_tokens: int) -> None:
    indices = list(range(len(LENGTHS)))
    parts = list(split_batch(indices, LENGTHS, max_tokens, flat=True))
    assert [index for part in parts for index in part] == indices
    sizes = [sum(LENGTHS[i] for i in part) for part in parts]
    assert all(size <= max_tokens for size in sizes)
    # The next text would have been too much.
    following = [LENGTHS[part[0]] for part in parts[1:]]
    assert all(size + more > max_tokens for size, more in zip(sizes, following, strict=False))


def test_text_longer_than_the_bound_stands_alone() -> None:
    assert list(split_batch([0, 1, 2], [3, 30, 5], 8)) == [[0], [1], [2]]
