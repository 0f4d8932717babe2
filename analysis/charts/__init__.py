"""Charts: pure functions, a frame in, an Altair chart out; nothing is computed or written here.

``cells``, ``comparisons``, ``costs``, ``prices`` and ``trials`` have the ``draw_*`` functions,
``encodings`` what they share, so that a model looks the same in every chart, and ``palette`` colors
and fonts.
Doors: the ``draw_*`` functions. Imports analysis.stats and never analysis.page.
"""
