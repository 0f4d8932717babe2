"""What is known before training starts.

``inputs`` finds models and data, ``features`` checks the models of baselines, ``paths`` makes all
paths absolute, ``effects`` finds keys that change nothing; ``runtime`` and ``forecast`` estimate
time and memory, ``checks`` compares them with the machine, ``preflight`` puts it all together.
``setup`` is what a run is made of.

Doors: ``resolve_inputs``, ``check_plan``, ``RunSetup``. Never imports torch, transformers, peft or
ray: a dry run takes seconds. Models are loaded by a process of their own (sweep.models.load_check).
"""
