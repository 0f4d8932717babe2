"""What is tuned: for all contenders, and differently for some."""

from typing import Annotated, Literal, TypeVar

from pydantic import Field, model_validator

from sweep.config.search_space import Space, read_space
from sweep.config.section import Section
from sweep.config.types import Count, PositiveInt, TuneSpace, describe_space

Method = Literal["lora", "full"]

# Larger than any layer of the models that a sweep can train.
MAX_RANK = MAX_RATIO = 65_536
# Far beyond any use, and well within what the journal accepts.
MAX_RATE = MAX_NORM = 1e12

# What only adapters have.
LORA_KEYS = ("lora_rank", "lora_alpha_ratio", "lora_dropout")

# Peak learning rates if the configuration names none. Adapters want about ten times the rates of
# full fine-tuning (Biderman et al. 2024, arXiv:2405.09673; Schulman et al. 2025, "LoRA Without
# Regret"). All weights: 2e-5 to 5e-5 for BERT (Devlin et al. 2019, arXiv:1810.04805), up to 3e-4
# for smaller encoders (Turc et al. 2019, arXiv:1908.08962).
RATES: dict[Method, Space] = {
    "lora": read_space({"loguniform": [5e-5, 2e-3]}),
    "full": read_space({"loguniform": [2e-5, 3e-4]}),
}

Candidates = Annotated[PositiveInt, Field(le=10_000)]
Rank = Annotated[TuneSpace, describe_space("integer", minimum=1, maximum=MAX_RANK)]
Rate = Annotated[TuneSpace, describe_space(exclusiveMinimum=0, maximum=MAX_RATE)]
Ratio = Annotated[TuneSpace, describe_space(exclusiveMinimum=0, maximum=MAX_RATIO)]
Dropout = Annotated[TuneSpace, describe_space(minimum=0, exclusiveMaximum=1)]
Decay = Annotated[TuneSpace, describe_space(minimum=0, maximum=MAX_RATE)]


# Either section with search spaces.
Tuned = TypeVar("Tuned", "TuneOverrides", "TuneConfig")


def check_spaces(tune: Tuned) -> Tuned:
    """Return ``tune``; raise ValueError with one sentence if a space holds values that cannot be
    used."""
    rank, rate, ratio = tune.lora_rank, tune.learning_rate, tune.lora_alpha_ratio
    dropout, decay = tune.lora_dropout, tune.weight_decay
    if rank and (not rank.is_whole or rank.low < 1):
        raise ValueError("lora_rank takes integers from 1 up")
    if (rank and rank.high > MAX_RANK) or (ratio and ratio.high > MAX_RATIO):
        raise ValueError(
            f"lora_rank goes up to {MAX_RANK} and lora_alpha_ratio to {MAX_RATIO}; lower it"
        )
    if any(space and space.high > MAX_RATE for space in (rate, decay)):
        raise ValueError(
            f"learning_rate and weight_decay go up to {MAX_RATE:g}; write a smaller number"
        )
    if rate and rate.low <= 0:
        raise ValueError("learning_rate must be above 0")
    if ratio and ratio.low <= 0:
        raise ValueError("lora_alpha_ratio must be above 0")
    if dropout and (dropout.low < 0 or dropout.high >= 1):
        raise ValueError("lora_dropout must lie in [0, 1)")
    if decay and decay.low < 0:
        raise ValueError("weight_decay must not be below 0")
    return tune


class TuneOverrides(Section):
    """What is tuned differently for one contender; a key that is null is that of ``tune``."""

    candidates: Candidates | None = None
    """How many candidates compete in each of its cells."""
    learning_rate: Rate | None = None
    """Peak learning rate of AdamW, after the warmup."""
    weight_decay: Decay | None = None
    """AdamW's weight decay."""
    lora_rank: Rank | None = None
    """Rank of the LoRA adapters: an integer or a list of them."""
    lora_alpha_ratio: Ratio | None = None
    """LoRA's alpha divided by its rank."""
    lora_dropout: Dropout | None = None
    """Dropout on the adapters' inputs."""

    _bounds = model_validator(mode="after")(check_spaces)


class TuneConfig(Section):
    """What is tuned in each cell: the candidates are drawn from these search spaces."""

    candidates: Candidates = 8
    """How many candidates compete in each cell; every cell of a contender gets the same ones."""
    lora_rank: Rank = read_space([4, 8, 16, 32])
    """Rank of the LoRA adapters: an integer or a list of them."""
    learning_rate: Rate | None = None
    """Peak learning rate of AdamW, after the warmup; null: what suits the method, ``{loguniform:
    [5e-5, 2e-3]}`` for LoRA and ``{loguniform: [2e-5, 3e-4]}`` for full fine-tuning."""
    lora_alpha_ratio: Ratio = read_space(2.0)
    """LoRA's alpha divided by its rank: the factor that scales the adapter's output."""
    lora_dropout: Dropout = read_space(0.0)
    """Dropout on the adapters' inputs."""
    weight_decay: Decay = read_space(0.01)
    """AdamW's weight decay."""
    seed: Count = 0
    """Seed for drawing the candidates."""

    _bounds = model_validator(mode="after")(check_spaces)


def name_spaces(tune: TuneConfig, method: Method, own: TuneOverrides) -> dict[str, Space]:
    """Return what may be tuned for a contender, by name; its candidates are drawn from the product
    of these. Its ``own`` overrides come first, then ``tune``, then what suits the ``method``."""
    rate = own.learning_rate or tune.learning_rate or RATES[method]
    decay = own.weight_decay or tune.weight_decay
    if method == "full":
        return {"learning_rate": rate, "weight_decay": decay}
    return {
        "lora_rank": own.lora_rank or tune.lora_rank,
        "learning_rate": rate,
        "lora_alpha_ratio": own.lora_alpha_ratio or tune.lora_alpha_ratio,
        "lora_dropout": own.lora_dropout or tune.lora_dropout,
        "weight_decay": decay,
    }


def count_candidates(tune: TuneConfig, own: TuneOverrides) -> int:
    """Return how many candidates compete in each cell of a contender."""
    return own.candidates or tune.candidates
