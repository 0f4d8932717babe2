"""The factor on a loss that keeps gradients inside float16's range (Micikevicius et al. 2018,
arXiv:1710.03740), and its state as plain tensors."""

from collections.abc import Mapping

import torch

from sweep.training.checkpoint import Tensors

# The constants of ``torch.amp.GradScaler``: the scale at first; its factor after a step whose
# gradients were not finite, which is skipped; and its factor after so many steps without one.
INITIAL_SCALE = 2.0**16
BACKOFF = 0.5
GROWTH = 2.0
GROWTH_STEPS = 2000
# Below this scale the gradients themselves exceed the range: no further step would be taken.
LEAST_SCALE = 1.0
# Ends the sentence that says why a trial diverged.
OVERFLOW_REMEDY = "; float16 ends at 65,504, so try train.dtype=float32"

# In the optimizer's state: the scale, and the steps taken since it last changed.
SCALE, GOOD_STEPS = "loss_scale/scale", "loss_scale/good_steps"


def needs_scaling(dtype: torch.dtype) -> bool:
    """Return whether losses are scaled where the base model computes in ``dtype``: float32 and
    bfloat16 have the range that gradients need."""
    return dtype == torch.float16


def build_scaler(device: torch.device, dtype: torch.dtype) -> torch.amp.GradScaler:
    """Return a scaler, which does nothing unless ``dtype`` needs scaling."""
    return torch.amp.GradScaler(
        device.type,
        INITIAL_SCALE,
        GROWTH,
        BACKOFF,
        GROWTH_STEPS,
        enabled=needs_scaling(dtype),
    )


def flatten_scaler_state(scaler: torch.amp.GradScaler) -> Tensors:
    """Return the scaler's state, empty if it does nothing."""
    state = scaler.state_dict()
    if not state:
        return {}
    return {
        SCALE: torch.tensor(state["scale"]),
        GOOD_STEPS: torch.tensor(state["_growth_tracker"], dtype=torch.int32),
    }


def load_scaler_state(scaler: torch.amp.GradScaler, flat: Mapping[str, torch.Tensor]) -> None:
    """Load what ``flatten_scaler_state`` returned; without it, as from a trial in another format,
    the scaler stays new."""
    if SCALE in flat:
        state = {"scale": flat[SCALE].item(), "_growth_tracker": int(flat[GOOD_STEPS])}
        scaler.load_state_dict(scaler.state_dict() | state)
