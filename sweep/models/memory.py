"""The memory that a trial needs, estimated from its model's shape."""

from dataclasses import dataclass

from sweep.models.shape import ModelShape, count_adapter, count_parameters

# Resident bytes per byte of kept activations on a CPU. The C allocator cannot return blocks freed
# between blocks that are kept; measured 1.7 (Gemma 3 270M) to 2.0 (a Llama of 135M).
CPU_ALLOCATOR = 1.85
# The same on a GPU, where PyTorch's allocator splits large blocks for reuse.
GPU_ALLOCATOR = 1.1
# Resident bytes of a worker with Ray, PyTorch, Transformers and PEFT, before any model.
CPU_PROCESS_BYTES = 650_000_000
# Bytes of a CUDA context with its kernels and cuBLAS workspace.
GPU_PROCESS_BYTES = 600_000_000
# Resident bytes per entry of a fast tokenizer's vocabulary; measured 1,200 to 1,300.
TOKENIZER_BYTES_PER_PIECE = 1200
# Float32 values per trainable parameter: weight, gradient, AdamW's two moments (Loshchilov and
# Hutter 2019, arXiv:1711.05101).
STATE_COPIES = 4
# Float32 values per trainable parameter in a checkpoint: weight, best weight, two moments.
SAVED_COPIES = 4


@dataclass(frozen=True)
class BatchSize:
    """What passes through the model at once, in tokens with padding: the largest part of a
    training step and of the largest scoring batch; and the sizes of what is trained."""

    train_tokens: int
    eval_tokens: int
    rank: int
    n_labels: int
    targets: tuple[str, ...] | None = None
    # Gradient checkpointing: blocks keep only their input and are recomputed in the backward pass.
    checkpointed: bool = False


def count_trainable(shape: ModelShape, batch: BatchSize) -> int:
    """Return the parameters of adapter and classification head."""
    return count_adapter(shape, batch.rank, batch.targets) + shape.hidden * batch.n_labels


def activation_values(shape: ModelShape, rank: int) -> int:
    """Return the values that one block keeps per token for the backward pass.

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


def activation_bytes(shape: ModelShape, rank: int, bytes_per_value: int) -> int:
    """Return the bytes that all blocks keep per token for the backward pass.

    In bfloat16, an RMS norm also keeps a float32 copy of its input and a rounded output. In float16
    this covers that blocks add up in float32 (autograd saved 0.8 to 0.93 of it).
    """
    values = activation_values(shape, rank) * bytes_per_value
    if bytes_per_value == 2 and shape.family != "gpt2":
        values += (24 if shape.family == "gemma3_text" else 12) * shape.hidden
    return shape.layers * values


def scoring_bytes(shape: ModelShape, bytes_per_value: int) -> int:
    """Return the bytes per token of scoring: the peak within one block, since nothing is kept."""
    widest = 4 * shape.hidden + 3 * shape.intermediate + shape.queries + 2 * shape.keys
    return widest * bytes_per_value


def estimate_memory(
    shape: ModelShape,
    batch: BatchSize,
    bytes_per_value: int,
    on_gpu: bool,
    parameters: int | None = None,
) -> int:
    """Return the peak bytes of one trial: what its process takes on a GPU, or the resident memory
    of its worker on a CPU.

    Base weights + process + trained state + the larger of training's and scoring's activations; on
    a CPU at least what loading takes, while weights are in memory both as stored and converted.
    """
    count = parameters or count_parameters(shape)
    weights = count * bytes_per_value
    process = GPU_PROCESS_BYTES if on_gpu else _cpu_process(shape)
    state = 4 * STATE_COPIES * count_trainable(shape, batch)
    kept = batch.train_tokens * _kept_bytes(shape, batch, bytes_per_value)
    passing = max(kept, batch.eval_tokens * scoring_bytes(shape, bytes_per_value))
    training = state + int(passing * (GPU_ALLOCATOR if on_gpu else CPU_ALLOCATOR))
    converted = shape.file_bytes_per_parameter != bytes_per_value
    loading = count * shape.file_bytes_per_parameter if converted and not on_gpu else 0
    return process + weights + max(training, loading)


def estimate_slot(shape: ModelShape, batch: BatchSize, bytes_per_value: int, on_gpu: bool) -> int:
    """Return the bytes that each trial adds to a pack: its trained state, its best weights, and
    the activations of its training step."""
    state = 4 * (STATE_COPIES + 1) * count_trainable(shape, batch)
    kept = batch.train_tokens * _kept_bytes(shape, batch, bytes_per_value)
    return state + int(kept * (GPU_ALLOCATOR if on_gpu else CPU_ALLOCATOR))


def _kept_bytes(shape: ModelShape, batch: BatchSize, bytes_per_value: int) -> int:
    """Return the bytes per token that are kept for the backward pass: all that autograd saves or,
    with gradient checkpointing (Chen et al. 2016, arXiv:1604.06174), the input of every block and
    everything in one."""
    total = activation_bytes(shape, batch.rank, bytes_per_value)
    if not batch.checkpointed:
        return total
    return shape.layers * shape.hidden * bytes_per_value + total // shape.layers


def _cpu_process(shape: ModelShape) -> int:
    return CPU_PROCESS_BYTES + TOKENIZER_BYTES_PER_PIECE * shape.vocabulary


def checkpoint_bytes(shape: ModelShape, batch: BatchSize) -> int:
    return 4 * SAVED_COPIES * count_trainable(shape, batch)
