"""Labels for new texts, from a folder that ``sweep.export`` wrote.

``classifier`` loads such a folder and scores texts; ``texts`` reads them from a file; ``parts``
keeps what is done on disk until all is, so that a run that was cut off goes on; ``cli`` is the
command. ``classifier`` imports torch, the rest does not. Never imports Ray.
"""
