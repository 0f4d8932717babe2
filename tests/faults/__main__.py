"""The command line: `python -m tests.faults` kills sweeps until every kind of death has had its
turn, and says what came out."""

import argparse
import random
import shutil
import signal
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from sweep.storage.journal import JOURNAL_NAME
from sweep.storage.run_folder import CONFIG_NAME

from .comparison import count_rows, list_differences
from .kills import KILLS, SURVIVED, Hung, Missed
from .reader import Reader
from .session import Session
from .sweeps import MODES, Mode, build_environment, write_config

STUCK_SECONDS = 900.0
"""A session on a busy machine needs minutes to start; one that long without an epoch hangs."""
MOST_EPOCHS_BETWEEN = 5
MOST_SECONDS_BETWEEN = 25.0
EARLY = 0.3
"""Share of the kills that come after some seconds, so that they also meet a driver that starts."""
TORN = 0.3
"""Share of the deaths in which the journal's next line was half written."""
HALF_LINE = b'{"event":"epoch","time":1767225600.0,"trial_id":"'


class Campaign:
    """Sweeps of one mode, killed with the kinds in ``deck`` and compared with one left alone."""

    def __init__(self, mode: Mode, deck: list[str], draw: random.Random, scratch: Path) -> None:
        self._mode = mode
        self._deck = deck
        self._draw = draw
        self._scratch = scratch
        self._environment = build_environment(mode, scratch)
        self._config = write_config(mode, scratch)
        self.counts: Counter[str] = Counter()
        self.differences: list[str] = []

    def run(self) -> None:
        """Run the undisturbed sweep, then killed ones until the deck is empty."""
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

    def _run_undisturbed(self, folder: Path) -> None:
        session = self._start(folder)
        try:
            if session.wait(2 * STUCK_SECONDS) != 0:
                raise RuntimeError(f"the undisturbed sweep failed; see {self._log(folder)}")
        finally:
            session.clear()
        _say(f"{self._mode.name}: left alone it took {session.seconds:.0f} s")

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

    def _start(self, folder: Path) -> Session:
        """Start the sweep in ``folder``, or resume it where there is something to resume."""
        where = ["--out", str(folder.parent), "--name", self._mode.name]
        if (folder / JOURNAL_NAME).exists():
            self.counts["resumes"] += 1
            where.append("--resume")
        known = (folder / CONFIG_NAME).exists()
        folder.parent.mkdir(exist_ok=True)
        arguments = where if known else [str(self._config), *where]
        return Session(arguments, self._environment, self._log(folder))

    def _log(self, folder: Path) -> Path:
        return folder.parent / "output.log"

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

    def _count(self, kind: str, folder: Path) -> None:
        self.counts[f"killed: {kind}"] += 1
        left = len(self._deck)
        _say(f"{self._mode.name}: {kind} killed at epoch {_count_epochs(folder)}, {left} to go")

    def _await_moment(self, session: Session, folder: Path, early: bool) -> None:
        """Wait for a random number of seconds or of epochs; raise Missed if the run ends."""
        if early and self._draw.random() < EARLY:
            session.wait(self._draw.uniform(0, MOST_SECONDS_BETWEEN))
        else:
            more = self._draw.randint(1, MOST_EPOCHS_BETWEEN)
            self._await_epochs(session, folder, _count_epochs(folder) + more)
            # Epochs are written down as they end; the kill falls anywhere in the next.
            session.wait(self._draw.uniform(0, 1))
        if session.exit_code is not None:
            raise Missed("the run ended before")

    def _await_epochs(self, session: Session, folder: Path, count: int) -> None:
        deadline = time.monotonic() + STUCK_SECONDS
        while session.wait(0.05) is None and _count_epochs(folder) < count:
            if time.monotonic() > deadline:
                raise Hung(f"the run came to no {count} epochs in {STUCK_SECONDS:g} s")

    def _await_end(self, session: Session, folder: Path) -> bool:
        code = session.wait(STUCK_SECONDS)
        if code is None:
            raise Hung(f"the run did not end in {STUCK_SECONDS:g} s")
        if code:
            self._add_difference(folder, f"the run ended with exit code {code}")
        return True

    def _tear_journal(self, folder: Path) -> None:
        """Leave half a line, as a death in the middle of a write does."""
        path = folder / JOURNAL_NAME
        if path.exists():
            with path.open("ab") as file:
                file.write(HALF_LINE[: self._draw.randint(1, len(HALF_LINE))])
            self.counts["torn lines"] += 1

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
        _say(f"{self._mode.name}: DIFFERENT: {sentence} (see {self._log(folder)})")


def _count_epochs(folder: Path) -> int:
    try:
        return (folder / JOURNAL_NAME).read_bytes().count(b'"event":"epoch"')
    except FileNotFoundError:
        return 0


def _say(line: str) -> None:
    print(f"{time.strftime('%H:%M:%S')}  {line}", flush=True)


def deal(kills: int, draw: random.Random) -> list[str]:
    """Return ``kills`` kinds in random order, each as often as any other."""
    kinds = list(KILLS)
    deck = [kinds[number % len(kinds)] for number in range(kills)]
    draw.shuffle(deck)
    return deck


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the campaigns; return 0 if no table is different from its undisturbed one."""
    parser = argparse.ArgumentParser(prog="python -m tests.faults", description=__doc__)
    parser.add_argument("--seed", type=int, help="of the kinds and moments; left out: random")
    parser.add_argument("--kills", type=int, default=36, help="how many in all (default: 36)")
    options = parser.parse_args(arguments)
    seed = random.randrange(10**6) if options.seed is None else options.seed
    _say(f"seed {seed}")
    # A terminated campaign, too, has to end what it started.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    draw = random.Random(seed)
    deck = deal(options.kills, draw)
    # A short path: Ray's sockets lie below it, and their names may have 107 bytes.
    scratch = Path(tempfile.mkdtemp(prefix="faults-"))
    campaigns = [
        Campaign(mode, deck[number :: len(MODES)], draw, scratch)
        for number, mode in enumerate(MODES)
    ]
    try:
        for campaign in campaigns:
            campaign.run()
    finally:
        different = _report(campaigns)
    if different:
        print(f"the runs are in {scratch}")
        return 1
    shutil.rmtree(scratch)
    return 0


def _report(campaigns: Sequence[Campaign]) -> int:
    """Print what was done and found; return the number of differences."""
    counts: Counter[str] = Counter()
    for campaign in campaigns:
        counts += campaign.counts
    for name, count in sorted(counts.items()):
        print(f"{name}: {count}")
    different = sum(len(campaign.differences) for campaign in campaigns)
    print(f"differences: {different}", flush=True)
    return different


if __name__ == "__main__":
    sys.exit(main())
