"""The studies that come with this package, found by name, and copies of them."""

import re
from itertools import takewhile
from pathlib import Path

from sweep.errors import ConfigError, explain_cause

# Beside sweep/ both in a checkout and where the package is installed.
FOLDER = Path(__file__).resolve().parents[2] / "sweep_configs"
DEFAULT_CONFIG = FOLDER / "quickstart.yaml"
SCHEMA_NAME = "schema.json"
MODELINE = "# yaml-language-server: $schema="


def list_shipped() -> dict[str, Path]:
    """Return the files of the shipped studies by name, in alphabetical order."""
    return {path.stem: path for path in sorted(FOLDER.glob("*.yaml"))}


def find_config(path: Path) -> Path:
    """Return ``path``, or the shipped study that it names where there is no such file: by its name,
    with or without ``.yaml``, alone or below ``sweep_configs``."""
    if path.is_file() or path.parent not in (Path(), Path(FOLDER.name)):
        return path
    shipped = list_shipped()
    found = shipped.get(path.stem) if path.suffix in ("", ".yaml") else None
    return found or path


def describe_shipped(path: Path) -> str:
    """Return the first sentence of a study's own comment, up to a table in it."""
    lines = path.read_text(encoding="utf-8").splitlines()[1:]
    text = " ".join(line[2:] for line in takewhile(re.compile("# [^ ]").match, lines))
    return text.partition(". ")[0].rstrip(".:")


def copy_shipped(path: Path, target: Path) -> None:
    """Write a copy of the study ``path`` to the new file ``target``; its first line names the
    schema by its full address. Raises ConfigError if ``target`` exists or cannot be written."""
    text = path.read_text(encoding="utf-8")
    address = (FOLDER / SCHEMA_NAME).as_uri()
    text = text.replace(f"{MODELINE}{SCHEMA_NAME}\n", f"{MODELINE}{address}\n", 1)
    try:
        with target.open("x", encoding="utf-8") as file:
            file.write(text)
    except FileExistsError:
        raise ConfigError(f"{target}: is there already; choose another --out") from None
    except OSError as error:
        reason = explain_cause(error)
        raise ConfigError(f"{target}: cannot be written ({reason}); choose another --out") from None
