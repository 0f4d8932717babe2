"""What a user types: `ray up`, `ray exec`, `ray down`; and the shipped files, elsewhere."""

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import yaml
from namespaces import REPO


def ray_command(*arguments: str, **variables: str) -> list[str]:
    """Return the command line of ``ray``."""
    return [sys.executable, "-m", "ray.scripts.scripts", *arguments]


def call_ray(log: Path, *arguments: str, seconds: float = 300, **variables: str) -> str:
    """Run ``ray`` from the top of the working copy; return what it prints, or raise with it."""
    done = subprocess.run(
        ray_command(*arguments),
        cwd=REPO,
        env=os.environ | variables,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=seconds,
        check=False,
    )
    with log.open("a") as file:
        file.write(f"$ ray {' '.join(arguments)}\n{done.stdout}\n")
    if done.returncode:
        raise AssertionError(
            f"ray {' '.join(arguments)} gave {done.returncode}:\n{done.stdout[-6000:]}"
        )
    return done.stdout


def start_ray(log: Path, *arguments: str, **variables: str) -> subprocess.Popen[str]:
    """Start ``ray`` and leave it running; it writes to ``log``."""
    return subprocess.Popen(
        ray_command(*arguments),
        cwd=REPO,
        env=os.environ | variables,
        stdin=subprocess.DEVNULL,
        stdout=log.open("w"),
        stderr=subprocess.STDOUT,
        text=True,
    )


def read_shipped(name: str) -> dict[str, Any]:
    """Return a shipped cluster file."""
    tree: dict[str, Any] = yaml.safe_load((REPO / name).read_text())
    return tree


def write_changed(tree: dict[str, Any], path: Path) -> Path:
    """Write a cluster file for the launcher."""
    path.write_text(yaml.safe_dump(tree, sort_keys=False))
    return path


def keep_small(tree: dict[str, Any]) -> None:
    """Let every node take little memory: many of them share this machine."""
    for key in ("head_start_ray_commands", "worker_start_ray_commands"):
        tree[key] = [
            command.replace("ray start", "ray start --object-store-memory=150000000")
            for command in tree[key]
        ]
