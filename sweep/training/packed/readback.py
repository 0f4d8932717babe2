"""Values on their way back from the device, for which no step waits."""

from collections.abc import Sequence

import torch

from sweep.models.transfer import start_reading


class Readback:
    """Copies of tensors in this machine's memory, once the device has come to them."""

    def __init__(self, tensors: Sequence[torch.Tensor]) -> None:
        self._event: torch.cuda.Event | None = None
        self._copies = start_reading(tensors)
        if tensors[0].is_cuda:
            self._event = torch.cuda.current_stream(tensors[0].device).record_event()

    @property
    def ready(self) -> bool:
        """Whether the values are here."""
        return self._event is None or bool(self._event.query())  # type: ignore[no-untyped-call]

    def wait(self) -> list[torch.Tensor]:
        """Return the values, once they are here."""
        if self._event is not None:
            self._event.synchronize()
        return self._copies
