"""What a run leaves on disk, and how it is read again.

``journal`` is a run's only state: an append-only log of the events declared in ``events`` and
checked by ``event_reader``. ``record`` adds them up, ``history`` keeps their epochs small,
``unmarked`` reads older journals; ``tables`` makes the Parquet files. ``run_folder``,
``checkpoints``, ``folders``, ``manifest`` and ``atomic`` keep files; ``account``, ``forecast``,
``orphans`` and ``failed_baselines`` say what a run is about.

Doors: ``Journal``, ``read_events``, ``replay``, ``RunRecord``, ``write_tables``, ``open_store``,
``open_run_folder``. They are imported from their modules: an actor that reads one enum should not
load pyarrow. Never imports torch, transformers, peft or ray, nor anything above sweep.plan.
"""
