"""``python -m sweep.doctor.ray_check [ADDRESS]``: the Ray cluster that a run would join, or whether
one can start here."""

import os
import sys
from collections.abc import Iterator

import ray

from sweep.cluster.ray_internals import find_default_folder
from sweep.cluster.session import (
    AUTH_MODE,
    CLIENT,
    LOCAL,
    SHORT_FOLDER,
    check_cluster,
    choose_address,
    find_folder_fault,
)
from sweep.doctor.children import tell
from sweep.errors import ClusterError, Finding


def check_ray(address: str | None) -> Iterator[Finding]:
    """Yield what a run that is given ``address`` would find."""
    where = choose_address(address)
    if where == LOCAL:
        yield from _check_local()
        return
    named = f"--address {where}" if address else f"RAY_ADDRESS={where}"
    try:
        check_cluster(address)
    except ClusterError as error:
        yield Finding("error", "ray", str(error))
        return
    answer = "is asked when a run starts" if where.startswith(CLIENT) else "answers"
    yield Finding("note", "ray", f"Ray {ray.__version__}; the cluster of {named} {answer}")


def _check_local() -> Iterator[Finding]:
    folder = find_default_folder()
    fault = find_folder_fault(folder)
    if fault:
        sentence = (
            f"the temporary folder {folder} {fault}, so Ray's files go to {SHORT_FOLDER}; "
            "set RAY_TMPDIR to choose another one"
        )
        yield Finding("warning", "ray", sentence)
    if os.environ.get(AUTH_MODE, "token").lower() == "disabled":
        sentence = (
            f"{AUTH_MODE} is disabled, so every user of this machine can run code in a sweep's "
            "Ray cluster as you; unset it"
        )
        yield Finding("warning", "ray", sentence)
    sentence = f"Ray {ray.__version__}; no cluster is named, so a run starts one on this machine"
    yield Finding("note", "ray", sentence)


if __name__ == "__main__":
    tell(check_ray(next(iter(sys.argv[1:]), None)))
