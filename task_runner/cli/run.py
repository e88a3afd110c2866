"""`task-runner run`: a command as a task, as if it had been started here."""

from __future__ import annotations

import io
import os
import secrets
import sys
from typing import Any

import click

from task_runner.cli import exitcode
from task_runner.cli.edge import Session, pass_session
from task_runner.cli.foreground import Foreground
from task_runner.cli.output import emit, json_option, say
from task_runner.client import Task
from task_runner.errors import InvalidRequest
from task_runner.lib import signals

#: characters of standard input that a task takes (model/spec.py)
MAX_STDIN = 1_048_576

_number = click.FloatRange(min=0)


@click.command(context_settings={"allow_interspersed_args": False})
@click.argument("command", metavar="[--] CMD…", nargs=-1, required=True)
@click.option("--detach", "-d", is_flag=True, help="Print the task's id and leave it running.")
@click.option("--shell", is_flag=True, help="Give the words of CMD, with blanks between, to /bin/sh -c.")
@click.option("--env", "-e", multiple=True, metavar="NAME[=VALUE]", help="A variable; without VALUE, yours.")
@click.option("--cwd", metavar="DIR", help="Where to run. [the current directory]")
@click.option("--work-dir", is_flag=True, help="Run in the task's own working directory.")
@click.option("--stdin", "with_stdin", is_flag=True, help="Read standard input (text) and give it to the command.")
@click.option("--name", metavar="NAME", help="A name for people.")
@click.option("--tag", "-t", multiple=True, metavar="KEY=VALUE", help="For filters; again for more.")
@click.option(
    "--timeout",
    type=click.FloatRange(min=0, min_open=True),
    metavar="SECONDS",
    help="Stop it when it has run so long.",
)
@click.option("--grace", type=_number, metavar="SECONDS", help="From the polite signal to SIGKILL. [10]")
@click.option("--stop-signal", metavar="NAME", help="The polite signal. [SIGTERM]")
@json_option
@pass_session
@click.pass_context
def run(ctx: click.Context, session: Session, /, detach: bool, as_json: bool, **given: Any) -> None:
    """Run CMD as a task: show its output, end with its exit code.

    SIGINT (Ctrl-C) and SIGTERM stop the task and wait for its end; a second one leaves it no grace. If `run`
    itself is killed or loses its terminal the task goes on, and `task-runner logs -f ID` shows it. So it does
    if the daemon is restarted: `run` waits for the daemon and goes on at the same byte.

    stdout and stderr of the command come as one stream. With --json the task is printed in place of its output.
    """
    session.failure = exitcode.RUN_FAILED
    key = secrets.token_hex(16)
    with session.client() as client:
        body = task_body(local=client.local, **given)
        if detach:
            task = client.submit(body, key)
            emit(task) if as_json else click.echo(task["taskId"])
            return
    with Foreground(session) as foreground:
        task = foreground.run(body, key, show=not as_json)
    if as_json:
        emit(task)
    _explain(task)
    ctx.exit(exitcode.of_task(task))


def _explain(task: Task) -> None:
    """Say what an exit code alone does not tell."""
    outcome, task_id = task["outcome"], task["taskId"]
    if outcome == "lost":
        say(f"task {task_id} is lost: nobody saw how it ended. {task['error'] or ''}")
    elif outcome == "timed_out":
        say(f"task {task_id} was stopped by its time limit")
    elif task["error"] and task["exitCode"] is None:
        say(f"task {task_id}: {task['error']}")
    if task["receipt"] and task["receipt"]["survivors"]:
        say(f"task {task_id} left processes that could not be killed: `task-runner show {task_id}`")


def task_body(
    *,
    local: bool,
    command: tuple[str, ...],
    shell: bool = False,
    env: tuple[str, ...] = (),
    cwd: str | None = None,
    work_dir: bool = False,
    with_stdin: bool = False,
    name: str | None = None,
    tag: tuple[str, ...] = (),
    timeout: float | None = None,
    grace: float | None = None,
    stop_signal: str | None = None,
) -> dict[str, Any]:
    """What to POST. ``local``: the daemon's directories are ours."""
    if cwd is not None and work_dir:
        raise click.UsageError("--cwd and --work-dir exclude each other")
    wanted: dict[str, Any] = {
        "workingDirectory": None if work_dir else _directory(cwd, local),
        "env": dict(_variable(each) for each in env),
        "stdin": _stdin() if with_stdin else None,
        "name": name,
        "tags": dict(_pair(each) for each in tag),
        "timeoutSeconds": timeout,
        "graceSeconds": grace,
        "stopSignal": None if stop_signal is None else _signal(stop_signal),
    }
    what: dict[str, Any] = {"shell": " ".join(command)} if shell else {"command": list(command)}
    return what | {name: value for name, value in wanted.items() if value not in (None, {})}


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


def _pair(text: str) -> tuple[str, str]:
    key, equals, value = text.partition("=")
    if not equals:
        raise click.UsageError(f"--tag {text}: KEY=VALUE is expected")
    return key, value


def _signal(text: str) -> str:
    try:
        return signals.name_of(signals.parse(text))
    except ValueError as error:
        raise click.UsageError(f"--stop-signal: {error}") from None


def _stdin() -> str:
    try:
        text = io.TextIOWrapper(sys.stdin.buffer, encoding="utf-8", newline="").read(MAX_STDIN + 1)
    except UnicodeDecodeError as error:
        raise InvalidRequest(f"standard input is not text: {error}") from None
    if len(text) > MAX_STDIN:
        raise InvalidRequest(f"standard input has more than {MAX_STDIN} characters; give the command a file")
    return text
