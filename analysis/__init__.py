"""Reads a run folder and reports on it: frames, statistics, charts, one HTML page.

``report`` is the command (``python -m analysis.report``), ``load`` reads a folder into a ``Run`` of
frames, ``stats`` computes from frames, ``charts`` draws them, ``study`` collects all that a report
shows, and ``page`` writes it. Of ``sweep`` it imports only storage, verdicts, errors, cli and
startup, and it never imports torch, transformers, peft or ray.

Doors: ``load_run``, ``build_study``, ``write_report``.
"""

import os
import sys

# As in sweep.startup.search_path, which cannot be imported yet: a user's sweep.py could shadow it.
_here, _root = sys.path[0], os.path.realpath(os.path.dirname(__path__[0]))
if sys.argv[:1] == ["-m"] and not sys.flags.safe_path and os.path.realpath(_here) != _root:
    sys.path[:] = [entry for entry in sys.path if entry != _here]

if "HOME" not in os.environ:
    # altair needs the user's home on import.
    from sweep.startup.home import settle_user

    settle_user()
