"""`task-runner batch run`: one command for each of many things, as xargs and GNU parallel run it."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Iterable, Sequence
from typing import Any

import click

from task_runner.cli import exitcode
from task_runner.cli.command import command_options, task_body
from task_runner.cli.describe import ending
from task_runner.cli.edge import Session, pass_session, report
from task_runner.cli.foreground import Foreground, copy_output
from task_runner.cli.output import clean, emit, json_option, now, say
from task_runner.cli.terms import term_options
from task_runner.client import ApiError, Batch, Client
from task_runner.client.core import new_key
from task_runner.client.records import is_over
from task_runner.errors import InvalidRequest

#: stands for the item in a command
PLACE = "{}"


@click.command(context_settings={"allow_interspersed_args": False})
@click.argument("command", metavar="[--] CMD…", nargs=-1, required=True)
@click.option(
    "--for-each", "-f", "lists", multiple=True, metavar="ITEM,…", help="The items; again for more. [lines of stdin]"
)
@click.option("--no-entity", is_flag=True, help="An item is not the entity of its task.")
@click.option("--detach", "-d", is_flag=True, help="Print the batch's id and leave it running.")
@command_options
@term_options
@json_option
@pass_session
@click.pass_context
def run(
    ctx: click.Context,
    session: Session,
    /,
    command: tuple[str, ...],
    lists: tuple[str, ...],
    no_entity: bool,
    detach: bool,
    as_json: bool,
    **given: Any,
) -> None:
    """Run CMD once for every item, as one batch.

    Items come from --for-each, or are the lines of standard input. {} in CMD stands for the item, which is quoted for
    the shell with --shell; without any {} the item is added at the end. Each item is also the entity of its task, so
    that two tasks about the same thing never run at once, and stands in the variable TASK_RUNNER_ENTITY.

    The outputs come one after the other, in the order of the items. Exit code 0 if every task succeeded, 1 if not.
    SIGINT (Ctrl-C) and SIGTERM stop the batch; a second one leaves it no grace.
    """
    session.failure = exitcode.RUN_FAILED
    items = _items(lists)
    if given.get("entity") is not None:
        raise click.UsageError("--entity: each item is the entity of its task; see --no-entity")
    with session.client() as client:
        local = client.local
    shell = given["shell"]
    tasks = [
        task_body(local=local, command=_filled(command, item, shell), **given) | ({} if no_entity else {"entity": item})
        for item in items
    ]
    body, key = {"tasks": tasks}, new_key()
    if detach:
        with session.client() as client:
            found = client.submit_batch(body, key)
        emit(found) if as_json else click.echo(found["batchId"])
        return
    with BatchInForeground(session, body, key, show=not as_json) as foreground:
        found = foreground.run()
    if as_json:
        emit(found)
    ctx.exit(exitcode.OK if found["numTasksOk"] == found["numTasks"] else exitcode.FAILED)


def _items(lists: Sequence[str]) -> list[str]:
    found = [item for each in lists for item in each.split(",")] if lists else _lines()
    items = [item for item in found if item]
    if not items:
        raise click.UsageError("there are no items: --for-each names none, or standard input is empty")
    return items


def _lines() -> list[str]:
    try:
        return sys.stdin.buffer.read().decode().split("\n")
    except UnicodeDecodeError as error:
        raise InvalidRequest(f"standard input is not text: {error}") from None


def _filled(command: Iterable[str], item: str, shell: bool) -> tuple[str, ...]:
    """The command with an item in its place."""
    text = shlex.quote(item) if shell else item
    words = tuple(command)
    if any(PLACE in word for word in words):
        return tuple(word.replace(PLACE, text) for word in words)
    return (*words, text)


class BatchInForeground(Foreground[Batch]):
    """A batch: the output of its tasks is ours, one after the other."""

    kind, look = "batch", "batch show"

    def __init__(self, session: Session, body: dict[str, Any], key: str, *, show: bool) -> None:
        super().__init__(session)
        self._body, self._key, self._shown = body, key, show
        self._tasks: list[str] = []

    def _submit(self, client: Client) -> str:
        found = client.submit_batch(self._body, self._key)
        self._tasks = found["tasks"]
        return found["batchId"]

    def _copy(self, client: Client, work_id: str) -> None:  # noqa: ARG002
        for task_id in self._tasks if self._shown else ():
            try:
                self._copy_one(client, task_id)
            except ApiError as error:
                if error.status != 404:
                    raise
                report(error, about=task_id)  # removed meanwhile

    def _copy_one(self, client: Client, task_id: str) -> None:
        if self._body["tasks"][0].get("outputMode") != "separate":
            copy_output(client, task_id, sys.stdout.buffer)
        else:
            copy_output(client, task_id, sys.stdout.buffer, "stdout")
            copy_output(client, task_id, sys.stderr.buffer, "stderr")
        task = client.get(task_id)
        if is_over(task) and task["outcome"] != "succeeded":
            about = f" ({clean(task['entity'])})" if task["entity"] else ""
            say(f"task {task_id}{about} {ending(task, now())}")

    def _finish(self, client: Client, work_id: str) -> Batch:
        return client.wait_batch(work_id)

    def _request_stop(self, client: Client, work_id: str, grace: float | None) -> None:
        client.stop_batch(work_id, grace=grace, wait=0)
