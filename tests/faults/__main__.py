"""The command line: `python -m tests.faults` kills sweeps until every kind of death has had its
turn, and says what came out."""

import argparse
import random
import shutil
import signal
import sys
import tempfile
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from .at_random import RandomKills, deal
from .campaign import Campaign, say
from .in_workers.kill_points import POINTS
from .in_writer import WriterKills
from .sweeps import MODES, WRITER_MODES


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the campaigns; return 0 if no table is different from its undisturbed one."""
    parser = argparse.ArgumentParser(prog="python -m tests.faults", description=__doc__)
    parser.add_argument("--seed", type=int, help="of the kinds and moments; left out: random")
    parser.add_argument("--kills", type=int, default=36, help="at random, in all (default: 36)")
    parser.add_argument(
        "--points", nargs="*", choices=POINTS, default=POINTS, help="in a checkpoint's writing"
    )
    options = parser.parse_args(arguments)
    seed = random.randrange(10**6) if options.seed is None else options.seed
    say(f"seed {seed}")
    # A terminated campaign, too, has to end what it started.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    draw = random.Random(seed)
    # A short path: Ray's sockets lie below it, and their names may have 107 bytes.
    scratch = Path(tempfile.mkdtemp(prefix="faults-"))
    deck = deal(options.kills, draw)
    campaigns: list[Campaign] = [
        RandomKills(mode, deck[number :: len(MODES)], draw, scratch)
        for number, mode in enumerate(MODES)
    ]
    campaigns += [WriterKills(mode, list(options.points), scratch) for mode in WRITER_MODES]
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
