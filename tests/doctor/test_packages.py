"""What the doctor takes for needed packages."""

from sweep.doctor import packages


def test_a_package_of_an_extra_may_be_for_one_system_only() -> None:
    requirement = packages._require_for("dev", "triton; platform_system == 'Linux'")
    assert requirement.marker is not None
    for system, extra, applies in (
        ("Linux", "dev", True), ("Windows", "dev", False), ("Linux", "aws", False),
    ):  # fmt: skip
        environment = {"platform_system": system, "extra": extra}
        assert requirement.marker.evaluate(environment) is applies
