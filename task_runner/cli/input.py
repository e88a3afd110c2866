"""`task-runner input`, and the standard input of `run --stdin`."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from typing import BinaryIO

import click

from task_runner.cli.edge import PATIENCE, Session, pass_session
from task_runner.cli.output import emit, json_option
from task_runner.cli.suggest import TASK
from task_runner.client import ApiError, Client
from task_runner.client.records import is_over

#: bytes sent in one request
CHUNK = 1_048_576
#: states in which a runner may not be there yet
_EARLY = ("scheduled", "pending", "starting", "provisioning", "unknown")


@click.command("input")
@click.argument("task_id", metavar="ID", shell_complete=TASK)
@click.argument("file", type=click.File("rb"), required=False)
@click.option("--end", is_flag=True, help="There will be no more: the command finds the end of its input.")
@json_option
@pass_session
def give_input(session: Session, task_id: str, file: BinaryIO | None, end: bool, as_json: bool) -> None:
    """Give a task's command the content of FILE (- is standard input) on its open standard input.

    The task must ask for one: `run --stdin`, or "openStdin" in its spec. Without FILE nothing is given but --end.
    """
    if file is None and not end:
        raise click.UsageError("say what to give: FILE, --end, or both")
    with session.client(patience=PATIENCE) as client:
        offset = client.send_input(task_id, b"")
        if file is not None:
            descriptor = file.fileno()
            offset = copy(client, task_id, offset, lambda: os.read(descriptor, CHUNK))
        if end:
            offset = client.send_input(task_id, b"", offset=offset, end=True)
    if as_json:
        emit({"bytes": offset})


def copy(client: Client, task_id: str, offset: int, read: Callable[[], bytes]) -> int:
    """Give a task what ``read`` returns, until that is nothing; returns how many bytes it has been given in all."""
    while data := read():
        offset = client.send_input(task_id, data, offset=offset)
    return offset


def pass_on(client: Client, task_id: str, descriptor: int) -> None:
    """Give a task what can be read from a descriptor, to its end; wait first until the task takes it.

    A task that ends before is no error: it did not want the rest.
    """
    try:
        offset = _when_open(client, task_id)
        if offset is not None:
            offset = copy(client, task_id, offset, lambda: os.read(descriptor, CHUNK))
            client.send_input(task_id, b"", offset=offset, end=True)
    except ApiError as error:
        if error.status != 409 or not _ends(client, task_id):
            raise


def _when_open(client: Client, task_id: str) -> int | None:
    """How many bytes the task has been given, as soon as it takes any; None if it is over before."""
    pause = 0.02
    while True:
        try:
            return client.send_input(task_id, b"")
        except ApiError as error:
            task = client.get(task_id)
            if is_over(task):
                return None
            if error.status != 409 or task["state"] not in _EARLY:
                raise
        time.sleep(pause)
        pause = min(2 * pause, 0.5)


def _ends(client: Client, task_id: str) -> bool:
    """Whether a task that takes no more input is over, or about to be."""
    return is_over(client.wait(task_id, 5.0))
