"""The errors a user can meet: each is one sentence that says what to do next."""

from sweep.phrases import show_line


class SweepError(Exception):
    """Something the user can fix; the command line prints it and exits with ``exit_code``."""

    exit_code = 2

    def __str__(self) -> str:
        return show_line(super().__str__())


class ConfigError(SweepError):
    """The YAML file or a ``--set`` override is wrong."""


class DataError(SweepError):
    """The data cannot be read, or cannot give the subsets that the grid asks for."""


class ModelError(SweepError):
    """A model or its tokenizer cannot be loaded, or does not fit the recipe."""


class RunFolderError(SweepError):
    """The run folder is in use, not empty, missing, or damaged."""


class StorageError(SweepError):
    """The disk does not take what must be kept; the run ends, and what is written stays."""

    exit_code = 1


class ClusterError(SweepError):
    """The Ray cluster cannot be reached or cannot hold a trial."""
