"""What every campaign of kills does: run a sweep that is left alone, and compare others with it."""

import time
from abc import ABC, abstractmethod
from collections import Counter
from pathlib import Path

from sweep.storage.journal import JOURNAL_NAME
from sweep.storage.run_folder import CONFIG_NAME

from .comparison import count_rows, list_differences
from .kills import Hung
from .reader import Reader
from .session import Session
from .sweeps import Mode, build_environment, write_config

STUCK_SECONDS = 900.0
"""A session on a busy machine needs minutes to start; one that long without an epoch hangs."""


class Campaign(ABC):
    """Sweeps of one mode, killed as a subclass does it until its ``deck`` is empty."""

    def __init__(self, mode: Mode, deck: list[str], scratch: Path) -> None:
        self._mode = mode
        self._deck = deck
        self._scratch = scratch
        self._environment = build_environment(mode, scratch)
        self._config = write_config(mode, scratch)
        self.counts: Counter[str] = Counter()
        self.differences: list[str] = []

    def run(self) -> None:
        """Run the undisturbed sweep, then killed ones until the deck is empty."""
        if not self._deck:
            return
        expected = self._scratch / "undisturbed" / self._mode.name
        self._run_undisturbed(expected)
        number = 0
        while self._deck:
            number += 1
            folder = self._scratch / f"killed-{number}" / self._mode.name
            with Reader(folder) as reader:
                self._run_killed(folder)
            self.counts["reads of a table"] += reader.table_reads
            self.counts["reads of the journal"] += reader.journal_reads
            self._compare(expected, folder, reader.faults)

    @abstractmethod
    def _run_killed(self, folder: Path) -> None:
        """Take from the deck, start, kill and resume until the run in ``folder`` has ended."""

    def _run_undisturbed(self, folder: Path) -> None:
        session = self._start(folder)
        try:
            if session.wait(2 * STUCK_SECONDS) != 0:
                raise RuntimeError(f"the undisturbed sweep failed; see {self._log(folder)}")
        finally:
            session.clear()
        say(f"{self._mode.name}: left alone it took {session.seconds:.0f} s")

    def _start(self, folder: Path, **variables: str) -> Session:
        """Start the sweep in ``folder``, or resume it where there is something to resume, with more
        environment ``variables``."""
        where = ["--out", str(folder.parent), "--name", self._mode.name]
        if (folder / JOURNAL_NAME).exists():
            self.counts["resumes"] += 1
            where.append("--resume")
        known = (folder / CONFIG_NAME).exists()
        folder.parent.mkdir(exist_ok=True)
        arguments = where if known else [str(self._config), *where]
        return Session(arguments, self._environment | variables, self._log(folder))

    def _log(self, folder: Path) -> Path:
        return folder.parent / "output.log"

    def _await_end(self, session: Session, folder: Path) -> bool:
        code = session.wait(STUCK_SECONDS)
        if code is None:
            raise Hung(f"the run did not end in {STUCK_SECONDS:g} s")
        if code:
            self._add_difference(folder, f"the run ended with exit code {code}")
        return True

    def _count(self, kind: str, folder: Path) -> None:
        self.counts[f"killed: {kind}"] += 1
        left = len(self._deck)
        say(f"{self._mode.name}: {kind} killed at epoch {count_epochs(folder)}, {left} to go")

    def _compare(self, expected: Path, folder: Path, faults: list[str]) -> None:
        for sentence in faults:
            self._add_difference(folder, sentence)
        try:
            for sentence in list_differences(expected, folder):
                self._add_difference(folder, sentence)
            self.counts["trials and baselines compared"] += count_rows(folder)
        except (OSError, ValueError) as error:
            self._add_difference(folder, str(error))

    def _add_difference(self, folder: Path, sentence: str) -> None:
        self.differences.append(f"{folder}: {sentence}")
        say(f"{self._mode.name}: DIFFERENT: {sentence} (see {self._log(folder)})")


def count_epochs(folder: Path) -> int:
    """Return how many epochs the journal has."""
    try:
        return (folder / JOURNAL_NAME).read_bytes().count(b'"event":"epoch"')
    except FileNotFoundError:
        return 0


def say(line: str) -> None:
    """Print ``line`` with the time."""
    print(f"{time.strftime('%H:%M:%S')}  {line}", flush=True)
