"""Checks and measures the engines on this machine's GPU, in one command with a time limit.

``python -m benchmarks.gpu`` runs the parts in ``parts``, the most valuable first, each in a process
of its own: ``same`` checks results, the others measure. A part writes what it finds to a JSON file
at once, so that what is known stays known if the time is over or the process dies. On a CPU it does
the same with tiny models, to keep itself working. ``engines`` is the only module that builds
engines.
"""
