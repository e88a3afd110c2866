"""`task-runner batch`: tasks that are handed in, looked at and controlled together."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any, BinaryIO

import click

from task_runner.cli import exitcode
from task_runner.cli.batchrun import run
from task_runner.cli.batchsubmit import submit
from task_runner.cli.batchwait import await_batch
from task_runner.cli.describe import colour
from task_runner.cli.edge import PATIENCE, Session, each, pass_session
from task_runner.cli.output import (
    Cell,
    clean,
    duration,
    emit,
    emit_array,
    json_option,
    now,
    paint,
    seconds_between,
    table,
)
from task_runner.cli.suggest import BATCH
from task_runner.cli.tasks import read_json
from task_runner.cli.values import pair, reading
from task_runner.client import Batch, BatchResult
from task_runner.client.core import new_key
from task_runner.errors import InvalidRequest

_LIST = ("ID", "STATE", "TASKS", "OK", "FAILED", "CANCELLED", "AGE", "RUNTIME", "NAME")
_RESULTS = ("ID", "STATE", "EXIT", "RUNTIME", "ENTITY", "NAME")

_ids = click.argument("ids", metavar="ID…", nargs=-1, required=True, shell_complete=BATCH)


@click.group()
def batch() -> None:
    """Tasks together: accepted whole or not at all, counted, and controlled as one."""


batch.add_command(submit)
batch.add_command(run)


@batch.command()
@click.argument("file", type=click.File("rb"))
@click.option("--name", metavar="NAME", help="A name for people.")
@click.option(
    "--tag", "-t", multiple=True, callback=reading(pair), metavar="KEY=VALUE", help="Of the batch; again for more."
)
@click.option("--key", metavar="KEY", help="Idempotency key: the same key gives the same batch. [random]")
@click.option("--wait", "patient", is_flag=True, help="Return when it is over; exit code 1 if not all succeeded.")
@json_option
@pass_session
@click.pass_context
def create(
    ctx: click.Context,
    session: Session,
    file: BinaryIO,
    name: str | None,
    tag: tuple[tuple[str, str], ...],
    key: str | None,
    patient: bool,
    as_json: bool,
) -> None:
    """Hand in the batch that FILE describes (JSON; - is standard input), and print its id.

    FILE holds an array of tasks, or an object: {"tasks": […]}, or {"task": {…}, "entities": […]}.
    """
    body = _read_batch(file)
    if name is not None:
        body["name"] = name
    if tag:
        body["tags"] = {**body.get("tags", {}), **dict(tag)}
    with session.client(patience=PATIENCE if patient else 2.0) as client:
        found = client.submit_batch(body, key or new_key())
        if not (patient and as_json):
            emit(found) if as_json else click.echo(found["batchId"])
        if patient:
            found = await_batch(client, found["batchId"])
            ctx.exit(_tell(found, as_json))


def _read_batch(file: BinaryIO) -> dict[str, Any]:
    body = read_json(file)
    if isinstance(body, list):
        return {"tasks": body}
    if not isinstance(body, dict) or not isinstance(body.get("tags", {}), dict):
        raise InvalidRequest(f"{file.name}: a batch is an array of tasks, or a JSON object")
    return body


@batch.command("list")
@click.option("--limit", "-n", type=click.IntRange(1, 1000), default=50, show_default=True, help="The newest N.")
@json_option
@pass_session
def list_batches(session: Session, limit: int, as_json: bool) -> None:
    """List batches, the newest last."""
    with session.client() as client:
        found = client.batches(limit)[::-1]
    if as_json:
        emit_array(found)
    else:
        table(_LIST, map(_row, found))


def _row(found: Batch) -> list[Cell]:
    moment = now()
    runtime = seconds_between(found["createdAt"], found["finishedAt"], moment)
    counts = [found["numTasks"], found["numTasksOk"], found["numTasksFailed"], found["numTasksCancelled"]]
    return [
        (found["batchId"], None),
        _state(found),
        *((str(count), None) for count in counts),
        (duration(seconds_between(found["createdAt"], None, moment)), None),
        (duration(runtime), None),
        (clean(found["name"] or "-"), None),
    ]


def _state(found: Batch) -> Cell:
    if found["finishedAt"] is None:
        return ("paused", "yellow") if found["paused"] else ("active", "cyan")
    if found["numTasksFailed"]:
        return ("failed", "red")
    return ("cancelled", "yellow") if found["numTasksCancelled"] else ("succeeded", "green")


@batch.command()
@click.argument("batch_id", metavar="ID", shell_complete=BATCH)
@json_option
@pass_session
def show(session: Session, batch_id: str, as_json: bool) -> None:
    """Show a batch: how many of its tasks are where."""
    with session.client() as client:
        found = client.batch(batch_id)
    if as_json:
        emit(found)
        return
    lines = [
        ("id", found["batchId"]),
        ("name", found["name"] and clean(found["name"])),
        ("state", paint(*_state(found))),
        ("tasks", _counts(found)),
        ("created", found["createdAt"]),
        ("finished", found["finishedAt"]),
        ("tags", clean(", ".join(f"{key}={value}" for key, value in found["tags"].items()))),
    ]
    for name, value in lines:
        if value:
            click.echo(f"{name:<13}{value}")


def _counts(found: Batch) -> str:
    ended = [
        (found["numTasksOk"], "ok"),
        (found["numTasksFailed"], "failed"),
        (found["numTasksCancelled"], "cancelled"),
    ]
    parts = [f"{count} {word}" for count, word in ended if count]
    parts += [f"{count} {clean(state)}" for state, count in found["states"].items() if count]
    return f"{found['numTasks']}: {', '.join(parts)}"


@batch.command()
@click.argument("batch_id", metavar="ID", shell_complete=BATCH)
@json_option
@pass_session
def results(session: Session, batch_id: str, as_json: bool) -> None:
    """Show what became of each task of a batch, in the order in which they were given."""
    with session.client() as client:
        found = client.batch_results(batch_id)
    if as_json:
        emit_array(found)
    else:
        table(_RESULTS, map(_result_row, found))


def _result_row(result: BatchResult) -> list[Cell]:
    word = result["outcome"] or result["state"]
    end = str(result["exitCode"]) if result["exitCode"] is not None else result["signal"] or "-"
    error = f" ({clean(result['error'])})" if result["error"] else ""
    return [
        (result["taskId"], None),
        (word, colour(word)),
        (end, None),
        (duration(seconds_between(result["startedAt"], result["finishedAt"], now())), None),
        (clean(result["entity"] or "-"), None),
        (clean(result["name"] or "-") + error, None),
    ]


@batch.command()
@_ids
@click.option("--timeout", type=click.FloatRange(min=0), metavar="SECONDS", help="Wait no longer (exit code 124).")
@json_option
@pass_session
@click.pass_context
def wait(ctx: click.Context, session: Session, ids: tuple[str, ...], timeout: float | None, as_json: bool) -> None:
    """Wait until all of a batch is over. Exit code 0 if every task succeeded, 1 if not."""
    end = None if timeout is None else time.monotonic() + timeout
    with session.client(patience=PATIENCE) as client:

        def finish(batch_id: str) -> int:
            left = None if end is None else max(0.0, end - time.monotonic())
            return _tell(await_batch(client, batch_id, left), as_json)

        codes, code = each(ids, finish)
    ctx.exit(code or max(codes, default=exitcode.OK))


def _tell(found: Batch, as_json: bool) -> int:
    """Say how a batch is, and return the exit code for it."""
    emit(found) if as_json else click.echo(f"{found['batchId']}: {_counts(found)}")
    if found["finishedAt"] is None:
        return exitcode.TIMED_OUT
    return exitcode.OK if found["numTasksOk"] == found["numTasks"] else exitcode.FAILED


@batch.command()
@_ids
@click.option("--signal", "-s", metavar="NAME", help="The polite signal. [each task's own, or SIGTERM]")
@click.option("--grace", type=click.FloatRange(min=0), metavar="SECONDS", help="From it to SIGKILL. [each task's own]")
@click.option("--wait/--no-wait", "patient", default=True, help="Return when all is over. [default: --wait]")
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
    """Stop all tasks of a batch that are not over."""
    with session.client(patience=PATIENCE if patient else 2.0) as client:

        def end(batch_id: str) -> Batch:
            found = client.stop_batch(batch_id, signal, grace, wait=0 if patient else None)
            return client.wait_batch(found["batchId"]) if patient else found

        ctx.exit(_control(ids, end, as_json))


@batch.command()
@_ids
@json_option
@pass_session
@click.pass_context
def pause(ctx: click.Context, session: Session, ids: tuple[str, ...], as_json: bool) -> None:
    """Freeze those tasks of a batch that run, and start none."""
    with session.client() as client:
        ctx.exit(_control(ids, client.pause_batch, as_json))


@batch.command()
@_ids
@json_option
@pass_session
@click.pass_context
def resume(ctx: click.Context, session: Session, ids: tuple[str, ...], as_json: bool) -> None:
    """Let a paused batch go on."""
    with session.client() as client:
        ctx.exit(_control(ids, client.resume_batch, as_json))


def _control(ids: tuple[str, ...], act: Callable[[str], Batch], as_json: bool) -> int:
    def control(batch_id: str) -> None:
        found = act(batch_id)
        emit(found) if as_json else click.echo(f"{found['batchId']}: {_state(found)[0]}; {_counts(found)}")

    return each(ids, control)[1]
