"""The report as the last step of a run: made ready before training, so that nothing it needs can
be missing afterwards."""

from collections.abc import Callable
from pathlib import Path

from sweep.errors import ConfigError, StorageError, first_line


def load_report() -> Callable[[Path], Path]:
    """Return what writes the report of a run folder, and returns its path or raises StorageError.

    Takes a second or two. Raises ConfigError if a package that the report needs cannot be imported.
    """
    try:
        from analysis.report import write_report
    except ImportError as error:
        raise ConfigError(
            f"the report could not be written: {first_line(error)}; install this package again "
            "with pip, or take what hides it off PYTHONPATH"
        ) from error

    def write(folder: Path) -> Path:
        try:
            return write_report(folder)
        except OSError as error:
            raise StorageError(
                f"{folder}: the report cannot be written ({error.strerror or error}); all results "
                f"are kept, so write it later with: python -m analysis.report {folder}"
            ) from error

    return write
