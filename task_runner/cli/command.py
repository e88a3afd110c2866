"""The command of a task as it is typed: what `run` and `batch run` have in common."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any, TypeVar

import click

from task_runner.cli.terms import terms

F = TypeVar("F", bound=Callable[..., Any])

_OPTIONS = [
    click.option("--shell", is_flag=True, help="Give the words of CMD, with blanks between, to /bin/sh -c."),
    click.option("--env", "-e", multiple=True, metavar="NAME[=VALUE]", help="A variable; without VALUE, yours."),
    click.option("--cwd", metavar="DIR", help="Where to run. [the current directory]"),
    click.option("--work-dir", is_flag=True, help="Run in the task's own directory; so it does with --file."),
]


def command_options(command: F) -> F:
    """Add the options; `task_body` takes what they give."""
    for option in reversed(_OPTIONS):
        command = option(command)
    return command


def task_body(
    *,
    local: bool,
    command: tuple[str, ...],
    shell: bool = False,
    env: tuple[str, ...] = (),
    cwd: str | None = None,
    work_dir: bool = False,
    **given: Any,
) -> dict[str, Any]:
    """What to POST. ``local``: the daemon's directories are ours. ``given``: what `terms` takes."""
    if cwd is not None and work_dir:
        raise click.UsageError("--cwd and --work-dir exclude each other")
    own = work_dir or (cwd is None and given.get("files"))
    wanted: dict[str, Any] = {
        "workingDirectory": None if own else _directory(cwd, local),
        "env": dict(_variable(each) for each in env),
    }
    what: dict[str, Any] = {"shell": " ".join(command)} if shell else {"command": list(command)}
    return what | {name: value for name, value in wanted.items() if value} | terms(given)


def _directory(cwd: str | None, local: bool) -> str | None:
    if not local:
        return cwd  # the current directory means nothing on another machine
    return os.path.abspath(cwd or ".")


def _variable(text: str) -> tuple[str, str]:
    name, equals, value = text.partition("=")
    if equals:
        return name, value
    if name not in os.environ:
        raise click.UsageError(f"--env {name}: there is no such variable in your environment")
    return name, os.environ[name]
