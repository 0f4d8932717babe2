"""The cluster test: `make cluster-test` gives it namespaces of its own, and it ends with them."""

import os
import subprocess

import pytest
from places import explain_cover, find_places

# It needs root, its own network, process and mount namespaces, sshd and moto: never by accident.
collect_ignore_glob = [] if os.environ.get("SWEEP_CLUSTER_TEST") else ["test_*.py"]


def pytest_configure(config: pytest.Config) -> None:
    """Make room for the hosts, in a mount namespace of the test's own."""
    if not os.environ.get("SWEEP_CLUSTER_TEST"):
        return
    if told := explain_cover(*find_places()):
        pytest.exit(told, returncode=2)
    # Names of network namespaces are files there: an earlier test's must not be in the way.
    subprocess.run(["mount", "-t", "tmpfs", "tmpfs", "/run"], check=True)
