"""The errors a user can meet: each is one sentence that says what to do next."""


class SweepError(Exception):
    """Something the user can mend; the command line prints it and exits with code 2."""


class ConfigError(SweepError):
    """The YAML file or a ``--set`` override is wrong."""


class DataError(SweepError):
    """The data cannot be read, or cannot give the subsets that the grid asks for."""


class ModelError(SweepError):
    """A model or its tokenizer cannot be loaded, or does not fit the recipe."""


class RunFolderError(SweepError):
    """The run folder is in use, not empty, missing, or damaged."""


class ClusterError(SweepError):
    """The Ray cluster cannot be reached or cannot hold a trial."""
