"""A loss scale for each slot of a pack, as ``torch.amp.GradScaler`` keeps one for a model."""

from collections.abc import Mapping, Sequence

import torch

from sweep.models.transfer import to_device
from sweep.training.checkpoint import Tensors
from sweep.training.loss_scale import (
    BACKOFF,
    GOOD_STEPS,
    GROWTH,
    GROWTH_STEPS,
    INITIAL_SCALE,
    SCALE,
)


class LossScales:
    """Scales, and steps taken since each last changed (slots,); nothing here waits for a GPU."""

    def __init__(self, slots: int, device: torch.device) -> None:
        self.scales = torch.full((slots,), INITIAL_SCALE, device=device)
        self.good_steps = torch.zeros(slots, dtype=torch.int32, device=device)

    def reset(self, slot: int) -> None:
        """Give ``slot`` the scale of a new trial."""
        self.scales[slot] = INITIAL_SCALE
        self.good_steps[slot] = 0

    def unscale(self, gradients: torch.Tensor, first: int = 0) -> None:
        """Divide ``gradients`` (slots, width), of scaled losses, in place; theirs are the slots
        from ``first`` on."""
        scales = self.scales[first : first + len(gradients)]
        # As GradScaler does: the reciprocal of a small scale in float32 may be infinite.
        gradients.mul_(scales.double().reciprocal().float()[:, None])

    def update(self, stepping: Sequence[int], overflowed: torch.Tensor, first: int = 0) -> None:
        """Lower the scales of the slots among ``stepping`` whose gradients ``overflowed``, one
        truth value for each slot from ``first`` on, and raise those that have long gone without."""
        index = to_device(torch.tensor(list(stepping)), self.scales.device)
        scales, bad = self.scales[index], overflowed[index - first]
        good = torch.where(bad, 0, self.good_steps[index] + 1)
        grown = torch.where((good == GROWTH_STEPS) & (scales * GROWTH).isfinite(), GROWTH, 1.0)
        self.scales[index] = scales * torch.where(bad, BACKOFF, grown)
        self.good_steps[index] = torch.where(good == GROWTH_STEPS, 0, good)

    def state(self, slot: int) -> Tensors:
        """Return a slot's state by the names of ``flatten_scaler_state``."""
        return {SCALE: self.scales[slot].clone(), GOOD_STEPS: self.good_steps[slot].clone()}

    def load_state(self, slot: int, flat: Mapping[str, torch.Tensor]) -> None:
        """Load what ``state`` or ``flatten_scaler_state`` returned, if it is there."""
        if SCALE in flat:
            self.scales[slot] = flat[SCALE].to(self.scales.device)
            self.good_steps[slot] = flat[GOOD_STEPS].to(self.scales.device)
