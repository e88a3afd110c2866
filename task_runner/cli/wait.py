"""`task-runner wait`: until tasks are over, with a picture of how far they are."""

from __future__ import annotations

import time
from collections.abc import Sequence

import click

from task_runner.cli import exitcode
from task_runner.cli.awaiting import Awaiting, Voice
from task_runner.cli.describe import ending, word
from task_runner.cli.edge import PATIENCE, Session, each, pass_session
from task_runner.cli.output import emit, json_option, now
from task_runner.cli.suggest import BATCH, TASKS
from task_runner.client import Client, Task
from task_runner.client.records import is_over

#: tasks of a batch asked for at once
_PAGE = 1000


@click.command()
@click.argument("ids", metavar="[ID…]", nargs=-1, shell_complete=TASKS)
@click.option(
    "--batch", "-b", "batches", multiple=True, metavar="ID", shell_complete=BATCH,
    help="The tasks of this batch, as they are now; again for more.",
)
@click.option("--any", "any_of_them", is_flag=True, help="Until one of them is over; it decides the exit code.")
@click.option("--timeout", type=click.FloatRange(min=0), metavar="SECONDS", help="Wait no longer (exit code 124).")
@click.option("--exit-code", is_flag=True, help="End with the exit code of the command (one ID only, or --any).")
@json_option
@pass_session
@click.pass_context
def wait(
    ctx: click.Context,
    session: Session,
    ids: tuple[str, ...],
    batches: tuple[str, ...],
    any_of_them: bool,
    timeout: float | None,
    exit_code: bool,
    as_json: bool,
) -> None:
    """Wait until tasks are over. Exit code 0 if all succeeded, 1 if not.

    IDs may be shortened to four characters or more, where that names one task. Where standard error is a terminal, it
    shows how many are over, and how far those are that say it.
    """
    if not ids and not batches:
        raise click.UsageError("which tasks? There is neither an ID nor --batch")
    if exit_code and (batches or len(ids) > 1) and not any_of_them:
        raise click.UsageError("--exit-code is about one task")
    end = None if timeout is None else time.monotonic() + timeout
    voice = Voice()
    with session.client(patience=PATIENCE, on_outage=voice.tell_outage) as client:
        tasks, code = found(client, ids, batches)
        if any_of_them and code != exitcode.OK:
            ctx.exit(code)
        awaiting = Awaiting(client, tasks, voice, first=any_of_them, end=end)
        verdict = exitcode.OK
        for task in awaiting.run():
            _show(task, as_json)
            verdict = max(verdict, _verdict(task, exit_code))
    ctx.exit(code or awaiting.code or verdict)


def found(client: Client, ids: Sequence[str], batches: Sequence[str]) -> tuple[list[Task], int]:
    """The tasks that are meant, each once, and the exit code for those that are not there."""
    named, code = each(ids, client.get)
    together, later = each(batches, lambda batch_id: members(client, batch_id))
    tasks = {task["taskId"]: task for task in [*named, *(task for several in together for task in several)]}
    return list(tasks.values()), code or later


def members(client: Client, batch_id: str) -> list[Task]:
    """The tasks of a batch, in their order. Raises NotFound."""
    whole_id = client.batch(batch_id)["batchId"]
    return list(client.list(batch=whole_id, order="asc", limit=_PAGE))


def _show(task: Task, as_json: bool) -> None:
    if as_json:
        emit(task)
    else:
        click.echo(f"{task['taskId']}: {ending(task, now()) if is_over(task) else f'still {word(task)}'}")


def _verdict(task: Task, exact: bool) -> int:
    if not is_over(task):
        return exitcode.TIMED_OUT
    if exact:
        return exitcode.of_task(task)
    return exitcode.OK if task["outcome"] == "succeeded" else exitcode.FAILED
