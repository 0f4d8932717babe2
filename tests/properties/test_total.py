"""How many cases ran: counted by the tests' own bodies, after their last check."""

import pytest
from cases import FACTOR, RAN, WANTED


def test_every_case_ran() -> None:
    """Every property test runs all its cases: 5,000 and more together."""
    if set(RAN) != set(WANTED):
        pytest.skip("only some of the property tests ran")
    assert sum(RAN.values()) >= 5000 * FACTOR
    assert all(RAN[name] >= WANTED[name] for name in WANTED)
