"""What every command does before its own work.

``search_path`` keeps the user's files from shadowing packages, ``home`` finds writable folders for
libraries, ``streams`` keeps a closed standard output from ending a run, and ``namesake`` refuses an
environment in which another project of this name lies over this one. Imports nothing of this
project but ``sweep.errors``; ``search_path`` imports not even that.

Doors: ``settle_home``, ``list_home_notes``, ``is_writable``, ``leave_current_folder``,
``list_worker_folders``, ``refuse_namesake``, ``steady_streams``.
"""
