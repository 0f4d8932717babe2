"""The cluster test: `make cluster-test` gives it namespaces of its own, and it ends with them."""

import os
import subprocess

# It needs root, its own network, process and mount namespaces, sshd and moto: never by accident.
collect_ignore_glob = [] if os.environ.get("SWEEP_CLUSTER_TEST") else ["test_*.py"]

if os.environ.get("SWEEP_CLUSTER_TEST"):
    # Names of network namespaces are files there: an earlier test's must not be in the way.
    subprocess.run(["mount", "-t", "tmpfs", "tmpfs", "/run"], check=True)
