"""What a part finds: rows of tables and checks, in a JSON file that is up to date at all times."""

import json
import math
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from sweep.errors import format_error
from sweep.storage.atomic import replace_file

# A text, a count, a measure; None where there is none.
Value = str | int | float | bool | None
Row = dict[str, Value]


@dataclass
class Findings:
    """Rows by table, names and details of checks, and remarks of one part.

    ``skipped`` is why the part was not started, ``cut`` why it was ended before it was done, and
    ``error`` what went wrong.
    """

    part: str
    path: Path
    tables: dict[str, list[Row]] = field(default_factory=dict)
    checks: list[Row] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    seconds: float = 0.0
    skipped: str = ""
    cut: str = ""
    error: str = ""

    def add(self, table: str, **row: Value) -> None:
        """Add a row to ``table``."""
        self.tables.setdefault(table, []).append(row)
        print(f"  {self.part}: {format_row(row)}", flush=True)
        self.write()

    def check(self, name: str, passed: bool, **detail: Value) -> None:
        """Add the outcome of a check; one that did not pass is a wrong result."""
        self.checks.append({"check": name, "passed": passed, **detail})
        print(f"  {self.part}: {format_row(self.checks[-1])}", flush=True)
        self.write()

    @contextmanager
    def attempt(self, name: str) -> Iterator[None]:
        """Make an exception in the block a failed check, so that the part goes on."""
        try:
            yield
        except Exception as error:
            traceback.print_exc()
            self.check(name, False, error=format_error(error))

    def note(self, text: str) -> None:
        """Add a remark, such as what could not be measured and why."""
        self.notes.append(text)
        print(f"  {self.part}: {text}", flush=True)
        self.write()

    def write(self) -> None:
        tree = asdict(self) | {"path": str(self.path), "outcome": self.outcome}
        with replace_file(self.path) as file:
            file.write(json.dumps(_without_nan(tree), indent=1).encode())

    @property
    def failed_checks(self) -> list[Row]:
        return [row for row in self.checks if not row["passed"]]

    @property
    def outcome(self) -> str:
        """``FAILED`` if a result is wrong or there is an error, whatever else there is."""
        if self.error or self.failed_checks:
            return "FAILED"
        return "skipped" if self.skipped else "unfinished" if self.cut else "passed"


def read_findings(part: str, path: Path) -> Findings:
    """Return what the part has written to ``path``; nothing, if there is no such file."""
    if not path.is_file():
        return Findings(part, path)
    tree = json.loads(path.read_text())
    del tree["outcome"]
    return Findings(**tree | {"path": path})


def format_row(row: Row) -> str:
    return ", ".join(f"{name} {format_value(value)}" for name, value in row.items())


def format_value(value: Value) -> str:
    if value is None:
        return "-"
    if isinstance(value, bool):
        return "yes" if value else "NO"
    if not isinstance(value, float):
        return str(value)
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.3g}"


def format_table(rows: list[Row]) -> str:
    """Return ``rows`` as a Markdown table of all their columns."""
    columns = list(dict.fromkeys(name for row in rows for name in row))
    lines = [columns, ["---"] * len(columns)]
    lines += [[format_value(row.get(name)) for name in columns] for row in rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def format_summary(found: list[Findings]) -> str:
    """Return the outcome of every part, all tables and what failed, in Markdown."""
    parts: list[Row] = [
        {"part": one.part, "outcome": one.outcome, "checks": len(one.checks),
         "failed": len(one.failed_checks), "seconds": one.seconds}
        for one in found
    ]  # fmt: skip
    blocks = ["## Parts", format_table(parts)]
    for one in found:
        tables = one.tables | ({"checks": one.checks} if one.checks else {})
        blocks += [f"### {one.part}: {name}\n\n{format_table(r)}" for name, r in tables.items()]
        blocks += [f"- {one.part}: {note}" for note in (*one.notes, one.cut) if note]
    failed = [f"- {one.part}: {format_row(row)}" for one in found for row in one.failed_checks]
    failed += [f"- {one.part}: {one.error}" for one in found if one.error]
    return "\n\n".join([*blocks, "## Failed" if failed else "Nothing failed.", *failed])


def _without_nan(value: Any) -> Any:
    # JSON has no word for them.
    if isinstance(value, dict):
        return {name: _without_nan(each) for name, each in value.items()}
    if isinstance(value, list):
        return [_without_nan(each) for each in value]
    return str(value) if isinstance(value, float) and not math.isfinite(value) else value
