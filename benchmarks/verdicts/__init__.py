"""Simulations of verdicts: how often tests call equal recipes different, and what they find.

``pairs`` draws one comparison, ``grids`` a grid of them, ``means`` a grid without its texts, and
``play`` gives a grid's comparisons seeds as a rule says. ``python -m benchmarks.verdicts`` prints
the tables of docs/benchmarks.md.
"""
