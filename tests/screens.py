"""A terminal as a person sees it: a program in a pseudo-terminal, and the picture that its output makes."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pexpect
import pyte
from conftest import PATIENCE, ROOT, wait_for


class Terminal:
    """``columns`` by ``lines``; what has been drawn is read whenever somebody looks."""

    def __init__(self, arguments: tuple[str, ...], env: Mapping[str, str], columns: int, lines: int, cwd: Path) -> None:
        self._picture = pyte.Screen(columns, lines)
        self._stream = pyte.ByteStream(self._picture)
        #: every byte that came
        self.written = b""
        environment = {**env, "TERM": "xterm-256color", "PYTHONPATH": str(ROOT), "LC_ALL": "C.UTF-8"}
        for name in ("COLUMNS", "LINES", "NO_COLOR"):
            environment.pop(name, None)
        self.child = pexpect.spawn(
            sys.executable, ["-m", "task_runner", *arguments],
            env=environment, cwd=str(cwd), dimensions=(lines, columns), timeout=PATIENCE,
        )

    def _read(self) -> None:
        while not self.child.closed:
            try:
                data = self.child.read_nonblocking(1 << 16, timeout=0)
            except (pexpect.TIMEOUT, pexpect.EOF):
                return
            self.written += data
            self._stream.feed(data)

    @property
    def rows(self) -> list[str]:
        """The lines that are seen now."""
        self._read()
        return [line.rstrip() for line in self._picture.display]

    @property
    def text(self) -> str:
        return "\n".join(self.rows)

    def colour_at(self, row: int, column: int) -> str:
        return str(self._picture.buffer[row][column].fg)

    def wait(self, condition: Callable[[str], Any], what: str = "") -> Any:
        """Until this is true of what is seen."""
        try:
            return wait_for(lambda: condition(self.text), what)
        except BaseException:
            print(self.text)
            raise

    def resize(self, columns: int, lines: int) -> None:
        self._read()
        self._picture.resize(lines, columns)
        self.child.setwinsize(lines, columns)

    def end(self) -> int:
        """Its exit code, when it has ended; a signal counts as for a shell."""
        wait_for(lambda: self._read() or not self.child.isalive(), "it ends")
        self._read()
        self.child.close()
        return self.child.exitstatus if self.child.exitstatus is not None else 128 + self.child.signalstatus


@contextmanager
def terminal(*arguments: str, env: Mapping[str, str], cwd: Path, columns: int = 100, lines: int = 24) -> Iterator[Terminal]:
    """`task-runner` with these arguments, looked at; killed at the end, if it is still there."""
    shown = Terminal(arguments, env, columns, lines, cwd)
    try:
        yield shown
    finally:
        shown.child.close(force=True)
