"""What a run shows while it is planned and while it runs.

``plan`` is a dry run's text and JSON; ``progress`` draws a running sweep from its record, based on
``counts``, ``pace`` (how long epochs take), ``survival`` (how many a trial runs) and ``time_left``;
``attach`` does the same from another terminal, reading the journal.

Doors: ``format_plan``, ``Board``, ``attach``. Never imports torch, transformers, peft or ray.
"""
