"""The end of a process that a CUDA error has left without a GPU."""

import os
import sys
import threading

# Time to send the answers that say why the process ends.
ANSWER_SECONDS = 3.0


class GpuLostError(Exception):
    """No call to the GPU succeeds in this process any more: Tune has to restart its trials in
    another."""


def end_process(reason: str) -> None:
    """Write ``reason`` to the process's log, and end the process in a few seconds, whatever it is
    then doing."""
    print(f"process {os.getpid()} ends: {reason}", file=sys.stderr, flush=True)
    # The exit hooks of CUDA's libraries might wait for the GPU forever.
    timer = threading.Timer(ANSWER_SECONDS, os._exit, (1,))
    timer.daemon = True
    timer.start()
