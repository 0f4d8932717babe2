"""The memory that a contender's trials need, and the size of their checkpoints."""

from sweep.models.facts import ModelFacts, TrialLoad
from sweep.storage.forecast import PackBytes

# Resident bytes per byte of kept activations on a CPU. The C allocator cannot return blocks freed
# between blocks that are kept; measured 1.7 (Gemma 3 270M) to 2.0 (a Llama of 135M).
CPU_ALLOCATOR = 1.85
# The same on a GPU, where PyTorch's allocator splits large blocks for reuse.
GPU_ALLOCATOR = 1.1
# Resident bytes of a worker with Ray, PyTorch, Transformers and PEFT, before any model.
CPU_PROCESS_BYTES = 650_000_000
# Bytes of a CUDA context with its kernels and cuBLAS workspace.
GPU_PROCESS_BYTES = 600_000_000
# Resident bytes of a worker that uses a GPU, before any model: those of one that does not, and what
# CUDA's driver and libraries take beside it. Assumed: no GPU has been measured.
GPU_WORKER_BYTES = CPU_PROCESS_BYTES + 1_000_000_000
# Resident bytes of the actor of a trial that a host trains: Ray and Tune, without PyTorch.
ACTOR_BYTES = 190_000_000
# Resident bytes per entry of a fast tokenizer's vocabulary; measured 1,200 to 1,300.
TOKENIZER_BYTES_PER_PIECE = 1200
# Float32 values per trained parameter: gradient, AdamW's two moments (Loshchilov and Hutter 2019,
# arXiv:1711.05101), and the parameter itself where adapters train or its best value where the
# weights do.
STATE_COPIES = 4
STATE_BYTES = 4 * STATE_COPIES
# Float32 values per trained parameter in a checkpoint of a trial that goes on: value, best value,
# two moments. One that has finished keeps the best value.
SAVED_COPIES = 4


def estimate_memory(facts: ModelFacts, load: TrialLoad) -> int:
    """Return the peak bytes of one trial: what its process takes on a GPU, or the resident memory
    of its worker on a CPU.

    Base weights + process + trained state + the larger of training's and scoring's activations; on
    a CPU at least what loading takes, while weights are in memory both as stored and converted.
    """
    process = GPU_PROCESS_BYTES if load.on_gpu else _cpu_process(facts)
    state = STATE_BYTES * facts.trained + load.bytes_per_value * facts.cast
    kept = load.train_tokens * _kept_bytes(facts, load)
    passing = max(kept, load.eval_tokens * facts.scoring_bytes)
    training = state + passing * (GPU_ALLOCATOR if load.on_gpu else CPU_ALLOCATOR)
    held, loading = _weight_bytes(facts, load)
    return int(process + held + max(training, loading))


def _weight_bytes(facts: ModelFacts, load: TrialLoad) -> tuple[float, float]:
    """Return the bytes of the base model's weights, and what loading them takes in addition."""
    count = facts.parameters + facts.unused
    # Trained weights are float32, and the CPU keeps what they were before.
    width = 4 if load.method == "full" else load.bytes_per_value
    original = facts.parameters * facts.stored_bytes if load.method == "full" else 0.0
    converts = not load.on_gpu and facts.stored_bytes != width
    return (
        count * width + (0.0 if load.on_gpu else original),
        count * facts.stored_bytes if converts else 0.0,
    )


def estimate_pack(facts: ModelFacts, load: TrialLoad) -> PackBytes:
    """Return what a host of trials on one base model takes.

    Each slot has room for the largest rank and number of labels, from the start: weights,
    gradients, two moments and best weights. Activations are those of one pass, which holds batches
    of several trials but never more than ``load.pass_tokens``.
    """
    kept, factor = _kept_bytes(facts, load), GPU_ALLOCATOR if load.on_gpu else CPU_ALLOCATOR
    batch = max(load.train_tokens * kept, load.eval_tokens * facts.scoring_bytes)
    largest = max(batch, load.pass_tokens * max(kept, facts.scoring_bytes))
    process = GPU_PROCESS_BYTES if load.on_gpu else _cpu_process(facts)
    return PackBytes(
        base=int(process + _weight_bytes(facts, load)[0]),
        slot=4 * (STATE_COPIES + 1) * facts.trained,
        batch=int(batch * factor),
        largest_pass=int(largest * factor),
    )


def estimate_worker(facts: ModelFacts, load: TrialLoad) -> int:
    """Return the resident bytes of a process that trains on a GPU: its libraries and tokenizer,
    what the weights were before all of them are trained, and the larger of what it loads, on its
    way to the GPU, and a checkpoint on its way to the disk."""
    process = GPU_WORKER_BYTES + TOKENIZER_BYTES_PER_PIECE * facts.vocabulary
    width = max(facts.stored_bytes, 4 if load.dtype == "float32" else 0)
    loading = (facts.parameters + facts.unused) * width
    original = facts.parameters * width if load.method == "full" else 0
    return int(process + original + max(loading, checkpoint_bytes(facts)))


def _kept_bytes(facts: ModelFacts, load: TrialLoad) -> float:
    """Return the bytes per token that are kept for the backward pass: all that autograd saves or,
    with gradient checkpointing (Chen et al. 2016, arXiv:1604.06174), the input of every block and
    everything in one."""
    if not load.checkpointed:
        return facts.kept_bytes
    inputs = facts.layers * facts.hidden * load.bytes_per_value
    return inputs + facts.kept_bytes / facts.layers


def _cpu_process(facts: ModelFacts) -> int:
    return CPU_PROCESS_BYTES + TOKENIZER_BYTES_PER_PIECE * facts.vocabulary


def checkpoint_bytes(facts: ModelFacts) -> int:
    """Return the bytes of the largest checkpoint of a trial that goes on."""
    return 4 * SAVED_COPIES * facts.trained


def result_bytes(facts: ModelFacts) -> int:
    """Return the bytes of the checkpoint of a trial that has finished."""
    return 4 * facts.trained
