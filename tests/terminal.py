"""Programs in a pseudo-terminal."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import pexpect
from conftest import PATIENCE, ROOT

TASK_RUNNER = (sys.executable, "-m", "task_runner")


@contextmanager
def in_terminal(*command: str, env: Mapping[str, str], cwd: Path) -> Iterator[pexpect.spawn]:
    """A program that believes that a person looks at it; killed at the end, if it is still there."""
    environment = {**env, "TERM": "xterm-256color", "PYTHONPATH": str(ROOT), "LC_ALL": "C.UTF-8"}
    child = pexpect.spawn(
        command[0], list(command[1:]), env=environment, cwd=str(cwd), timeout=PATIENCE, encoding="utf-8",
        dimensions=(40, 160), codec_errors="replace",
    )
    try:
        yield child
    finally:
        child.close(force=True)
