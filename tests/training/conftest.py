"""What tests that train share."""

from collections.abc import Iterator

import pytest
import torch


@pytest.fixture(scope="module")
def one_thread() -> Iterator[None]:
    """Train on one thread, as a worker of one CPU does: sums over several may differ in the last
    bit, and AdamW makes much of a gradient that is nearly zero."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)
