"""A parser of command-line options whose errors are one sentence each, and that lets no option
win silently over an earlier one."""

import argparse
import difflib
import re
from pathlib import Path
from typing import Any, NoReturn

from sweep.config import check_path
from sweep.errors import ConfigError, format_names, format_value, truncate

UNKNOWN = re.compile("unrecognized arguments: (.*)", re.DOTALL)


class Once(argparse.Action):
    """Stores an option's value; refuses another one for the same option."""

    _given: tuple[argparse.Namespace, Any] | None = None

    def __call__(
        self,
        parser: argparse.ArgumentParser,
        namespace: argparse.Namespace,
        values: Any,
        option_string: str | None = None,
    ) -> None:
        """Store ``values``; raise ConfigError if this parse has stored others."""
        if self._given and self._given[0] is namespace and self._given[1] != values:
            first, second = (format_value(str(value)) for value in (self._given[1], values))
            raise ConfigError(f"{option_string} is given twice, {first} and {second}; keep one")
        self._given = namespace, values
        setattr(namespace, self.dest, values)


class OptionParser(argparse.ArgumentParser):
    """argparse's parser, with ConfigError in place of its own exit."""

    def __init__(self, prog: str, description: str, epilog: str | None = None) -> None:
        super().__init__(
            prog=prog,
            description=description,
            epilog=epilog,
            formatter_class=argparse.RawDescriptionHelpFormatter,
        )
        self.register("action", None, Once)

    def error(self, message: str) -> NoReturn:
        """Raise ConfigError with ``message`` and what to do about it."""
        unknown = UNKNOWN.fullmatch(message)
        if unknown:
            raise ConfigError(self._explain_unknown(unknown[1].split()[0]))
        raise ConfigError(f"{truncate(message, 300)}; see {self.prog} --help")

    def _explain_unknown(self, word: str) -> str:
        told = format_value(word)
        if not word.startswith("-"):
            return f"{told} is one argument too many; quote a value that holds spaces"
        name = word.partition("=")[0]
        known = [option for option in self._option_string_actions if option.startswith("--")]
        near = difflib.get_close_matches(name[:80], known, n=1, cutoff=0.7)
        hint = f"did you mean {near[0]}?" if near else f"options are {format_names(known)}"
        return f"{told} is not an option; {hint}"


def read_path(value: str) -> Path:
    """Return the path that an option names; raise ConfigError for an empty one."""
    # Not argparse's own error: Path("") would be the current folder.
    if not value.strip():
        raise ConfigError("an option's path is empty; give one, or leave the option out")
    try:
        return Path(check_path(value)).expanduser()
    except ValueError as error:
        raise ConfigError(str(error)) from None
