"""What a run shows while it is planned and while it runs.

``plan`` is a dry run's text and JSON; ``progress`` draws a running sweep from its record, with
``counts``, ``pace`` (how long epochs take), ``survival`` (how many a trial runs) and ``time_left``
behind it; ``attach`` does the same from another terminal, out of the journal. ``reporting`` is the
report as a run's last step.

Doors: ``format_plan``, ``Board``, ``attach``, ``load_report``. Never imports torch, transformers,
peft or ray.
"""
