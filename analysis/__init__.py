"""Reads a run folder and draws it: frames, statistics, charts and the report."""

import os
import sys

# As in sweep.startup.search_path, which is not found yet where a user's sweep.py comes first.
_here, _root = sys.path[0], os.path.realpath(os.path.dirname(__path__[0]))
if sys.argv[:1] == ["-m"] and not sys.flags.safe_path and os.path.realpath(_here) != _root:
    sys.path[:] = [entry for entry in sys.path if entry != _here]

if "HOME" not in os.environ:
    # altair asks for the user's home as it is imported.
    from sweep.startup.home import settle_user

    settle_user()
