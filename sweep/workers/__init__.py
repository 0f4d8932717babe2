"""The Ray actors that train trials.

``trial_actor`` is a trial as Ray Tune drives it, whichever engine trains. ``solo_actor`` trains it
itself; ``packed_actor`` holds the trial's Ray resources while a ``host``, one of the ``host_pool``,
trains it in a pack. ``factory`` chooses between them, ``failures`` turns an exception into a
result. After the trials, ``serving_actor`` measures what they left.

Doors: ``choose_allocation``, ``build_trainable``. ``packed_actor``, ``trial_actor`` and
``host_pool`` never import torch: thousands of them may start.
"""
