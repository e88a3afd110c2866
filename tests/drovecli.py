"""The real command line tool of Drove, `drove` of the package drove-cli, run as a user does."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from conftest import PATIENCE, Daemon
from nursery import PIPE, Forked

#: beside the interpreter that runs the tests
COMMAND = Path(sys.executable).parent / "drove"


class DroveCli:
    """A user with a file of clusters in a home directory of its own."""

    def __init__(self, daemon: Daemon, home: Path) -> None:
        self.home = home
        self.config = home / "clusters.ini"
        self.config.write_text(
            "[DEFAULT]\ncurrent_cluster = here\n"
            f"[here]\nendpoint = {daemon.url}\nusername = admin\npassword = {daemon.token}\n"
            f"[raw]\nendpoint = {daemon.url}\nauth_header = {daemon.token}\n"
            f"[stranger]\nendpoint = {daemon.url}\nusername = admin\npassword = wrong\n"
        )
        self.env = {**os.environ, "HOME": str(home), "PYTHONUNBUFFERED": "1", "COLUMNS": "200"}

    def run(self, *arguments: str) -> str:
        """All that it prints, forked from a process that has loaded it: its imports take longer than what it does. It
        says nothing by its exit code, which is 0 whatever happens."""
        drove = Forked("drove", *self._with_file(arguments), env=self.env, cwd=self.home, stdout=PIPE, stderr=PIPE)
        try:
            out, err = drove.communicate(timeout=PATIENCE)
            return printed(drove.wait(), out, err)
        finally:
            drove.close()

    def run_anew(self, *arguments: str) -> str:
        """The same, with an interpreter of its own."""
        drove = self.start(*arguments)
        out, err = drove.communicate(timeout=PATIENCE)
        return printed(drove.returncode, out, err)

    def start(self, *arguments: str) -> subprocess.Popen[bytes]:
        """Begin what does not end by itself, with an interpreter of its own."""
        return subprocess.Popen(
            [COMMAND, *self._with_file(arguments)], env=self.env, cwd=self.home, stdin=subprocess.DEVNULL,
            stdout=PIPE, stderr=PIPE, bufsize=0,
        )  # fmt: skip

    def _with_file(self, arguments: tuple[str, ...]) -> list[str]:
        return ["-f", str(self.config), *arguments]


def printed(code: int, out: bytes, err: bytes) -> str:
    """What it has printed, which is not that it has met what it did not expect."""
    said = out.decode()
    assert (code, err.decode()) == (0, "")
    assert "Drove CLI error" not in said and "Traceback" not in said, said
    return said


def table(printed: str) -> list[dict[str, str]]:
    """The rows of a printed table, by its headers."""
    header, rule, *lines = printed.splitlines()
    assert set(rule) == {"-", " "}
    places, at = [], 0
    for piece in rule.split("  "):
        places.append(slice(at, at + len(piece)))
        at += len(piece) + 2
    names = [header[place].strip() for place in places]
    return [dict(zip(names, (line[place].strip() for place in places), strict=True)) for line in lines]


def pairs(printed: str) -> dict[str, str]:
    """What is printed as a name, in a column of 30, and a value."""
    return {line[:30].strip(): line[30:].strip() for line in printed.splitlines()}
