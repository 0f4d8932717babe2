"""What every program of the sweep does before its own work.

``search_path`` keeps a user's files from being taken for packages, ``home`` finds folders that can
be written, ``streams`` keeps a reader who has gone from ending a run. Imports nothing above
``sweep.errors``; ``search_path`` nothing at all.
"""
