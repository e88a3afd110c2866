"""`task-runner run`: a command as a task, as if it had been started here."""

from __future__ import annotations

import io
import sys
from typing import Any

import click

from task_runner.cli import exitcode, templates
from task_runner.cli.command import command_options, task_body
from task_runner.cli.edge import Session, pass_session
from task_runner.cli.foreground import TaskInForeground
from task_runner.cli.output import emit, json_option, say
from task_runner.cli.suggest import TEMPLATE
from task_runner.cli.terms import term_options, terms
from task_runner.cli.values import pair, reading
from task_runner.client import Task
from task_runner.client.core import new_key
from task_runner.errors import InvalidRequest

#: characters of standard input that a task takes (model/spec.py)
MAX_STDIN = 1_048_576


@click.command(context_settings={"allow_interspersed_args": False})
@click.argument("command", metavar="[--] CMD…", nargs=-1)
@click.option(
    "--template",
    metavar="NAME",
    shell_complete=TEMPLATE,
    help="Make the task of this template of the server, in place of CMD.",
)
@click.option(
    "--parameter",
    "-p",
    "values",
    multiple=True,
    callback=reading(pair),
    metavar="KEY=VALUE",
    help="A value for the template.",
)
@click.option("--detach", "-d", is_flag=True, help="Print the task's id and leave it running.")
@command_options
@click.option("--stdin", "with_stdin", is_flag=True, help="Give the command what comes on standard input.")
@term_options
@json_option
@pass_session
@click.pass_context
def run(
    ctx: click.Context,
    session: Session,
    /,
    template: str | None,
    values: tuple[tuple[str, str], ...],
    detach: bool,
    with_stdin: bool,
    as_json: bool,
    **given: Any,
) -> None:
    """Run CMD as a task: show its output, end with its exit code.

    SIGINT (Ctrl-C) and SIGTERM stop the task and wait for its end; a second one leaves it no grace. A task that
    has not begun yet never does, and the exit code is 130 or 143. If `run`
    itself is killed or loses its terminal the task goes on, and `task-runner logs -f ID` shows it. So it does
    if the daemon is restarted: `run` waits for the daemon and goes on at the same byte.

    stdout and stderr of the command come as one stream, unless --separate-output keeps them apart. With --json the
    task is printed in place of its output. Standard input is passed on as it comes; with --detach it is read to its
    end first, and must be text.
    """
    session.failure = exitcode.RUN_FAILED
    _require_one(template, values, with_stdin, given)
    if with_stdin and not detach and given["retry"]:
        raise click.UsageError("--stdin and --retry exclude each other: what was read is gone (--detach keeps it)")
    key = new_key()
    with session.client() as client:
        if template is None:
            body = task_body(local=client.local, **given)
        else:
            body = {"template": template, "parameters": templates.values(client, template, values), **terms(given)}
        if with_stdin:
            body |= {"stdin": _stdin()} if detach else {"openStdin": True}
        if detach:
            task = client.submit(body, key)
            emit(task) if as_json else click.echo(task["taskId"])
            return
    with TaskInForeground(session, body, key, show=not as_json, with_stdin=with_stdin) as foreground:
        task = foreground.run()
    if as_json:
        emit(task)
    _explain(task)
    ctx.exit(exitcode.of_task(task, foreground.heard))


def _require_one(template: str | None, values: tuple[tuple[str, str], ...], with_stdin: bool, given: Any) -> None:
    """Either a command or a template. Raises UsageError."""
    if template is None and values:
        raise click.UsageError("--parameter needs --template NAME")
    if (template is None) == (not given["command"] and given["image"] is None):
        raise click.UsageError("give either CMD or --template NAME (or --image IMAGE, with or without CMD)")
    if given["image"] is not None and with_stdin:
        raise click.UsageError("--stdin: a container's standard input is empty")
    excluded = [name for name in ("shell", "env", "cwd", "work_dir", "image") if given[name]]
    if template is not None and (excluded or with_stdin):
        name = (excluded or ["stdin"])[0].replace("_", "-")
        raise click.UsageError(f"--{name} is for CMD; what a template runs is said by the template")


def _explain(task: Task) -> None:
    """Say what an exit code alone does not tell."""
    outcome, task_id = task["outcome"], task["taskId"]
    if outcome == "lost":
        say(f"task {task_id} is lost: nobody saw how it ended. {task['error'] or ''}")
    elif outcome == "timed_out" and task["startedAt"] is None and task["error"]:
        say(f"task {task_id} ended: {task['error']}")
    elif outcome == "timed_out":
        say(f"task {task_id} was stopped by its time limit")
    elif task["error"] and task["exitCode"] is None:
        say(f"task {task_id}: {task['error']}")
    if task["receipt"] and task["receipt"]["survivors"]:
        say(f"task {task_id} left processes that could not be killed: `task-runner show {task_id}`")


def _stdin() -> str:
    try:
        text = io.TextIOWrapper(sys.stdin.buffer, encoding="utf-8", newline="").read(MAX_STDIN + 1)
    except UnicodeDecodeError as error:
        raise InvalidRequest(f"standard input is not text: {error}") from None
    if len(text) > MAX_STDIN:
        raise InvalidRequest(f"standard input has more than {MAX_STDIN} characters; give the command a file")
    return text
