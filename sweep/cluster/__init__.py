"""The machines: what they have, how Ray is reached, and what each trial gets.

``hardware`` measures this machine, ``autoscaler`` reads what a cluster may grow to, ``environment``
says what workers inherit; ``session`` connects to Ray, ``nodes`` queries a connected cluster,
``place`` says where a worker runs, ``allocation`` divides the cluster among trials.
``ray_internals`` is the only module of the project that touches Ray's private names.

Doors: ``inspect_machine``, ``read_cluster_spec``, ``connect``, ``wait_for_capacity``,
``choose_slots``. Only ``session``, ``nodes``, ``place`` and ``ray_internals`` import ray; none
imports torch.
"""
