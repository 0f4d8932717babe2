"""From a file to a study: ``sweep init DATA`` looks at the data and at this machine, and writes a
commented configuration that fits a budget of time.

``survey`` looks at the data; ``catalog`` lists models, and ``contenders`` finds those that this
machine can train; ``studies`` lists the studies that the data allow, richest first; ``fitting``
takes the first that the preflight's forecast fits into the budget; ``writing`` makes it YAML and
``sentences`` what is said of it; ``study_file`` does all of this for a request; ``cli`` is the
command. Never imports torch, transformers, peft or ray.

Doors: ``study_file.draft_study`` with its ``Request``, ``cli.main``.
"""
