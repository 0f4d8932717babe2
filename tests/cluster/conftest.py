"""The cluster test: `make cluster-test` gives it namespaces of its own, and it ends with them."""

import os

# It needs root, its own network, process and mount namespaces, sshd and moto: never by accident.
collect_ignore_glob = [] if os.environ.get("SWEEP_CLUSTER_TEST") else ["test_*.py"]
