"""Data files as tables: which files hold which split, and how each kind is read."""
