"""Standard output and error that are closed, full or narrow: the work continues, with its own exit
code and without a word about pipes."""

import os
import pty
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from ray_runs import ONE_WORKER

from sweep.storage.journal import read_events
from sweep.storage.record import replay

WriteConfig = Callable[..., Path]

TALK = """
import sys
from sweep.startup.streams import steady_streams
steady_streams()
for number in range(2000):
    print("a line", number, flush=number == 7)
    print("and one more", file=sys.stderr)
sys.exit(1)
"""


def broken_pipe() -> int:
    """Return the writing end of a pipe that nobody reads."""
    reader, writer = os.pipe()
    os.close(reader)
    return writer


def closed_terminal() -> int:
    """Return a terminal whose other side is closed."""
    master, slave = pty.openpty()
    os.close(master)
    return slave


def full_disk() -> int:
    return os.open("/dev/full", os.O_WRONLY)


def run_python(*words: str, env: dict[str, str] | None = None, **streams: int) -> tuple[int, str]:
    """Run Python; return its exit code and its standard error, which is read."""
    streams = {"stderr": subprocess.PIPE, **streams}
    command = [sys.executable, *words]
    done = subprocess.run(command, timeout=120, env={**os.environ, **(env or {})}, **streams)
    return done.returncode, (done.stderr or b"").decode()


def run_shell(redirections: str, *words: str) -> int:
    """Run Python with ``redirections`` of the shell; return its exit code."""
    script = f'exec "$@" {redirections}'
    command = ["bash", "-c", script, "bash", sys.executable, *words]
    return subprocess.run(command, timeout=120, check=False).returncode


@pytest.mark.parametrize("open_stream", [broken_pipe, closed_terminal])
def test_reader_that_left_is_not_mentioned(open_stream: Callable[[], int]) -> None:
    code, errors = run_python("-c", TALK, stdout=open_stream())
    assert code == 1
    assert set(errors.splitlines()) <= {"and one more", EIO_NOTE}
    assert "BrokenPipe" not in errors


EIO_NOTE = "note: cannot write to standard output (Input/output error)"


def test_full_disk_is_reported_once() -> None:
    code, errors = run_python("-c", TALK, stdout=full_disk())
    lines = [line for line in errors.splitlines() if line != "and one more"]
    assert code == 1
    assert lines == ["note: cannot write to standard output (No space left on device)"]


@pytest.mark.parametrize("open_stream", [broken_pipe, closed_terminal, full_disk])
def test_lost_standard_error_ends_nothing(open_stream: Callable[[], int]) -> None:
    stream = open_stream()
    assert run_python("-c", TALK, stdout=stream, stderr=stream) == (1, "")


@pytest.mark.parametrize("redirections", [">&-", "2>&-", ">&- 2>&-", "<&- >&- 2>&-"])
def test_stream_closed_at_the_start_leads_nowhere(redirections: str) -> None:
    quiet = ">/dev/null" if ">&-" not in redirections.replace("2>&-", "") else ""
    assert run_shell(f"{quiet} {redirections}", "-c", TALK) == 1


def test_file_opened_later_does_not_get_the_number_of_a_closed_stream(tmp_path: Path) -> None:
    code = (
        "import os, sys\n"
        "from sweep.startup.streams import steady_streams\n"
        "steady_streams()\n"
        f"file = open({str(tmp_path / 'journal')!r}, 'w')\n"
        "os.system('echo stray; echo stray >&2')\n"
        "sys.exit(file.fileno())"
    )
    assert run_shell(">&- 2>&-", "-c", code) > 2
    assert (tmp_path / "journal").read_text() == ""


def test_reader_that_is_slow_gets_every_line_though_the_pipe_does_not_block() -> None:
    reader, writer = os.pipe()
    os.set_blocking(writer, False)
    code = (
        "from sweep.startup.streams import steady_streams\nsteady_streams()\nprint('x' * 1_000_000)"
    )
    with subprocess.Popen([sys.executable, "-c", code], stdout=writer) as talker:
        os.close(writer)
        with os.fdopen(reader, "rb") as file:
            assert len(file.read()) == 1_000_001
    assert talker.returncode == 0


@pytest.mark.parametrize("encoding", ["ascii", "latin-1", "utf-8"])
def test_character_that_the_encoding_lacks_appears_as_its_code(encoding: str) -> None:
    code = (
        "from sweep.startup.streams import steady_streams; steady_streams(); "
        "print('\\u2603 \\udc80')"
    )
    command = [sys.executable, "-c", code]
    environment = {**os.environ, "PYTHONIOENCODING": encoding}
    done = subprocess.run(command, capture_output=True, check=True, env=environment)
    snowman = "\u2603" if encoding == "utf-8" else "\\u2603"
    assert done.stdout.decode(encoding) == f"{snowman} \\udc80\n"


def test_streams_that_stand_in_for_pythons_own_are_left_alone(
    capsys: pytest.CaptureFixture[str],
) -> None:
    from sweep.startup.streams import steady_streams

    before = sys.stdout, sys.stderr
    steady_streams()
    assert (sys.stdout, sys.stderr) == before


@pytest.mark.parametrize("words", [["--dry-run"], ["--dry-run", "--json"], ["--help"]])
def test_planning_into_a_closed_pipe_has_its_own_exit_code(words: list[str]) -> None:
    assert run_python("-m", "sweep.run", *words, stdout=broken_pipe()) == (0, "")


def test_dry_run_that_finds_an_error_says_so_to_a_closed_pipe() -> None:
    words = ["--dry-run", "--set", "grid.n_samples=[90000]"]
    assert run_python("-m", "sweep.run", *words, stdout=broken_pipe()) == (2, "")


def test_report_and_export_survive_a_closed_pipe(tmp_path: Path) -> None:
    for module in ("analysis.report", "sweep.export"):
        assert run_python("-m", module, "--help", stdout=broken_pipe()) == (0, "")


@pytest.mark.parametrize("open_stream", [broken_pipe, closed_terminal])
def test_run_continues_to_its_report_when_nobody_watches(
    open_stream: Callable[[], int], write_config: WriteConfig, tmp_path: Path
) -> None:
    grid = {"models": [{"name": "tiny", "path": "tiny:llama"}], "n_labels": [2], "n_samples": [16]}
    config = write_config(grid=grid, baselines=[], data={"max_eval_per_label": 6})
    stream = open_stream()
    words = ["-m", "sweep.run", str(config), "--out", str(tmp_path), *ONE_WORKER]
    assert run_python(*words, stdout=stream, stderr=stream) == (0, "")
    assert (tmp_path / "small" / "report.html").is_file()
    assert len(replay(read_events(tmp_path / "small")).done()) == 2
