"""How many cases ran: counted by the tests' own bodies, after their last check."""

import pytest
from cases import FACTOR, RAN, REACHED, WANTED

MEANT = {
    "subsets": 200,
    "corpora": 200,
    "plans": 120,
    "tables": 120,
    "reports": 1,
    "dry runs": 50,
    "accounts": 150,
    "remedies": 80,
}
"""How many cases, at least, are not refused but come through to what they are about."""


def test_every_case_ran() -> None:
    """Every property test runs all its cases: 5,000 and more together."""
    if set(RAN) != set(WANTED):
        pytest.skip("only some of the property tests ran")
    assert {name: REACHED[name] for name in MEANT if REACHED[name] < MEANT[name] * FACTOR} == {}
    assert sum(RAN.values()) >= 5000 * FACTOR
    assert all(RAN[name] >= WANTED[name] for name in WANTED)
