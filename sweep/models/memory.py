"""The memory that one trial needs, worked out from its model's shape."""

from dataclasses import dataclass

from sweep.models.shape import ModelShape, count_adapter, count_parameters

CPU_ALLOCATOR = 1.85
"""Resident bytes per byte of kept activations on a CPU. The C allocator cannot give back blocks
freed between blocks that are kept; measured 1.7 (Gemma 3 270M) to 2.0 (a Llama of 135M)."""
GPU_ALLOCATOR = 1.1
"""The same on a GPU, whose allocator (PyTorch's) splits large blocks for reuse."""
CPU_PROCESS_BYTES = 650_000_000
"""Resident bytes of a worker with Ray, PyTorch, Transformers and PEFT before any model."""
GPU_PROCESS_BYTES = 600_000_000
"""A CUDA context with its kernels and cuBLAS workspace."""
TOKENIZER_BYTES_PER_PIECE = 1200
"""Resident bytes per entry of a fast tokenizer's vocabulary; measured 1,200 to 1,300."""
STATE_COPIES = 4
"""Float32 values per trained parameter: weight, gradient, AdamW's two moments
(Loshchilov and Hutter 2019, arXiv:1711.05101)."""
SAVED_COPIES = 4
"""Float32 values per trained parameter in a checkpoint: weight, best weight, two moments."""


@dataclass(frozen=True)
class BatchSize:
    """What passes through the model at once: padded tokens of the largest training step's part
    and of the largest scoring batch, and the sizes of what is trained."""

    train_tokens: int
    eval_tokens: int
    rank: int
    n_labels: int
    targets: tuple[str, ...] | None = None
    checkpointed: bool = False
    """Whether blocks keep only their input and are computed again in the backward pass."""


def count_trainable(shape: ModelShape, load: BatchSize) -> int:
    """Return the parameters that a trial trains: adapter and classification head."""
    return count_adapter(shape, load.rank, load.targets) + shape.hidden * load.n_labels


def activation_values(shape: ModelShape, rank: int) -> int:
    """Return the values that one block keeps per token for the backward pass.

    Frozen weights need no gradient, so a linear layer keeps its input only for its adapter, and
    attention (fused) keeps queries, keys, values and output, not the matrix of scores. Where a
    CPU attends by plain products (``device.choose_attention``), the scores that it keeps besides,
    heads times tokens of a text, are not counted. Counted
    from the tensors that autograd saves in each family: norm inputs and outputs at width
    ``hidden``; four values of the feed-forward's width (five in GPT-2's unfused GELU); ``rank``
    values per adapter.
    """
    h, i, q, k = shape.hidden, shape.intermediate, shape.queries, shape.keys
    adapters = rank * len(shape.linears)
    if shape.family == "gpt2":
        return 9 * h + 5 * i + adapters
    if shape.family == "gemma3_text":
        return 6 * h + 3 * q + 3 * k + 4 * i + adapters
    return 4 * h + 2 * q + 2 * k + 4 * i + adapters


def activation_bytes(shape: ModelShape, rank: int, bytes_per_value: int) -> int:
    """Return the bytes that all blocks keep per token.

    In bfloat16, an RMS norm still keeps a float32 copy of its input and a rounded output.
    """
    values = activation_values(shape, rank) * bytes_per_value
    if bytes_per_value == 2 and shape.family != "gpt2":
        values += (24 if shape.family == "gemma3_text" else 12) * shape.hidden
    return shape.layers * values


def scoring_bytes(shape: ModelShape, bytes_per_value: int) -> int:
    """Return the bytes per token of scoring: one block's widest moment, nothing is kept."""
    widest = 4 * shape.hidden + 3 * shape.intermediate + shape.queries + 2 * shape.keys
    return widest * bytes_per_value


def estimate_memory(
    shape: ModelShape,
    load: BatchSize,
    bytes_per_value: int,
    on_gpu: bool,
    parameters: int | None = None,
) -> int:
    """Return the peak bytes of one trial: on a GPU what its process takes there, on a CPU the
    resident memory of its worker.

    Base weights + process + trained state + the larger of training's kept activations and
    scoring's; on a CPU no less than loading takes, when the file's weights lie beside the
    converted ones.
    """
    count = parameters or count_parameters(shape)
    weights = count * bytes_per_value
    process = GPU_PROCESS_BYTES if on_gpu else _cpu_process(shape)
    state = 4 * STATE_COPIES * count_trainable(shape, load)
    kept = load.train_tokens * _kept_bytes(shape, load, bytes_per_value)
    passing = max(kept, load.eval_tokens * scoring_bytes(shape, bytes_per_value))
    training = state + int(passing * (GPU_ALLOCATOR if on_gpu else CPU_ALLOCATOR))
    converted = shape.file_bytes_per_parameter != bytes_per_value
    loading = count * shape.file_bytes_per_parameter if converted and not on_gpu else 0
    return process + weights + max(training, loading)


def estimate_slot(shape: ModelShape, load: BatchSize, bytes_per_value: int, on_gpu: bool) -> int:
    """Return the bytes that one more trial of a pack takes: its trained state with its best
    weights, and the activations of its training step."""
    state = 4 * (STATE_COPIES + 1) * count_trainable(shape, load)
    kept = load.train_tokens * _kept_bytes(shape, load, bytes_per_value)
    return state + int(kept * (GPU_ALLOCATOR if on_gpu else CPU_ALLOCATOR))


def _kept_bytes(shape: ModelShape, load: BatchSize, bytes_per_value: int) -> int:
    """Return the bytes per token that wait for the backward pass: all that autograd saves or,
    with gradient checkpointing (Chen et al. 2016, arXiv:1604.06174), each block's input and one
    block's whole."""
    whole = activation_bytes(shape, load.rank, bytes_per_value)
    if not load.checkpointed:
        return whole
    return shape.layers * shape.hidden * bytes_per_value + whole // shape.layers


def _cpu_process(shape: ModelShape) -> int:
    return CPU_PROCESS_BYTES + TOKENIZER_BYTES_PER_PIECE * shape.vocabulary


def checkpoint_bytes(shape: ModelShape, load: BatchSize) -> int:
    """Return the bytes of one checkpoint of a trial."""
    return 4 * SAVED_COPIES * count_trainable(shape, load)
