"""What a known decoder family's trials take, derived from its shape without loading it. An unknown
family with the usual names is assumed to be like Llama."""

from sweep.models.facts import ModelFacts, TrialLoad
from sweep.models.shape import (
    FAMILIES,
    ModelShape,
    count_adapter,
    count_blocks,
    count_embeddings,
    count_parameters,
)

# The layers of the last block that every token passes through where ``flat`` has a pass.
ALL_TOKEN_LAYERS = ("k_proj", "v_proj", "c_attn")
# Share of a float32 pass's activations that autocast keeps: much stays float32, and the rest is
# often kept in both formats. Measured 0.68 for a Llama.
AUTOCAST_SHARE = 0.7


def derive_facts(shape: ModelShape, load: TrialLoad, parameters: int | None = None) -> ModelFacts:
    """Return what ``shape`` says; ``parameters`` replaces its own count of the base model's."""
    count = parameters or count_parameters(shape)
    full = load.method == "full"
    trained = count_trainable(shape, load, count)
    kept = activation_bytes(shape, load.rank, load.dtype, load.on_gpu)
    return ModelFacts(
        parameters=count,
        unused=0,
        trained=trained,
        layers=shape.layers,
        hidden=shape.hidden,
        vocabulary=shape.vocabulary,
        positions=shape.positions,
        training_flops=training_flops(shape, load),
        scoring_flops=scoring_flops(shape, load),
        kept_bytes=full_activation_bytes(shape, load.bytes_per_value) if full else kept,
        scoring_bytes=scoring_bytes(shape, load),
        cast=count - count_embeddings(shape) if full and load.bytes_per_value < 4 else 0,
        stored_bytes=shape.file_bytes_per_parameter,
        packable=shape.family in FAMILIES and not full,
        flat=shape.family in FAMILIES,
    )


def count_trainable(shape: ModelShape, load: TrialLoad, parameters: int | None = None) -> int:
    """Return the parameters of the classification head and of the adapter, or of all the rest."""
    head = shape.hidden * load.n_labels
    if load.method == "full":
        return head + (parameters or count_parameters(shape))
    return head + count_adapter(shape, load.rank, load.targets)


def activation_values(shape: ModelShape, rank: int) -> int:
    """Return the values that one block keeps per token for the backward pass of LoRA.

    Frozen weights need no gradient, so a linear layer keeps its input only for its adapter, and
    fused attention keeps queries, keys, values and output, but not the matrix of scores. The counts
    are those of the tensors that autograd saves in each family: inputs and outputs of norms, of
    width ``hidden``; four values of the feed-forward's width (five in GPT-2's unfused GELU);
    ``rank`` values per adapter. Not counted: where a CPU uses eager attention
    (``device.choose_attention``), it also keeps the scores, heads x tokens of a text.
    """
    h, i, q, k = shape.hidden, shape.intermediate, shape.queries, shape.keys
    adapters = rank * len(shape.linears)
    if shape.family == "gpt2":
        return 9 * h + 5 * i + adapters
    if shape.family == "gemma3_text":
        return 6 * h + 3 * q + 3 * k + 4 * i + adapters
    return 4 * h + 2 * q + 2 * k + 4 * i + adapters


def activation_bytes(shape: ModelShape, rank: int, dtype: str, on_gpu: bool) -> int:
    """Return the bytes that all blocks keep per token for the backward pass of LoRA in the number
    format ``dtype``."""
    values = activation_values(shape, rank)
    if dtype == "float32":
        return 4 * shape.layers * values
    wide = _wide_bytes_on_gpu(shape, dtype) if on_gpu else _wide_bytes_on_cpu(shape)
    return shape.layers * (2 * values + wide)


def _wide_bytes_on_cpu(shape: ModelShape) -> int:
    """Return what a block keeps per token in a pass in 16 bits beside 16-bit values.

    On a CPU in bfloat16 these are the scores of eager attention, at up to some dozens of tokens a
    text; in float16 blocks add up in float32 (autograd saved 0.8 to 0.93 of this). GPT-2's norms
    and its feed-forward stay in 16 bits.
    """
    if shape.family == "gpt2":
        return 0
    return (24 if shape.family == "gemma3_text" else 12) * shape.hidden


def _wide_bytes_on_gpu(shape: ModelShape, dtype: str) -> int:
    """Return the same on a GPU. There autocast computes ``layer_norm`` and ``pow`` in float32
    (ATen/autocast_mode.h), hence GPT-2's norms and its GELU: their inputs are kept in float32, and
    so are three values of the feed-forward's width."""
    if shape.family == "gpt2":
        return 3 * shape.hidden + 6 * shape.intermediate
    # In float16, blocks add up in float32.
    return 8 * shape.hidden if dtype == "float16" else 0


def full_activation_bytes(shape: ModelShape, bytes_per_value: int) -> float:
    """Return the same where all weights are trained: an RMS norm, not fused, also keeps its input
    divided by its norm, for the gradient of its weight."""
    norms = {"gpt2": 0, "gemma3_text": 4 * shape.hidden + shape.queries + shape.keys}
    values = activation_values(shape, 0) + norms.get(shape.family, 2 * shape.hidden)
    return 4 * shape.layers * values * (1.0 if bytes_per_value == 4 else AUTOCAST_SHARE)


def scoring_bytes(shape: ModelShape, load: TrialLoad) -> int:
    """Return the bytes per token of scoring: the peak within one block, since nothing is kept."""
    widest = 4 * shape.hidden + 3 * shape.intermediate + shape.queries + 2 * shape.keys
    if load.on_gpu and load.bytes_per_value == 2 and shape.family == "gpt2":
        return 3 * widest  # half of it in float32
    return widest * load.bytes_per_value


def training_flops(shape: ModelShape, load: TrialLoad) -> float:
    """Return the floating-point operations per token of a training step.

    Two per parameter and pass (Kaplan et al. 2020, arXiv:2001.08361): a frozen weight is used in
    the forward pass and in the gradient of its input, a trained one also in its own gradient. The
    embedding table is looked up, not multiplied. Attention scores are ignored: at 64 tokens they
    are below 1 % of the rest.
    """
    if load.method == "full":
        return 6.0 * count_blocks(shape) * worked_share(shape)
    return (4.0 * count_blocks(shape) + 6.0 * count_trainable(shape, load)) * worked_share(shape)


def scoring_flops(shape: ModelShape, load: TrialLoad) -> float:
    """Return the floating-point operations per token of scoring a text."""
    adapter = 0 if load.method == "full" else count_trainable(shape, load)
    return 2.0 * (count_blocks(shape) + adapter) * worked_share(shape)


def worked_share(shape: ModelShape) -> float:
    """Return the fraction of the blocks' parameters that every token passes through: in the last
    block of some architectures, only keys and values. The rest processes one token per text, which
    is ignored."""
    if shape.family not in FAMILIES:
        return 1.0
    block = {name: inputs * outputs for name, (inputs, outputs) in shape.linears.items()}
    passed = sum(size for name, size in block.items() if name.endswith(ALL_TOKEN_LAYERS))
    return (shape.layers - 1 + passed / sum(block.values())) / shape.layers
