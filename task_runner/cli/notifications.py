"""`task-runner notifications`, `secrets`."""

from __future__ import annotations

import click

from task_runner.cli.edge import Session, pass_session
from task_runner.cli.output import Cell, clean, emit_array, json_option, table
from task_runner.cli.suggest import TASK
from task_runner.client.records import Notification

_COLUMNS = ("N", "TYPE", "AT", "STATE", "TRIES", "NEXT", "URL AND LAST ANSWER")
_WORDS = {"gave_up": "given up"}
_COLOURS = {"delivered": "green", "gave_up": "red", "pending": "yellow"}


@click.command()
@click.argument("task_id", metavar="ID", shell_complete=TASK)
@click.option("--redeliver", "again", type=int, metavar="N", help="Send notification N once more, and now.")
@json_option
@pass_session
def notifications(session: Session, task_id: str, again: int | None, as_json: bool) -> None:
    """Show what the webhooks of a task were to be told, and what came of it."""
    with session.client() as client:
        found = client.notifications(task_id) if again is None else [client.redeliver(task_id, again)]
    if as_json:
        emit_array(found)
    else:
        table(_COLUMNS, map(_row, found))


def _row(found: Notification) -> list[Cell]:
    state, last = found["state"], found["lastError"]
    answer = f" ({clean(last)})" if last else ""
    return [
        (str(found["n"]), None),
        (found["type"], None),
        (found["at"], None),
        (_WORDS.get(state, state), _COLOURS.get(state)),
        (str(found["tries"]), None),
        (found["nextAt"] or "-", None),
        (clean(found["url"]) + answer, None),
    ]


@click.command()
@json_option
@pass_session
def secrets(session: Session, as_json: bool) -> None:
    """Show the names of the secrets that tasks may use. Values are never shown."""
    with session.client() as client:
        found = client.secrets()
    if as_json:
        emit_array(found)
    else:
        table(("NAME", "KEPT IN"), [[(clean(each["name"]), None), (clean(each["source"]), None)] for each in found])
