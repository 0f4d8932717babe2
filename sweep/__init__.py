"""Fine-tunes language models on balanced subsets of texts, and says which one to choose."""

import sys

__version__ = "0.1.0"

# ``-m`` is sys.argv[0] while ``python -m`` looks for its module; the other is a process of Ray's.
if sys.argv[:1] == ["-m"] or (sys.argv and sys.argv[0].endswith("default_worker.py")):
    # Before any other import, each of which could find a file of the user's instead.
    from sweep.startup.search_path import leave_current_folder

    leave_current_folder(__path__[0])
