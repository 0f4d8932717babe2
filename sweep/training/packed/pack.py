"""A pack: a frozen base model, and the adapters and heads of the trials that share it."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import cast

import torch
from peft.tuners.lora import LoraLayer
from torch import nn
from transformers.pytorch_utils import Conv1D

from sweep.errors import ModelError
from sweep.models.base import Base
from sweep.models.device import cast_to
from sweep.models.heads import is_plain
from sweep.models.methods import attach_adapter, detach, lora_of
from sweep.plan import TrialSpec
from sweep.training.checkpoint import Tensors
from sweep.training.loss_scale import needs_scaling
from sweep.training.packed.layers import Dropout, Layout, PackedHead, PackedLinear
from sweep.training.packed.microbatches import PackBatch
from sweep.training.packed.stacks import LayerShape, Stacks, StackShape, fit_shape

# What PEFT puts before the names of the base model's own weights.
PREFIX = "base_model.model."


@dataclass(frozen=True)
class Drawn:
    """A trial's initial weights, drawn as the solo engine draws them."""

    layers: tuple[LayerShape, ...]
    weights: Tensors
    total_parameters: int


@dataclass(frozen=True)
class Member:
    rank: int
    classes: int
    scaling: float


class Pack:
    """The stacked adapters and heads on one base; slots are in the order of ``members``."""

    def __init__(self, base: Base) -> None:
        """Raises ModelError unless the head of ``base`` is a single layer."""
        if not is_plain(base.head):
            raise ModelError(
                f"model {base.ref.name}: its classification head ({', '.join(base.head)}) is not a "
                "single linear layer without bias, so a pack cannot hold it; set "
                "resources.engine=solo"
            )
        ((self._head_path, head),) = base.head.items()
        self._hidden = int(cast(nn.Linear, head).in_features)
        self._head_name = f"{PREFIX}{self._head_path}.modules_to_save.default.weight"
        self.base = base
        self.members: dict[str, Member] = {}
        self.layout = Layout()
        self.linears: list[PackedLinear] = []
        self.head = PackedHead(self.layout)
        self.stacks = self._build_stacks(())
        self._scaling = torch.ones(0, 1, 1, device=base.device)
        self._absent = torch.zeros(0, 1, dtype=torch.bool, device=base.device)

    def join(self, spec: TrialSpec) -> int:
        """Add a trial with its initial weights; return how many parameters its model has in all.

        Raises ModelError if the model cannot be packed.
        """
        drawn = self._draw(spec)
        if not self.linears:
            self._build_layers(drawn.layers)
        lora = lora_of(spec.candidate)
        kept = list(range(len(self.members)))
        self.members[spec.trial_id] = Member(lora.rank, spec.cell.n_labels, lora.scaling)
        self._rebuild(kept)
        for name, value in self.trainable_weights(spec.trial_id):
            value.copy_(drawn.weights[name])
        return drawn.total_parameters

    def leave(self, trial_id: str) -> None:
        """Remove a trial; the others stay as they are."""
        kept = [slot for slot, name in enumerate(self.members) if name != trial_id]
        del self.members[trial_id]
        self._rebuild(kept)

    def slot(self, trial_id: str) -> int:
        """Return the trial's position in the stacks."""
        return list(self.members).index(trial_id)

    def _draw(self, spec: TrialSpec) -> Drawn:
        with self._unplugged():
            model = attach_adapter(self.base, spec.cell.labels, spec.candidate, spec.cell.seed)
            try:
                layers = tuple(
                    _shape_of(name.removeprefix(PREFIX), module, spec.model.name)
                    for name, module in model.named_modules()
                    if isinstance(module, LoraLayer)
                )
                weights = {
                    name: parameter.detach().clone()
                    for name, parameter in model.named_parameters()
                    if parameter.requires_grad
                }
                total = sum(parameter.numel() for parameter in model.parameters())
            finally:
                detach(self.base, model)
        return Drawn(layers, weights, total)

    @contextmanager
    def _unplugged(self) -> Iterator[None]:
        """Put the base model's own layers back for the duration of the block."""
        layers = self.stacks.shape.layers
        for layer, module in zip(layers, self.linears, strict=True):
            self.base.model.set_submodule(layer.path, module.base)
        self.base.model.set_submodule(self._head_path, self.base.head[self._head_path])
        try:
            yield
        finally:
            for layer, module in zip(layers, self.linears, strict=True):
                self.base.model.set_submodule(layer.path, module)
            self.base.model.set_submodule(self._head_path, self.head)

    def _build_layers(self, layers: tuple[LayerShape, ...]) -> None:
        self.stacks = self._build_stacks(layers)
        for number, layer in enumerate(layers):
            module = self.base.model.get_submodule(layer.path)
            self.linears.append(PackedLinear(module, self.layout, number))
            self.base.model.set_submodule(layer.path, self.linears[-1])

    def _build_stacks(self, layers: tuple[LayerShape, ...]) -> Stacks:
        base = self.base
        shape = StackShape(layers, self._hidden, 1, 1)
        return Stacks(shape, 0, base.device, needs_scaling(base.dtype))

    def _rebuild(self, kept: Sequence[int]) -> None:
        """Make the stacks fit the members, whose first ones were in the slots ``kept``."""
        members, device = list(self.members.values()), self.base.device
        ranks, classes = [m.rank for m in members], [m.classes for m in members]
        shape = fit_shape(self.stacks.shape, ranks, classes)
        self.stacks = self.stacks.rebuild(shape, kept, len(members))
        leaves, self.head.heads = self.stacks.leaves()
        for linear, (a, b) in zip(self.linears, leaves, strict=True):
            linear.a, linear.b = a, b
        self._scaling = torch.tensor([m.scaling for m in members], device=device).view(-1, 1, 1)
        counts = torch.tensor(classes, device=device).view(-1, 1)
        self._absent = torch.arange(shape.classes, device=device) >= counts

    def logits(self, batch: PackBatch, dropout: Sequence[Dropout] = ()) -> torch.Tensor:
        """Return float32 logits (slots, rows, classes): minus infinity for classes that a slot's
        trial does not have."""
        base, layout = self.base, self.layout
        layout.slots, layout.dropout = len(batch.slots), dropout
        has_all = batch.slots == tuple(range(len(self.members)))
        layout.index = None if has_all else torch.tensor(batch.slots, device=base.device)
        layout.scaling = layout.pick(self._scaling).to(base.dtype)
        with cast_to(base.device, base.dtype):
            flat = base.last_token_forward(batch.input_ids, batch.attention_mask).float()
        logits = flat.view(len(batch.slots), -1, flat.shape[-1])
        return logits.masked_fill(layout.pick(self._absent)[:, None], -torch.inf)

    def trainable_weights(self, trial_id: str) -> list[tuple[str, torch.Tensor]]:
        """Return a trial's weights by PEFT's names, as views."""
        return self._named(self.stacks.weights, trial_id)

    def _named(self, flat: torch.Tensor, trial_id: str) -> list[tuple[str, torch.Tensor]]:
        slot, member, shape = self.slot(trial_id), self.members[trial_id], self.stacks.shape
        layers, heads = shape.cut(flat)
        named = []
        for layer, (a, b) in zip(shape.layers, layers, strict=True):
            path = f"{PREFIX}{layer.path}"
            named.append((f"{path}.lora_A.default.weight", a[slot, : member.rank]))
            named.append((f"{path}.lora_B.default.weight", b[slot, :, : member.rank]))
        return [*named, (self._head_name, heads[slot, : member.classes])]

    def optimizer_state(self, trial_id: str) -> Tensors:
        """Return a trial's AdamW state by the names of ``flatten_adamw_state``, and its loss scale
        by those of ``flatten_scaler_state``."""
        stacks, slot = self.stacks, self.slot(trial_id)
        step = stacks.steps[slot]
        flat: Tensors = {}
        for key, moments in (("exp_avg", stacks.means), ("exp_avg_sq", stacks.squares)):
            flat |= {f"{name}/{key}": value for name, value in self._named(moments, trial_id)}
        # One step count per parameter, as AdamW keeps it; safetensors saves no shared memory.
        steps = {f"{name}/step": step.clone() for name, _ in self.trainable_weights(trial_id)}
        return flat | steps | (stacks.loss_scales.state(slot) if stacks.loss_scales else {})

    def load_optimizer_state(self, trial_id: str, flat: Mapping[str, torch.Tensor]) -> None:
        """Load what ``optimizer_state``, or ``flatten_adamw_state`` with ``flatten_scaler_state``,
        returned."""
        stacks = self.stacks
        for key, moments in (("exp_avg", stacks.means), ("exp_avg_sq", stacks.squares)):
            for name, value in self._named(moments, trial_id):
                if f"{name}/{key}" in flat:
                    value.copy_(flat[f"{name}/{key}"])
        if f"{self._head_name}/step" in flat:
            stacks.steps[self.slot(trial_id)] = flat[f"{self._head_name}/step"].to(stacks.device)
        if stacks.loss_scales:
            stacks.loss_scales.load_state(self.slot(trial_id), flat)


def _shape_of(path: str, module: nn.Module, model: str) -> LayerShape:
    if not isinstance(module.get_base_layer(), nn.Linear | Conv1D):  # type: ignore[operator]
        raise ModelError(
            f"model {model}: layer {path} is not linear, so a pack cannot adapt it; set "
            "resources.engine=solo, or remove it from target_modules"
        )
    return LayerShape(path, int(module.in_features), int(module.out_features))  # type: ignore[arg-type]
