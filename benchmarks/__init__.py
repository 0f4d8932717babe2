"""Benchmarks: the stock recipe and this project on the same trials, and simulations of scale.

``python -m benchmarks`` times the engines (``tasks``, ``stock``, ``floor``, ``random_models``),
``benchmarks.packs`` packs of several sizes; ``benchmarks.gpu`` checks and measures them on this
machine's GPU; ``benchmarks.simulate`` plays a plan on many GPUs
(``playback``, ``durations``, ``curves``), and ``benchmarks.verdicts`` tries the report's tests on
recipes whose difference is known. docs/benchmarks.md has the commands behind its numbers.
"""
