"""`task-runner stop`, `pause`, `resume`, `signal`, `retry`, `reschedule`, `remove`."""

from __future__ import annotations

from collections.abc import Callable

import click

from task_runner.cli import exitcode
from task_runner.cli.describe import ending, receipt, word
from task_runner.cli.edge import PATIENCE, Session, each, pass_session
from task_runner.cli.output import emit, json_option, now
from task_runner.cli.suggest import TASK, TASKS
from task_runner.cli.values import moment, reading
from task_runner.client import Client, Task
from task_runner.client.records import is_over

_ids = click.argument("ids", metavar="ID…", nargs=-1, required=True, shell_complete=TASKS)


@click.command()
@_ids
@click.option("--signal", "-s", metavar="NAME", help="The polite signal. [the task's own, or SIGTERM]")
@click.option(
    "--grace",
    type=click.FloatRange(min=0),
    metavar="SECONDS",
    help="From it to SIGKILL. [the task's own, or 10]",
)
@click.option("--wait/--no-wait", "patient", default=True, help="Return when it is over. [default: --wait]")
@json_option
@pass_session
@click.pass_context
def stop(
    ctx: click.Context,
    session: Session,
    ids: tuple[str, ...],
    signal: str | None,
    grace: float | None,
    patient: bool,
    as_json: bool,
) -> None:
    """Stop tasks, with everything they started, and say what was done.

    Exit code 1 if a process survived.
    """
    with session.client(patience=PATIENCE if patient else 2.0) as client:
        before, code = each(ids, lambda task_id: client.stop(task_id, signal, grace, wait=0 if patient else None))
        after, later = each([task["taskId"] for task in before], lambda task_id: _stopped(client, task_id, patient))
    for task in after:
        _show(task, as_json, _how_it_stopped(task))
    survived = any(task["receipt"] and task["receipt"]["survivors"] for task in after)
    ctx.exit(code or later or (exitcode.FAILED if survived else exitcode.OK))


def _stopped(client: Client, task_id: str, patient: bool) -> Task:
    return client.wait(task_id) if patient else client.get(task_id)


def _how_it_stopped(task: Task) -> str:
    if not is_over(task):
        return f"{word(task)}"
    found = task["receipt"]
    if found is not None:
        return f"{ending(task, now())}: {receipt(found)}"
    started = "" if task["startedAt"] else ", before it was started"
    return f"{ending(task, now())}{started}; nothing was to be stopped"


@click.command()
@_ids
@json_option
@pass_session
@click.pass_context
def pause(ctx: click.Context, session: Session, ids: tuple[str, ...], as_json: bool) -> None:
    """Freeze tasks: every process of theirs, and their time limits."""
    with session.client() as client:
        ctx.exit(_control(ids, client.pause, as_json))


@click.command()
@_ids
@json_option
@pass_session
@click.pass_context
def resume(ctx: click.Context, session: Session, ids: tuple[str, ...], as_json: bool) -> None:
    """Let paused tasks go on."""
    with session.client() as client:
        ctx.exit(_control(ids, client.resume, as_json))


@click.command("signal")
@click.argument("task_id", metavar="ID", shell_complete=TASK)
@click.argument("name", metavar="NAME")
@json_option
@pass_session
def send_signal(session: Session, task_id: str, name: str, as_json: bool) -> None:
    """Send a signal to a task's command: HUP, SIGUSR1, 10."""
    with session.client() as client:
        task = client.signal(task_id, name)
    _show(task, as_json, f"{word(task)}, signal sent")


@click.command()
@_ids
@json_option
@pass_session
@click.pass_context
def retry(ctx: click.Context, session: Session, ids: tuple[str, ...], as_json: bool) -> None:
    """Run tasks that are over once more, each as a new attempt."""
    with session.client() as client:
        ctx.exit(_control(ids, client.retry, as_json, lambda task: f"attempt {task['attempt']}, {task['state']}"))


@click.command()
@click.argument("task_id", metavar="ID", shell_complete=TASK)
@click.argument("at", metavar="TIME", callback=reading(moment))
@json_option
@pass_session
def reschedule(session: Session, task_id: str, at: str | None, as_json: bool) -> None:
    """Let a task that has not started run at another time.

    TIME is now, +10m, 03:00, 2030-01-31T03:00 (local time, or with a zone), or seconds since 1970.
    """
    with session.client() as client:
        task = client.reschedule(task_id, at)
    _show(task, as_json, f"{word(task)}, to run at {task['executeAt']}" if task["state"] == "scheduled" else word(task))


@click.command()
@_ids
@json_option
@pass_session
@click.pass_context
def remove(ctx: click.Context, session: Session, ids: tuple[str, ...], as_json: bool) -> None:
    """Forget tasks, their output and their files. One that is active is stopped first."""
    with session.client() as client:

        def forget(task_id: str) -> None:
            client.delete(task_id)
            if as_json:
                emit({"taskId": task_id, "success": True})
            else:
                click.echo(f"{task_id}: removed")

        _, code = each(ids, forget)
    ctx.exit(code)


def _control(
    ids: tuple[str, ...], act: Callable[[str], Task], as_json: bool, words: Callable[[Task], str] = word
) -> int:
    def control(task_id: str) -> None:
        task = act(task_id)
        _show(task, as_json, words(task))

    return each(ids, control)[1]


def _show(task: Task, as_json: bool, words: str) -> None:
    if as_json:
        emit(task)
    else:
        click.echo(f"{task['taskId']}: {words}")
