"""Whether a tokenizer and a model's table of embeddings go together, and which token pads."""

from collections.abc import Sequence
from typing import Any

from sweep.errors import ModelError, format_names

PROBES = ("a", "Hello, world")
"""Texts that every tokenizer of a language model knows tokens for."""


def count_rows(model: Any) -> int:
    """Return how many tokens the model has embeddings for."""
    return int(model.get_input_embeddings().weight.shape[0])


def choose_padding(tokenizer: Any, rows: int, name: str) -> str:
    """Return the token that pads: the tokenizer's own if the table of ``rows`` embeddings has it,
    else the one that ends a text; raise ModelError if the table has neither.

    A padding token that was added without a row of its own is common, and so is none at all. The
    attention mask hides padding, so which one it is changes no result.
    """
    candidates = [
        (tokenizer.pad_token, tokenizer.pad_token_id),
        (tokenizer.eos_token, tokenizer.eos_token_id),
    ]
    named = [(token, number) for token, number in candidates if number is not None]
    for token, number in named:
        if 0 <= number < rows:
            return str(token)
    remedy = "as eos_token in its tokenizer_config.json"
    if not named:
        raise ModelError(
            f"model {name}'s tokenizer has neither a pad nor an eos token; name "
            f"one of its tokens {remedy}"
        )
    past = " or ".join(f"{token} (id {number})" for token, number in named)
    raise ModelError(
        f"model {name}'s table of {rows} embeddings has no row for the tokenizer's {past}, and "
        f"texts are padded with one of these; name a token that has a row {remedy}"
    )


def check_vocabulary(tokenizer: Any, rows: int, name: str) -> None:
    """Raise ModelError if the tokenizer gives ordinary texts no tokens, or tokens that the model's
    table of ``rows`` embeddings does not have.

    Special tokens past the table, which only a text that spells them out contains, are let pass:
    Gemma 3 has such a one for images.
    """
    ids = [tokenizer(text)["input_ids"] for text in PROBES]
    if not all(ids):
        raise ModelError(
            f"model {name}'s tokenizer knows no words (it has {len(tokenizer)} tokens); copy "
            "the tokenizer's files of the model that it was made from"
        )
    table = tokenizer.get_vocab()
    added = getattr(tokenizer, "added_tokens_decoder", {}).values()
    special = {str(token) for token in added if token.special} | {*tokenizer.all_special_tokens}
    special -= {token for token, number in table.items() if any(number in each for each in ids)}
    past = sorted((number, token) for token, number in table.items() if number >= rows)
    wrong = [token for _, token in past if token not in special]
    if wrong:
        raise ModelError(
            f"model {name}'s tokenizer has {len(wrong)} tokens (such as {format_names(wrong[:2])}) "
            f"past the model's table of {rows} embeddings: it is another model's, or tokens were "
            "added to it; copy the tokenizer that belongs to the weights, or resize the table "
            "(resize_token_embeddings) and save the model"
        )


def check_ids(tokenizer: Any, ids: Sequence[int], rows: int) -> None:
    """Raise ModelError if a text's token ``ids`` lie past the table of ``rows`` embeddings."""
    past = [number for number in ids if number >= rows]
    if past:
        token = tokenizer.convert_ids_to_tokens(past[0])
        raise ModelError(
            f"a text holds {token!r}, which the tokenizer takes for a special token that the "
            f"model's table of {rows} embeddings has no row for; take it out of the data"
        )
