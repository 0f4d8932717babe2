"""What the commands share.

``options`` is the argument parser of all commands, ``outcome`` how they end, ``run_options`` the
options of ``sweep.run`` and the command that resumes a run. Imports sweep.config and below, and
never torch, transformers, peft or ray.

Doors: ``OptionParser``, ``read_path``, ``build_parser``, ``check_options``,
``format_resume_command``.
"""
