"""The report as the last step of a run, loaded before training so that a missing package shows at
once."""

from collections.abc import Callable
from pathlib import Path

from sweep.cli.program import format_command
from sweep.errors import ConfigError, StorageError, explain_cause, first_line


def load_report() -> Callable[[Path], Path]:
    """Return a function that writes the report of a run folder and returns its path, or raises
    StorageError.

    Takes a second or two. Raises ConfigError if a package that the report needs cannot be imported.
    """
    try:
        from analysis.report import write_report
    except ImportError as error:
        raise ConfigError(
            f"the report could not be written: {first_line(error)}; install this package again "
            "with pip, or remove what shadows it from PYTHONPATH"
        ) from error

    def write(folder: Path) -> Path:
        try:
            return write_report(folder)
        except OSError as error:
            command = format_command("analysis.report", str(folder))
            raise StorageError(
                f"{folder}: the report cannot be written ({explain_cause(error)}); all results "
                f"are kept, so write it later with: {command}"
            ) from error

    return write
