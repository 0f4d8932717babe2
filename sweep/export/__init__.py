"""Exports a cell's best trial as a folder that stock peft and transformers load.

``cli`` is the command (``python -m sweep.export``), ``winner`` chooses the trial, ``bundle`` writes
the folder and loads it again, ``model_card`` describes it: for the Hub in ``metadata``, with what
``origins`` finds of license and language.

Door: ``cli.main``. Imports sweep.models, sweep.training and below, and never ray or Ray Tune's
modules; torch only in ``bundle``, which ``cli`` loads once an export cannot be refused any more.
"""
