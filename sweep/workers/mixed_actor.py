"""The Tune side of a sweep with packs, in which some trials train alone; it imports torch only for
these."""

from collections.abc import Mapping
from typing import Any

import ray

from sweep.data import Subsets
from sweep.storage.events import EpochResult
from sweep.workers.packed_actor import HostedEngine, PackedTrialActor, find_location
from sweep.workers.solo_actor import build_solo_engine, end_if_late
from sweep.workers.trial_actor import TrialEngine


class MixedTrialActor(PackedTrialActor):
    """Runs one trial after another: those of the models ``alone`` itself, all others on a host."""

    def setup(
        self,
        config: dict[str, Any],
        hosts: Any,
        run_folder: str,
        max_epoch_seconds: float | None = None,
        storage: str | None = None,
        subsets: Subsets | None = None,
        alone: frozenset[str] = frozenset(),
        ahead: Mapping[str, float] | None = None,
    ) -> None:
        """Prepare the actor, once; further trials come through ``reset_config``."""
        self._subsets = subsets
        self._hosts = hosts
        self._alone = alone
        self._ahead = ahead
        self._max_epoch_seconds = max_epoch_seconds
        self._hosted = HostedEngine(hosts, max_epoch_seconds)
        self._own: TrialEngine | None = None
        super().setup(config, hosts, run_folder, max_epoch_seconds, storage)

    def _take(self, config: dict[str, Any]) -> None:
        if config["model"] not in self._alone:
            if self._own is not None:
                self._own.discard()
            self._engine = self._hosted
        else:
            location = find_location()
            if location[1] is not None:
                ray.get(self._hosts.vacate.remote(location), timeout=self._max_epoch_seconds)
            if self._own is None and self._subsets is not None:
                self._own = build_solo_engine(self._subsets, self._scratch, self._ahead)
            self._engine = self._own or self._hosted
        super()._take(config)

    def step(self) -> EpochResult:
        # A hosted trial watches the time by itself: its host may hang, not this process.
        with end_if_late(self._max_epoch_seconds if self._engine is self._own else None):
            return super().step()
