"""The run itself: the plan as a Ray Tune experiment, recorded as it goes.

``driver`` runs a plan. ``search`` gives Tune its trials cell by cell, ``scheduler`` is CellASHA,
``recorder`` is the only writer of the journal, ``resume`` replays what the journal holds,
``losses`` explains lost workers, ``baselines`` runs references beside the trials, ``callbacks`` and
``trackers`` display and export what happens. Once all has ended, ``serving`` measures the ``uses``
with a ``meter``.

Door: ``run_plan``. Imported by sweep.run alone, once planning is done: it imports Ray.
"""
