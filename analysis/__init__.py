"""Reads a run folder and draws it: frames, statistics, charts and the report."""
