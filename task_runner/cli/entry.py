"""Where the command `task-runner` begins: what is to be put right before anything else is loaded."""

from __future__ import annotations

import io
import os
import signal
import sys

from task_runner.cli.encoding import is_utf8


def main() -> None:
    """The command `task-runner`."""
    python_s_own = signal.getsignal(signal.SIGINT) is signal.default_int_handler
    if python_s_own:  # else it is ignored, and stays so
        signal.signal(signal.SIGINT, signal.SIG_DFL)  # whoever is interrupted now has nothing to put in order
    prepare()
    from task_runner.cli.main import cli

    if python_s_own:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    cli(prog_name="task-runner")


def prepare() -> None:
    """Standard streams that every verb can use.

    What is closed is /dev/null from now on; otherwise the next connection would take its number. What the encoding of
    the terminal does not have is escaped: a name in another script is no reason to end.
    """
    for fd, (name, mode) in enumerate((("stdin", "r"), ("stdout", "w"), ("stderr", "w"))):
        if getattr(sys, name) is None:
            found = os.open(os.devnull, os.O_RDWR)  # the lowest number that is free
            os.set_inheritable(found, found == fd)
            setattr(sys, name, open(found, mode, encoding="utf-8"))  # noqa: SIM115  until the end
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper) and (stream.errors == "strict" or not is_utf8(stream.encoding)):
            stream.reconfigure(errors="backslashreplace")
