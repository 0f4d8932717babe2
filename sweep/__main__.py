"""``sweep``, the console script, and ``python -m sweep``: all programs of this package under one
name.

argparse parses the options of each. Its own subparsers are not used: each program keeps the parser
that ``python -m`` gives it, and is imported once it is chosen, so a report or a plan starts without
waiting for what trains. A library for command lines (Typer, click) would add a dependency and a
second way of declaring options, and change none of this.
"""

import sys
from collections.abc import Sequence
from importlib import import_module
from pathlib import Path

from sweep.startup.search_path import leave_current_folder

# Subcommand -> the module whose ``main`` it is, and what it does.
COMMANDS = {
    "init": ("sweep.drafting.cli", "write a study for your data that fits a time budget"),
    "run": ("sweep.run", "run a study, or resume one"),
    "plan": ("sweep.run", "print what a study would run, how long, and what is wrong"),
    "attach": ("sweep.run", "watch a sweep from another terminal"),
    "report": ("analysis.report", "write a run's report again"),
    "export": ("sweep.export.cli", "write a run's best model as a folder"),
    "predict": ("sweep.prediction.cli", "label new texts with an exported model"),
    "configs": ("sweep.cli.configs", "list the studies that come along, or copy one"),
    "doctor": ("sweep.doctor.cli", "check this machine and what is installed"),
}

USAGE = f"""\
usage: sweep COMMAND [OPTIONS]

Which language model to fine-tune, with how many labels and examples, at what cost, and is the
difference real?

commands:
{chr(10).join(f"  {name:9}{words}" for name, (_, words) in COMMANDS.items())}

  sweep COMMAND --help    its options
  sweep --version         the version of this package

examples:
  sweep run                            the quickstart: 48 cells, no download
  sweep init texts.csv --budget 1h     a study of your own, in study.yaml
  sweep plan study.yaml
  sweep run study.yaml
"""


def start() -> None:
    """Start the console script."""
    # Before any other import, each of which could find a file of the user's instead.
    leave_current_folder(str(Path(__file__).parent))
    sys.exit(main())


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; return its exit code."""
    from sweep.cli.outcome import run_command

    given = list(sys.argv[1:] if arguments is None else arguments) or ["--help"]
    return run_command(lambda: _choose(given), "interrupted")


def _choose(given: list[str]) -> int:
    from sweep.startup.namesake import refuse_namesake

    refuse_namesake()
    if given[0] in COMMANDS:
        return _run(given[0], given[1:])
    return _answer(given[0])


def _run(command: str, arguments: list[str]) -> int:
    module, _ = COMMANDS[command]
    program = import_module(module).main
    code = program(arguments, command) if module == "sweep.run" else program(arguments)
    return int(code)


def _answer(word: str) -> int:
    """Print help or the version; raise ConfigError for a ``word`` that is no command."""
    if word in ("-h", "--help", "help"):
        print(USAGE, end="")
        return 0
    if word in ("-V", "--version"):
        from sweep import __version__
        from sweep.startup.namesake import DISTRIBUTION

        print(f"{DISTRIBUTION} {__version__}")
        return 0
    from difflib import get_close_matches

    from sweep.errors import ConfigError, format_names, format_value

    near = get_close_matches(word[:80], COMMANDS, n=1)
    hint = f"did you mean {near[0]}?" if near else f"choose one of {format_names(COMMANDS)}"
    if word.startswith("--") or Path(word[:80]).suffix in (".yaml", ".yml"):
        hint = "to run a study, write sweep run before it"
    raise ConfigError(f"{format_value(word)} is not a command of sweep; {hint}")


if __name__ == "__main__":
    sys.exit(main())
