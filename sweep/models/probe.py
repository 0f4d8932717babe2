"""What a classifier of any architecture takes, measured on PyTorch's meta device, where tensors
have shapes and no values: by a pass of the largest scoring batch, and one of the largest part of a
training step."""

import weakref
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import torch
from peft import get_peft_model
from peft.tuners.lora import LoraLayer
from torch import nn
from torch.autograd.graph import saved_tensors_hooks
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import FlopCounterMode
from transformers import PreTrainedModel

from sweep.models.base import Base, find_unused
from sweep.models.facts import ModelFacts, TrialLoad
from sweep.models.fused import FastLinear, speed_up
from sweep.models.heads import MARKED_LABELS, Parts, gives_logits, is_of_head, is_plain
from sweep.models.meta_pass import MetaPass, choose_pass
from sweep.models.methods import build_lora_config
from sweep.models.shape import read_positions
from sweep.models.vocabulary import count_rows
from sweep.plan import LoraSettings, ModelRef


def probe(model: PreTrainedModel, head: Parts, load: TrialLoad, stored_bytes: float) -> ModelFacts:
    """Return what the largest trial takes of ``model``, which is on the meta device, and to which
    this attaches what training does.

    Raises whatever the model's modules raise if they cannot work without values.
    """
    text = model.config.get_text_config()
    if text.pad_token_id is None:
        text.pad_token_id = model.config.pad_token_id = 0
    limit = read_positions(text.to_dict())
    run = choose_pass(model, replace(load, longest=min(load.longest, limit or load.longest)))
    unused = find_unused(model, lambda: run(1, run.load.longest))
    used, left_out = _count_base(model, head, unused)
    positions = find_positions(model, run, limit)
    flops, peak = measure_scoring(model, run)
    full = load.method == "full"
    layers = _unfreeze(model, unused) if full else _adapt(model, head, unused, load)
    kept, cast, products = measure_training(model, run, layers)
    return ModelFacts(
        parameters=used,
        unused=left_out,
        trained=count_head(head, load.n_labels) + (used if full else _count_adapter(layers)),
        layers=_count_layers(model),
        hidden=int(text.hidden_size),
        vocabulary=count_rows(model),
        positions=positions,
        # Each pass multiplies once: forward, for the gradients of inputs, and for those of what is
        # trained.
        training_flops=3 * flops if full else 2 * flops + 6 * products,
        scoring_flops=flops + 2 * products,
        kept_bytes=kept,
        scoring_bytes=peak,
        cast=cast,
        stored_bytes=stored_bytes,
        packable=not full and is_plain(head) and all(type(x) is FastLinear for x in layers),
        checkpointable=bool(model.supports_gradient_checkpointing),
        flat=run.flat,
    )


def _count_base(
    model: PreTrainedModel, head: Collection[str], unused: Collection[str]
) -> tuple[int, int]:
    """Return the parameters of the base model that texts pass through, and of the rest."""
    base = [(key, p.numel()) for key, p in model.named_parameters() if not is_of_head(key, head)]
    left_out = sum(count for key, count in base if is_of_head(key, unused))
    return sum(count for _, count in base) - left_out, left_out


def count_head(head: Parts, n_labels: int) -> int:
    """Return the parameters of a head with ``n_labels`` outputs instead of `MARKED_LABELS`."""
    layers = [layer for part in head.values() for layer in part.modules()]
    sizes = [(layer, sum(p.numel() for p in layer.parameters(recurse=False))) for layer in layers]
    return sum(
        size // MARKED_LABELS * n_labels if gives_logits(layer) else size for layer, size in sizes
    )


def _count_layers(model: PreTrainedModel) -> int:
    known = getattr(model.config.get_text_config(), "num_hidden_layers", None)
    stacks = [len(module) for module in model.modules() if isinstance(module, nn.ModuleList)]
    return int(known or max(stacks, default=1))


def find_positions(model: PreTrainedModel, run: MetaPass, limit: int | None) -> int | None:
    """Return the most tokens of a text: the rows of the table of positions that texts reach or,
    without a table, the ``limit`` in config.json.

    Some tables begin with rows for padding: in RoBERTa, positions start past the padding token's
    id, in OPT at an ``offset``.
    """
    tables: list[nn.Embedding] = []
    with _hooks(model, nn.Embedding, lambda table, _: tables.append(table)):
        run(1, run.load.longest)
    words = model.get_input_embeddings()
    rows = [(x.num_embeddings, _count_skipped(x)) for x in tables if x is not words]
    found = [size - skipped for size, skipped in rows if limit in (size, size - skipped)]
    return min(found, default=limit)


def _count_skipped(table: nn.Embedding) -> int:
    padding = table.padding_idx
    return int(getattr(table, "offset", 0 if padding is None else padding + 1))


@torch.no_grad()
def measure_scoring(model: PreTrainedModel, run: MetaPass) -> tuple[float, float]:
    """Return the operations and the peak bytes of scoring, both per token."""
    texts, tokens = run.load.eval_texts, run.load.longest
    model.eval()
    with _PeakMeter(_list_weights(model)) as meter, FlopCounterMode(display=False) as counter:
        done = run(texts, tokens)
    flops = counter.get_total_flops() + done.attention_flops
    copies = sum(copy.nbytes for copy in done.copies.values())
    return flops / (texts * tokens), (meter.peak - copies) / (texts * tokens)


def measure_training(
    model: PreTrainedModel, run: MetaPass, layers: Collection[LoraLayer]
) -> tuple[float, int, float]:
    """Return the bytes per token that autograd keeps of a pass, the parameters that it copies in
    another number format, and the multiplications per token in the adapters of ``layers``."""
    texts, tokens = run.load.train_texts, run.load.longest
    kept: dict[int, torch.UntypedStorage] = {}

    def keep(tensor: torch.Tensor) -> torch.Tensor:
        storage = tensor.untyped_storage()
        kept[storage._cdata] = storage
        return tensor

    products: list[float] = []
    model.train()
    with (
        saved_tensors_hooks(keep, lambda tensor: tensor),
        _hooks(model, LoraLayer, lambda layer, args: products.append(_multiply(layer, args[0]))),
    ):
        done = run(texts, tokens)
    copies = [copy.untyped_storage()._cdata for copy in done.copies.values()]
    for known in (*_list_weights(model), *copies):
        kept.pop(known, None)
    size = sum(storage.nbytes() for storage in kept.values())
    cast = sum(parameter.numel() for parameter in done.copies)
    return size / (texts * tokens), cast, sum(products) / (texts * tokens)


def _unfreeze(model: PreTrainedModel, unused: Collection[str]) -> list[LoraLayer]:
    """Have all weights trained, as `methods.unfreeze` does; no layer has an adapter."""
    model.requires_grad_(True)
    for path in unused:
        model.get_submodule(path).requires_grad_(False)
    return []


def _adapt(
    model: PreTrainedModel, head: Parts, unused: tuple[str, ...], load: TrialLoad
) -> list[LoraLayer]:
    """Attach an adapter, as `methods.attach_adapter` does; return the layers that have one."""
    # Without the parts that nothing here looks at.
    base = Base(
        ref=ModelRef("", "", "", target_modules=load.targets),
        model=model,
        tokenizer=None,  # type: ignore[arg-type]
        dtype=model.dtype,
        device=model.device,
        forward=None,  # type: ignore[arg-type]
        head=dict(head),
        names={},
        unused=unused,
    )
    config = build_lora_config(base, LoraSettings(load.rank, 1.0, load.dropout))
    adapted = get_peft_model(model, config, low_cpu_mem_usage=True)
    speed_up(adapted)  # type: ignore[arg-type]
    for parameter in adapted.parameters():
        if parameter.requires_grad:
            parameter.data = parameter.data.float()
    return [module for module in adapted.modules() if isinstance(module, LoraLayer)]


def _count_adapter(layers: Iterable[Any]) -> int:
    return sum(p.numel() for layer in layers for p in layer.parameters() if p.requires_grad)


def _multiply(layer: Any, x: torch.Tensor) -> float:
    """Return the multiplications of an adapter's pass of ``x`` (..., inputs)."""
    (rank,) = layer.r.values()
    return float(x.numel() / layer.in_features * rank * (layer.in_features + layer.out_features))


def _list_weights(model: nn.Module) -> set[int]:
    """Return the identities of the storages of weights and buffers."""
    tensors = [*model.parameters(), *model.buffers()]
    return {tensor.untyped_storage()._cdata for tensor in tensors}


@contextmanager
def _hooks(
    model: nn.Module, kind: type[nn.Module], hook: Callable[[Any, Any], None]
) -> Iterator[None]:
    """Call ``hook`` with every module of ``kind`` that is called meanwhile, and its arguments."""
    handles = [
        module.register_forward_pre_hook(hook)
        for module in model.modules()
        if isinstance(module, kind)
    ]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


class _PeakMeter(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Measures the peak bytes of the tensors that operations create while it is entered, except of
    storages in ``ignored``."""

    def __init__(self, ignored: set[int]) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._ignored = ignored
        self._users: dict[int, int] = {}
        self._bytes = self.peak = 0

    def __torch_dispatch__(
        self,
        func: Callable[..., Any],
        types: Any,
        args: tuple[Any, ...] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        result = func(*args, **(kwargs or {}))
        for value in tree_leaves(result):
            if isinstance(value, torch.Tensor):
                self._add(value)
        return result

    def _add(self, tensor: torch.Tensor) -> None:
        storage = tensor.untyped_storage()
        key, size = storage._cdata, storage.nbytes()
        if key in self._ignored:
            return
        if key not in self._users:
            self._users[key] = 0
            self._bytes += size
            self.peak = max(self.peak, self._bytes)
        self._users[key] += 1
        weakref.finalize(tensor, self._drop, key, size)

    def _drop(self, key: int, size: int) -> None:
        self._users[key] -= 1
        if not self._users[key]:
            del self._users[key]
            self._bytes -= size
