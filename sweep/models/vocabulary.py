"""Whether a tokenizer fits a model's table of embeddings, and which token pads."""

from collections.abc import Sequence
from typing import Any

from sweep.errors import ModelError, format_names

# Texts that every tokenizer of a language model has tokens for.
PROBES = ("a", "Hello, world")


def count_rows(model: Any) -> int:
    """Return how many tokens the model has embeddings for."""
    return int(model.get_input_embeddings().weight.shape[0])


def choose_padding(tokenizer: Any, rows: int, name: str) -> str:
    """Return the padding token: the tokenizer's own if the table of ``rows`` embeddings has it,
    else the end-of-text token; raise ModelError if the table has neither.

    Padding tokens that were added without a row are common, and so are tokenizers without one. The
    attention mask hides padding, so the choice changes no result.
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
        f"model {name}'s table of {rows} embeddings has no row for the tokenizer's {past}, but "
        f"texts are padded with one of these; name a token that has a row {remedy}"
    )


def check_vocabulary(tokenizer: Any, rows: int, name: str) -> None:
    """Raise ModelError if the tokenizer turns ordinary texts into no tokens, or into tokens beyond
    the model's table of ``rows`` embeddings.

    Special tokens beyond the table are allowed, because only a text that spells them out contains
    them: Gemma 3 has one for images.
    """
    ids = [tokenizer(text)["input_ids"] for text in PROBES]
    if not all(ids):
        raise ModelError(
            f"model {name}'s tokenizer knows no words (it has {len(tokenizer)} tokens); copy "
            "the tokenizer files of the model it was made from"
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
            f"beyond the model's table of {rows} embeddings: it is another model's, or tokens were "
            "added to it; copy the tokenizer that belongs to the weights, or resize the table "
            "(resize_token_embeddings) and save the model"
        )


def check_ids(tokenizer: Any, ids: Sequence[int], rows: int) -> None:
    """Raise ModelError if a text has token ``ids`` beyond the table of ``rows`` embeddings."""
    past = [number for number in ids if number >= rows]
    if past:
        token = tokenizer.convert_ids_to_tokens(past[0])
        raise ModelError(
            f"a text contains {token!r}, which the tokenizer reads as a special token without a "
            f"row in the model's table of {rows} embeddings; remove it from the data"
        )
