"""A pack: a frozen base model, and the adapters and heads of the trials that share it."""

import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import groupby
from typing import Any, cast

import torch
from peft.tuners.lora import LoraLayer
from torch import nn
from transformers import PreTrainedModel
from transformers.pytorch_utils import Conv1D

from sweep.errors import ModelError
from sweep.models.base import Base
from sweep.models.checkpointing import is_checkpointing
from sweep.models.device import PeakMemory, cast_to
from sweep.models.heads import is_plain
from sweep.models.methods import attach_adapter, detach, lora_of, set_checkpointing
from sweep.plan import Candidate, Capacity, TrialSpec
from sweep.training.checkpoint import Tensors
from sweep.training.loss_scale import needs_scaling
from sweep.training.packed.draws import FirstWeights
from sweep.training.packed.dropout import Dropout, Masks
from sweep.training.packed.joined import Adapter, lay_side_by_side
from sweep.training.packed.layers import (
    Current,
    Member,
    PackedHead,
    PackedLinear,
    Selection,
)
from sweep.training.packed.microbatches import PackBatch
from sweep.training.packed.products import choose_product
from sweep.training.packed.stacks import LayerShape, Place, Stacks, shape_for

# What PEFT puts before the names of the base model's own weights.
PREFIX = "base_model.model."
# The trial by which a pack learns what PEFT adapts and how it draws: its rank and labels are such
# that no product of sizes is mistaken for another.
PROBE = Candidate(0, 3, 3.0, 1e-3, 0.0, 0.0)
PROBE_LABELS = ("a", "b")
PROBE_SEED = 1


class PackFullError(Exception):
    """All slots are taken."""


class Pack:
    """The stacked adapters and heads on one base.

    ``take``, ``fill`` and ``free`` may be called by any thread, even while others train: they
    touch a slot that no pass reads.
    """

    def __init__(self, base: Base, capacity: Capacity) -> None:
        """Raises ModelError unless every adapted layer, and the head of ``base``, is linear."""
        if not is_plain(base.head):
            raise ModelError(
                f"model {base.ref.name}: its classification head ({', '.join(base.head)}) is not a "
                "single linear layer without bias, so a pack cannot hold it; set "
                "resources.engine=solo"
            )
        ((self._head_path, head),) = base.head.items()
        self._head_name = f"{PREFIX}{self._head_path}.modules_to_save.default.weight"
        self.base = base
        self.capacity = capacity
        # Held while the base model's layers are in use or replaced.
        self.exclusive = threading.RLock()
        self.peaks = PeakMemory(base.device)
        self._free = list(range(capacity.slots))
        self._freed = threading.Condition()
        self._current = Current(base.device)
        self._linears: list[PackedLinear] = []
        self._plug: nn.Module = base.head[self._head_path]
        layers, drawn, total = self._attach(PROBE_LABELS, PROBE, PROBE_SEED)
        hidden = int(cast(nn.Linear, head).in_features)
        self.shape = shape_for(layers, hidden, capacity)
        self.stacks = Stacks(self.shape, capacity.slots, base.device, needs_scaling(base.dtype))
        self._scaling = [1.0] * capacity.slots
        self._first_weights = FirstWeights(self.shape, _read_deviation(base.model), base.dtype)
        probe = Place(0, lora_of(PROBE).rank, len(PROBE_LABELS))
        # PEFT keeps the head that it found beside the one that is trained.
        self._others = total - self.shape.count(probe) - probe.classes * hidden
        self.draws_alone = self._draws_like(drawn)
        if base.device.type == "cuda":
            # Tried here: a step waits for nothing.
            choose_product(self.stacks.weights.device, base.dtype)
        self._plug_in()
        if base.device.type == "cuda":
            self.join_weights()

    def _attach(
        self, labels: tuple[str, ...], candidate: Candidate, seed: int
    ) -> tuple[list[LayerShape], Tensors, int]:
        """Return the layers that PEFT adapts for ``candidate``, the weights that it draws, and how
        many parameters the model then has."""
        checkpointing = is_checkpointing(self.base.model)
        with self._unplugged():
            model = attach_adapter(self.base, labels, candidate, seed)
            try:
                layers = [
                    _shape_of(name.removeprefix(PREFIX), module, self.base.ref.name)
                    for name, module in model.named_modules()
                    if isinstance(module, LoraLayer)
                ]
                drawn = {
                    name: parameter.detach().cpu().clone()
                    for name, parameter in model.named_parameters()
                    if parameter.requires_grad
                }
                return layers, drawn, sum(p.numel() for p in model.parameters())
            finally:
                detach(self.base, model)
                set_checkpointing(self.base, checkpointing)

    def _draws_like(self, drawn: Tensors) -> bool:
        """Return whether the pack draws first weights as PEFT did those in ``drawn``."""
        place = Place(0, lora_of(PROBE).rank, len(PROBE_LABELS))
        row = self._first_weights.draw(PROBE_SEED, place)
        named = dict(self.name_row(row, place))
        return named.keys() == drawn.keys() and all(
            torch.equal(value, drawn[name]) for name, value in named.items()
        )

    @contextmanager
    def _unplugged(self) -> Iterator[None]:
        """Put the base model's own layers back for the duration of the block."""
        model = self.base.model
        for linear, layer in zip(self._linears, self._layers, strict=True):
            model.set_submodule(layer.path, linear.base)
        model.set_submodule(self._head_path, self.base.head[self._head_path])
        try:
            yield
        finally:
            for linear, layer in zip(self._linears, self._layers, strict=True):
                model.set_submodule(layer.path, linear)
            model.set_submodule(self._head_path, self._plug)

    @property
    def _layers(self) -> tuple[LayerShape, ...]:
        return self.shape.layers if self._linears else ()

    def _plug_in(self) -> None:
        """Replace the base model's layers by those that read the stacks."""
        shape, stacks, capacity = self.shape, self.stacks, self.capacity
        weights = shape.cut_layers(stacks.weights, capacity.rank)
        gradients = shape.cut_layers(stacks.gradients, capacity.rank)
        for number, layer in enumerate(shape.layers):
            module = self.base.model.get_submodule(layer.path)
            adapter = Adapter(*weights[number], *gradients[number])
            self._linears.append(PackedLinear(module, adapter, self._current, number))
            self.base.model.set_submodule(layer.path, self._linears[-1])
        heads = shape.cut_heads(stacks.weights, capacity.classes)
        head_gradients = shape.cut_heads(stacks.gradients, capacity.classes)
        self._plug = PackedHead(heads, head_gradients, self._current)
        self.base.model.set_submodule(self._head_path, self._plug)

    def join_weights(self) -> None:
        """Have the weights of layers that may pass as one lie in a row in memory."""
        pairs = zip(self.shape.layers, (linear.base for linear in self._linears), strict=True)
        for _, group in groupby(pairs, key=_describe_kind):
            bases = [base for _, base in group]
            if len(bases) > 1 and type(bases[0]) is nn.Linear:
                lay_side_by_side(bases)

    def take(self, spec: TrialSpec) -> Place:
        """Return a place for a trial, which is then its own; raise PackFullError if there is
        none."""
        rank, classes = lora_of(spec.candidate).rank, spec.cell.n_labels
        if rank > self.capacity.rank or classes > self.capacity.classes:
            raise RuntimeError(f"trial {spec.trial_id} is larger than the pack: {self.capacity}")
        with self._freed:
            if not self._free:
                raise PackFullError(f"all {self.capacity.slots} slots of the pack are taken")
            # The lowest: slots in use are then neighbors, which is fastest.
            slot = min(self._free)
            self._free.remove(slot)
        return Place(slot, rank, classes)

    def fill(self, spec: TrialSpec, place: Place) -> None:
        """Write the first weights of a trial, and nothing else, into its place."""
        stacks, slot = self.stacks, place.slot
        row = self._draw(spec, place)
        stacks.clear(slot)
        stacks.row("weights", place).copy_(row)
        self._scaling[slot] = lora_of(spec.candidate).scaling

    def _draw(self, spec: TrialSpec, place: Place) -> torch.Tensor:
        if self.draws_alone:
            return self._first_weights.draw(spec.cell.seed, place)
        with self.exclusive:
            drawn = self._attach(spec.cell.labels, spec.candidate, spec.cell.seed)[1]
        row = torch.zeros(self.shape.used(place.rank))
        for name, value in self.name_row(row, place):
            value.copy_(drawn[name])
        return row

    def free(self, place: Place) -> None:
        """Give a trial's place back."""
        with self._freed:
            self._free.append(place.slot)

    def count_parameters(self, place: Place) -> int:
        """Return how many parameters a trial's model has in all, as PEFT counts them."""
        head = place.classes * self.shape.hidden
        return self._others + self.shape.count(place) + head

    def logits(
        self, batch: PackBatch, places: Sequence[Place], dropout: Sequence[Dropout] = ()
    ) -> torch.Tensor:
        """Return float32 logits (texts, classes) of the texts of ``places``, which are in the order
        of their slots: minus infinity for classes that a slot's trial does not have."""
        base = self.base
        members = [
            Member(place.slot, place.rank, place.classes, self._scaling[place.slot], *sizes)
            for place, *sizes in zip(places, batch.counts, batch.tokens, strict=True)
        ]
        masks = Masks(dropout, batch.counts, batch.texts) if dropout else None
        self._current.selection = Selection(members, masks)
        with cast_to(base.device, base.dtype):
            return base.forward(batch.texts).float()

    def name_row(self, row: torch.Tensor, place: Place) -> list[tuple[str, torch.Tensor]]:
        """Return the values in ``row``, a slot's prefix that holds all of ``place``, by PEFT's
        names, as views."""
        head, adapters = self.shape.cut_row(row, place)
        names = [
            f"{PREFIX}{layer.path}.lora_{side}.default.weight"
            for layer in self.shape.layers
            for side in "AB"
        ]
        return [*zip(names, adapters, strict=True), (self._head_name, head)]

    def trainable_weights(self, place: Place) -> list[tuple[str, torch.Tensor]]:
        """Return a trial's weights by PEFT's names, as views."""
        return self.name_row(self.stacks.row("weights", place), place)

    def keep_best(self, place: Place) -> None:
        """Remember a trial's weights as its best."""
        self.stacks.row("best", place).copy_(self.stacks.row("weights", place))

    def restore_best(self, place: Place) -> None:
        """Make a trial's weights its best ones again."""
        self.stacks.row("weights", place).copy_(self.stacks.row("best", place))

    def load_row(self, stack: str, place: Place, named: Mapping[str, torch.Tensor]) -> None:
        """Fill a trial's row of ``stack`` with values by PEFT's names; those that are missing are
        0. A GPU is waited for once."""
        row = torch.zeros(self.shape.used(place.rank))
        for name, value in self.name_row(row, place):
            if name in named:
                value.copy_(named[name])
        self.stacks.row(stack, place).copy_(row)

    def optimizer_state(self, place: Place, rows: Mapping[str, Any] | None = None) -> Tensors:
        """Return a trial's AdamW state by the names of ``flatten_adamw_state``, and its loss scale
        by those of ``flatten_scaler_state``: as views of ``rows``, which has copies of the stacks'
        rows, or of the stacks."""
        stacks = self.stacks
        rows = rows or {name: stacks.row(name, place) for name in ("means", "squares")}
        flat: Tensors = {}
        for key, name in (("exp_avg", "means"), ("exp_avg_sq", "squares")):
            flat |= {f"{n}/{key}": value for n, value in self.name_row(rows[name], place)}
        # One step count per parameter, as AdamW keeps it; safetensors saves no shared memory.
        step = stacks.steps[place.slot].to(rows["means"].device)
        names = [name for name, _ in self.name_row(rows["means"], place)]
        flat |= {f"{name}/step": step.clone() for name in names}
        return flat | (stacks.loss_scales.state(place.slot) if stacks.loss_scales else {})

    def load_optimizer_state(self, place: Place, flat: Mapping[str, torch.Tensor]) -> None:
        """Load what ``optimizer_state``, or ``flatten_adamw_state`` with ``flatten_scaler_state``,
        returned."""
        stacks = self.stacks
        for key, stack in (("exp_avg", "means"), ("exp_avg_sq", "squares")):
            suffix = f"/{key}"
            moments = {n.removesuffix(suffix): v for n, v in flat.items() if n.endswith(suffix)}
            if moments:
                self.load_row(stack, place, moments)
        if f"{self._head_name}/step" in flat:
            stacks.steps.data[place.slot] = flat[f"{self._head_name}/step"].to(stacks.device)
        if stacks.loss_scales:
            stacks.loss_scales.load_state(place.slot, flat)


def _describe_kind(pair: tuple[LayerShape, nn.Module]) -> tuple[Any, ...]:
    """Return what layers with the same input have in common: the module that they belong to, their
    width and type, and whether they have a bias."""
    layer, base = pair
    return layer.path.rpartition(".")[0], layer.inputs, type(base), base.bias is None


def _read_deviation(model: PreTrainedModel) -> float:
    """Return the standard deviation of new layers' weights, as the configuration says."""
    return float(getattr(model.config.get_text_config(), "initializer_range", 0.02))


def _shape_of(path: str, module: nn.Module, model: str) -> LayerShape:
    if not isinstance(module.get_base_layer(), nn.Linear | Conv1D):  # type: ignore[operator]
        raise ModelError(
            f"model {model}: layer {path} is not linear, so a pack cannot adapt it; set "
            "resources.engine=solo, or remove it from target_modules"
        )
    return LayerShape(path, int(module.in_features), int(module.out_features))  # type: ignore[arg-type]
