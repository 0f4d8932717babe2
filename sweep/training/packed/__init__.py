"""The packed engine: many LoRA trials on one frozen base model, a step of each at a time.

Why
    Short texts leave a processor idle. A batch of 16 posts has about 300 tokens, and at that size
    most of a pass through the model is fixed cost: launching kernels, reading weights, running
    Python. A sweep has dozens of such trials on the same base model. They differ in rank, learning
    rate, labels, seed and order of texts, but not in the weights that are expensive.

Algorithm
    A *pack* is a frozen base model and the adapters and heads of its trials. Each trial has a
    *slot*, a row of *stacks*: float32 tensors (slots, width) for weights, gradients, AdamW's two
    moments and best weights. They are allocated once, for the largest rank and label count among
    the sweep's packed trials. A row holds the head, then one stretch per component of the rank,
    with a row of every layer's A and a column of every layer's B. So a trial of a lower rank uses a
    prefix of its row: that is what its optimizer updates and its checkpoint copies. The rest, which
    others in its pass may have, is zero; its gradient is exactly zero, so it stays zero.

    1. Start, in any thread. A trial takes a free slot, which no pass reads, and writes its first
       weights there: bit by bit those of PEFT, drawn by a generator of its own without touching the
       model, or what its checkpoint holds. Then it joins, between two steps; nothing is copied.
    2. Line up. Each trial brings its next batch, in its own order, in parts of at most
       ``max_batch_tokens``: its micro-batches.
    3. Group. Micro-batches of different trials share a pass until it is full. All tokens of a pass
       lie in one row, each slot's and each text's together, so there is no padding
       (`sweep.models.flat`). Models without a flat pass pad texts to a common width: there groups
       are filled widest first, until padding would cost more than another pass does.
    4. Pass. Every adapted layer computes ``base(X)`` once for all tokens, and adds
       ``s_k (X_k A_k^T) B_k^T`` for those of each slot k, at its own rank: by a product for each
       slot on a CPU, by kernels for groups of rows, or of padded ones, on a GPU (`products`), where
       layers of the same input pass as one, unless there is LoRA dropout (`joined`).
       Attention works inside each text, the last block at its last token alone. One backward pass
       of the sum of losses gives every slot its own gradient, because no weight that is trained is
       shared; layers add it to the stacks themselves, in the rows that took part.
    5. Step. Each slot's gradient is clipped by its own norm, and AdamW steps it with its own
       schedule, decay and step count. In float16 each slot's loss has its own scale, and a slot
       whose gradient overflows takes no step. Then trials that validate or test score their next
       texts, grouped in the same way.
    6. Read. Losses and predictions of a phase that is over are copied while the others go on: the
       training thread waits for a GPU only if there is nothing else to do.
    7. Repeat 2 to 6. A trial whose epoch is over waits until a thread of its own has written its
       checkpoint, straight from its slot, and is reported then; the others go on.

    When memory runs out, fewer tokens pass at once until a trial leaves; a trial that does not fit
    even alone fails alone, and those that have taken the step do not take it again. One that
    diverges ends alone too: NaN in a slot reaches no other slot.

Same as alone
    A slot sees the texts, order, masks, loss weights, clipping and schedule that its trial would
    see alone, and parts of a batch add up to its gradient. So with float32 and no dropout its
    curve is that of the solo engine up to the rounding of differently shaped products; tests hold
    it to that for four architectures, and let each engine resume the other's checkpoints. LoRA
    dropout draws masks from the trial's own seed, whoever shares the pack, but other masks than
    solo's. Dropout in the base model itself (GPT-2's) draws from one stream for all: there a curve
    depends on the company.

Memory
    base weights, once
    + 20 P bytes per slot, P = largest rank x sum of (inputs + outputs) of adapted layers
      + hidden x most labels (weight, gradient, two moments and best weights, 4 bytes each)
    + kept activations x tokens that pass at once: ``sweep.models.memory`` works it out, and how
      many slots fit follows from it.
    N processes take N times the base weights, and N times a process (0.65 GB on a CPU).

Time
    A step takes (passes x fixed cost) + (tokens x cost per token) + (one fused AdamW
    call per slot; on a GPU with Triton, one launch for all). N trials alone take N fixed costs at
    least; a pack takes one per group. The frozen base has no weight gradients either way, so a
    token costs two thirds of full training.

    Measured by ``python -m benchmarks.packs`` on one core of an AMD EPYC with AVX2, batches of 16
    texts, rank 8, in multiples of one trial alone, in packs of 2, 8 and 16: tiny Llama 1.6, 2.7,
    2.8; tiny GPT-2 1.4, 1.9, 2.0; tiny Gemma 3 1.4, 2.0, 2.0. A real model gains nothing there: its
    matrix products fill a core alone. No GPU has been measured. Short sweeps lose the gain to the
    start of their many actors. docs/benchmarks.md has all the numbers.

Alternatives
    A process per trial (``sweep.training.solo``, the default) shares nothing, starts fast, and
    adapts any layer that PEFT can. Punica (arXiv:2310.18547) and S-LoRA (arXiv:2311.03285) serve
    many adapters on one base model with CUDA kernels that pick out each request's adapter, made for
    inference on GPUs; here products have a backward pass and run anywhere, and adapters are a small
    part of a layer's work. mLoRA
    (arXiv:2312.02515) trains several adapters in one batch as here, and pipelines base models over
    several GPUs; here a base model fits its device.

Doors: `engine.PackedEngine`. Never imports Ray.
"""
