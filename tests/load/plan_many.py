"""Times ``python -m sweep.run --dry-run`` over ten thousand trials."""

import contextlib
import io
import tempfile
from pathlib import Path

from big_run import SHAPES, write_config
from measure import timed

from sweep.run import main as run


def main() -> None:
    """Print what a dry run takes, as text and as JSON."""
    with tempfile.TemporaryDirectory() as place:
        for name in SHAPES:
            config = str(write_config(name, Path(place)))
            for options in ([], ["--json"]):
                with timed(f"dry run of {name} {' '.join(options)}"):
                    output = io.StringIO()
                    with contextlib.redirect_stdout(output):
                        run([config, "--dry-run", "--out", place, *options])
                    assert output.getvalue()


if __name__ == "__main__":
    main()
