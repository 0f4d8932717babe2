"""``sweep doctor``: what of this machine and its packages is fine, what is not, and what to do.

``machine`` looks at Python, processors, memory and disk, ``packages`` at the installed versions,
``hub`` at the Hugging Face Hub. ``torch_check`` and ``ray_check`` import torch and Ray, each in a
process of its own that ``children`` starts: a library that crashes or hangs is a finding too.
``examination`` makes all of these checks; ``cli`` is the command.

Doors: ``examination.examine_machine``, ``cli.main``.
"""
