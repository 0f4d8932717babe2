"""Kills at random moments, of every kind in turn."""

import random
import time
from pathlib import Path

from sweep.storage.journal import JOURNAL_NAME

from .campaign import STUCK_SECONDS, Campaign, count_epochs
from .kills import KILLS, SURVIVED, Hung, Missed
from .session import Session
from .sweeps import Mode

MOST_EPOCHS_BETWEEN = 5
MOST_SECONDS_BETWEEN = 25.0
EARLY = 0.3
"""Share of the kills that come after some seconds, so that they also meet a driver that starts."""
TORN = 0.3
"""Share of the deaths in which the journal's next line was half written."""
HALF_LINE = b'{"event":"epoch","time":1767225600.0,"trial_id":"'


class RandomKills(Campaign):
    """Sweeps killed with the kinds in the deck, several times each."""

    def __init__(self, mode: Mode, deck: list[str], draw: random.Random, scratch: Path) -> None:
        super().__init__(mode, deck, scratch)
        self._draw = draw

    def _run_killed(self, folder: Path) -> None:
        """Start, kill and resume until the run has ended by itself."""
        ended = False
        while not ended:
            session = self._start(folder)
            try:
                ended = self._live(session, folder)
            except Hung as fault:
                self._add_difference(folder, str(fault))
                # Not again with the same kill: nothing says that it would not hang as well.
                del self._deck[-1:]
            finally:
                session.clear()
            if not ended and self._draw.random() < TORN:
                self._tear_journal(folder)

    def _live(self, session: Session, folder: Path) -> bool:
        """Kill in one session until the driver is dead; return whether it ended by itself."""
        while self._deck:
            kind = self._deck[-1]
            try:
                self._await_moment(session, folder, early=kind not in SURVIVED)
                KILLS[kind](session, folder, self._draw)
            except Missed:
                if session.exit_code is None:
                    continue
                # A driver that was killed a moment too late has died all the same.
                if session.exit_code < 0:
                    self._count("driver", folder)
                    return False
                break
            self._deck.pop()
            self._count(kind, folder)
            if kind not in SURVIVED:
                return False
        return self._await_end(session, folder)

    def _await_moment(self, session: Session, folder: Path, early: bool) -> None:
        """Wait for a random number of seconds or of epochs; raise Missed if the run ends."""
        if early and self._draw.random() < EARLY:
            session.wait(self._draw.uniform(0, MOST_SECONDS_BETWEEN))
        else:
            more = self._draw.randint(1, MOST_EPOCHS_BETWEEN)
            self._await_epochs(session, folder, count_epochs(folder) + more)
            # Epochs are written down as they end; the kill falls anywhere in the next.
            session.wait(self._draw.uniform(0, 1))
        if session.exit_code is not None:
            raise Missed("the run ended before")

    def _await_epochs(self, session: Session, folder: Path, count: int) -> None:
        deadline = time.monotonic() + STUCK_SECONDS
        while session.wait(0.05) is None and count_epochs(folder) < count:
            if time.monotonic() > deadline:
                raise Hung(f"the run came to no {count} epochs in {STUCK_SECONDS:g} s")

    def _tear_journal(self, folder: Path) -> None:
        """Leave half a line, as a death in the middle of a write does."""
        path = folder / JOURNAL_NAME
        if path.exists():
            with path.open("ab") as file:
                file.write(HALF_LINE[: self._draw.randint(1, len(HALF_LINE))])
            self.counts["torn lines"] += 1


def deal(kills: int, draw: random.Random) -> list[str]:
    """Return ``kills`` kinds in random order, each as often as any other."""
    kinds = list(KILLS)
    deck = [kinds[number % len(kinds)] for number in range(kills)]
    draw.shuffle(deck)
    return deck
