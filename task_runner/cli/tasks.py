"""`task-runner submit`, `list`, `show`, `attempt`, `logs`."""

from __future__ import annotations

import base64
import json
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
from task_runner.cli.suggest import BATCH, TASK, TASKS
from task_runner.cli.terms import merged, term_options, terms
from task_runner.client import Client, Task
from task_runner.client.core import new_key
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
        task = client.submit(body, key or new_key())
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
@click.option("--batch", "-b", metavar="ID", shell_complete=BATCH, help="Only of this batch.")
@click.option("--origin", metavar="NAME", help="Only what came in by this interface: v1, drove, executor, i3d.")
@click.option("--entity", "-e", metavar="NAME", help="Only of this entity.")
@click.option("--tag", "-t", multiple=True, metavar="KEY=VALUE", help="Only with this tag; again: with all.")
@click.option("--stalled", is_flag=True, help="Only stalled ones.")
@click.option("--query", "-q", "text", metavar="TEXT", help="Only where this text occurs.")
@click.option("--limit", "-n", type=click.IntRange(min=1), default=50, show_default=True, help="The newest N.")
@click.option("--all", "everything", is_flag=True, help="All of them.")
@click.option("--watch", "-w", is_flag=True, help="Go on: a table that changes with them; else a line for each change.")
@json_option
@pass_session
@click.pass_context
def list_tasks(
    ctx: click.Context,
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
    watch: bool,
    as_json: bool,
) -> None:
    """List tasks, the newest last. A state with "!" is stalled.

    --watch fills the terminal and keeps to its height: tasks that run come before newer ones that do not. q ends it.
    Where the output is no terminal it prints a line for each change after which a task is one of those that are asked
    for, beginning with what is new; with --json each is the event in JSON.
    """
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
    if watch:
        from task_runner.cli import watch as live

        ctx.exit(live.watch(session, filters, sys.maxsize if everything else limit, as_json))
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
@click.argument("task_id", metavar="ID", shell_complete=TASK)
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
@click.argument("task_id", metavar="ID", shell_complete=TASK)
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
@click.argument("ids", metavar="[ID…]", nargs=-1, shell_complete=TASKS)
@click.option("--follow", "-f", is_flag=True, help="Go on to the end of the task.")
@click.option(
    "--batch", "-b", "batches", multiple=True, metavar="ID", shell_complete=BATCH,
    help="The tasks of this batch, as they are now; again for more.",
)
@click.option("--tail", "-n", type=click.IntRange(min=0), metavar="LINES", help="Begin with the last lines.")
@click.option("--offset", type=click.IntRange(min=0), metavar="BYTES", help="Begin at this byte (one ID only).")
@click.option("--attempt", "-a", type=click.IntRange(min=1), metavar="N", help="Of this attempt. [the latest]")
@click.option("--stream", type=click.Choice(["stdout", "stderr"]), help="Where they are kept apart. [stdout]")
@click.option("--no-prefix", is_flag=True, help="Of several tasks: the lines alone.")
@json_option
@pass_session
@click.pass_context
def logs(
    ctx: click.Context,
    session: Session,
    ids: tuple[str, ...],
    follow: bool,
    batches: tuple[str, ...],
    tail: int | None,
    offset: int | None,
    attempt: int | None,
    stream: str | None,
    no_prefix: bool,
    as_json: bool,
) -> None:
    """Print the output of tasks.

    Of one ID: byte by byte as the command wrote it; with --json, a line for each piece: {"text": …}, or {"base64": …}
    where it is not UTF-8.

    Of several, or with --batch: whole lines, each after the name of its task, or after its id where a task has no name
    or the name of another. On a terminal colours stay, and other control characters are shown and not obeyed. With
    --json, each line is {"taskId": …, "text": …}, without its end.
    """
    if not ids and not batches:
        raise click.UsageError("of which task? There is neither an ID nor --batch")
    if tail is not None and offset is not None:
        raise click.UsageError("--tail and --offset exclude each other")
    if len(ids) == 1 and not batches:
        with session.client(patience=PATIENCE) as client:
            _one(client.iter_output(ids[0], offset or 0, follow, tail, attempt=attempt, stream=stream), as_json)
        return
    if offset is not None:
        raise click.UsageError("--offset is about one task")
    from task_runner.cli import follow as several
    from task_runner.cli.wait import found

    client = session.client(patience=PATIENCE)
    tasks, code = found(client, ids, batches)
    wish = several.Wish(follow=follow, tail=tail, attempt=attempt, stream=stream)
    later = several.show(client, tasks, wish, prefixed=not no_prefix, as_json=as_json)
    client.close()  # only here: whoever is interrupted leaves threads that read
    ctx.exit(code or later)


def _one(chunks: Iterator[bytes], as_json: bool) -> None:
    for chunk in chunks:
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
