"""`task-runner submit`, `list`, `show`, `attempt`, `logs`."""

from __future__ import annotations

import base64
import json
import secrets
import sys
from collections.abc import Iterator
from itertools import islice
from typing import Any, BinaryIO

import click

from task_runner.cli import exitcode
from task_runner.cli.describe import COLUMNS, ending, row
from task_runner.cli.details import attempt_details, details
from task_runner.cli.edge import PATIENCE, Session, pass_session
from task_runner.cli.output import emit, emit_array, json_option, now, say, table
from task_runner.cli.terms import merged, term_options, terms
from task_runner.client import Client, Task
from task_runner.errors import InvalidRequest
from task_runner.model.state import Outcome, State

#: tasks asked for at once
PAGE = 1000


@click.command()
@click.argument("file", type=click.File("rb"))
@click.option("--wait", "patient", is_flag=True, help="Return when it is over; exit code 1 if it did not succeed.")
@click.option("--key", metavar="KEY", help="Idempotency key: the same key gives the same task. [random]")
@term_options
@json_option
@pass_session
@click.pass_context
def submit(
    ctx: click.Context,
    session: Session,
    /,
    file: BinaryIO,
    patient: bool,
    key: str | None,
    as_json: bool,
    **given: Any,
) -> None:
    """Hand in the task that FILE describes (JSON; - is standard input), and print its id.

    Options add to the lists and objects in FILE, and take the place of everything else there.
    """
    body = merged(_read_spec(file), terms(given))
    with session.client(patience=PATIENCE if patient else 2.0) as client:
        task = client.submit(body, key or secrets.token_hex(16))
        if not patient:
            emit(task) if as_json else click.echo(task["taskId"])
            return
        if not as_json:
            click.echo(task["taskId"])
            sys.stdout.flush()
        task = client.wait(task["taskId"])
    emit(task) if as_json else say(f"{task['taskId']} {ending(task, now())}")
    ctx.exit(exitcode.OK if task["outcome"] == "succeeded" else exitcode.FAILED)


def _read_spec(file: BinaryIO) -> dict[str, Any]:
    body = read_json(file)
    if not isinstance(body, dict):
        raise InvalidRequest(f"{file.name}: a task is a JSON object")
    return body


def read_json(file: BinaryIO) -> Any:
    """The JSON value in a file. Raises InvalidRequest, which names the file."""
    try:
        return json.loads(file.read())
    except (ValueError, RecursionError) as error:
        raise InvalidRequest(f"{file.name} is not JSON: {error}") from None


def _words(
    kind: type[State | Outcome],
) -> Any:
    return click.Choice([each.value for each in kind])


@click.command("list")
@click.option("--state", "-s", multiple=True, type=_words(State), help="Only in this state; again for more.")
@click.option("--outcome", "-o", multiple=True, type=_words(Outcome), help="Only ended so; again for more.")
@click.option("--batch", "-b", metavar="ID", help="Only of this batch.")
@click.option("--origin", metavar="NAME", help="Only what came in by this interface: v1, drove, executor, i3d.")
@click.option("--entity", "-e", metavar="NAME", help="Only of this entity.")
@click.option("--tag", "-t", multiple=True, metavar="KEY=VALUE", help="Only with this tag; again: with all.")
@click.option("--stalled", is_flag=True, help="Only stalled ones.")
@click.option("--query", "-q", "text", metavar="TEXT", help="Only where this text occurs.")
@click.option("--limit", "-n", type=click.IntRange(min=1), default=50, show_default=True, help="The newest N.")
@click.option("--all", "everything", is_flag=True, help="All of them.")
@json_option
@pass_session
def list_tasks(
    session: Session,
    state: tuple[str, ...],
    outcome: tuple[str, ...],
    batch: str | None,
    origin: str | None,
    entity: str | None,
    tag: tuple[str, ...],
    stalled: bool,
    text: str | None,
    limit: int,
    everything: bool,
    as_json: bool,
) -> None:
    """List tasks, the newest last. A state with "!" is stalled."""
    filters: dict[str, Any] = {
        "state": ",".join(state) or None,
        "outcome": ",".join(outcome) or None,
        "batch": batch,
        "origin": origin,
        "entity": entity,
        "tag": tag,
        "stalled": stalled or None,
        "q": text,
    }
    with session.client() as client:
        tasks, more = _newest(client, filters, limit) if not everything else (_all(client, filters), False)
        if as_json:
            emit_array(tasks)
            return
        moment = now()
        table(COLUMNS, (row(task, moment) for task in tasks))
    if more:
        say(f"older tasks are not shown: --limit is {limit}; --all shows them")


def _newest(client: Client, filters: dict[str, Any], limit: int) -> tuple[Iterator[Task], bool]:
    pages = client.list(**filters, order="desc", limit=min(limit + 1, PAGE))
    found = list(islice(pages, limit + 1))
    return reversed(found[:limit]), len(found) > limit


def _all(client: Client, filters: dict[str, Any]) -> Iterator[Task]:
    return client.list(**filters, order="asc", limit=PAGE)


@click.command()
@click.argument("task_id", metavar="ID")
@json_option
@pass_session
def show(session: Session, task_id: str, as_json: bool) -> None:
    """Show everything about a task."""
    with session.client() as client:
        task = client.get(task_id)
    if as_json:
        emit(task)
        return
    for name, value in details(task, now()):
        click.echo(f"{name:<12} {value}")


@click.command()
@click.argument("task_id", metavar="ID")
@click.argument("number", metavar="N", type=click.IntRange(min=1))
@json_option
@pass_session
def attempt(session: Session, task_id: str, number: int, as_json: bool) -> None:
    """Show how attempt N of a task went: the status that its runner wrote."""
    with session.client() as client:
        found = client.attempt(task_id, number)
    if as_json:
        emit(found)
        return
    for name, value in attempt_details(found, now()):
        click.echo(f"{name:<12} {value}")


@click.command()
@click.argument("task_id", metavar="ID")
@click.option("--follow", "-f", is_flag=True, help="Go on to the end of the task.")
@click.option("--tail", "-n", type=click.IntRange(min=0), metavar="LINES", help="Begin with the last lines.")
@click.option("--offset", type=click.IntRange(min=0), metavar="BYTES", help="Begin at this byte.")
@click.option("--attempt", "-a", type=click.IntRange(min=1), metavar="N", help="Of this attempt. [the latest]")
@click.option("--stream", type=click.Choice(["stdout", "stderr"]), help="Where they are kept apart. [stdout]")
@json_option
@pass_session
def logs(
    session: Session,
    task_id: str,
    follow: bool,
    tail: int | None,
    offset: int | None,
    attempt: int | None,
    stream: str | None,
    as_json: bool,
) -> None:
    """Print a task's output, byte by byte as the command wrote it.

    With --json, a line for each piece: {"text": …}, or {"base64": …} where it is not UTF-8.
    """
    if tail is not None and offset is not None:
        raise click.UsageError("--tail and --offset exclude each other")
    with session.client(patience=PATIENCE) as client:
        for chunk in client.iter_output(task_id, offset or 0, follow, tail, attempt=attempt, stream=stream):
            if as_json:
                emit(_encoded(chunk))
            else:
                write(chunk)


def write(chunk: bytes) -> None:
    """Print bytes as they are, at once. Raises BrokenPipeError where nobody reads."""
    sys.stdout.buffer.write(chunk)
    sys.stdout.buffer.flush()


def _encoded(chunk: bytes) -> dict[str, str]:
    try:
        return {"text": chunk.decode()}
    except UnicodeDecodeError:
        return {"base64": base64.b64encode(chunk).decode()}
