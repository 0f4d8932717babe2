"""The page of a report: one HTML file, everything escaped, nothing fetched.

``html`` renders it from ``templates``, ``contents`` prepares its charts and values, ``formats``
writes numbers, ``decision`` and ``costs`` word what to take and its price, ``transfer`` what tuning
with few texts would lose, and ``images`` writes the charts as PNG and SVG. Imports analysis.study,
analysis.charts and below, never analysis.report.
Doors: ``build_page``, ``write_charts``.
"""
