"""`task-runner batch submit`: a file with a task on each line, as one batch."""

from __future__ import annotations

import json
from typing import Any, BinaryIO

import click

from task_runner.cli import lines
from task_runner.cli.batchwait import await_batch, show_end
from task_runner.cli.command import surroundings_options, task_body
from task_runner.cli.edge import PATIENCE, Session, pass_session
from task_runner.cli.output import emit, json_option, say, size
from task_runner.cli.terms import merged, term_options, terms
from task_runner.client import BadRequest, Batch, Client, TooLarge
from task_runner.client.core import new_key
from task_runner.errors import InvalidRequest
from task_runner.model.batch import MAX_TASKS

#: options that say how a command is to run, which a line of JSON says itself
_OF_COMMANDS = ("argv", "env", "cwd", "work_dir", "image", "mounts", "network", "pull", "engine")


@click.command()
@click.argument("file", type=click.File("rb"))
@click.option("--format", "kind", type=click.Choice(["json", "commands"]), help="[by the first character: { is json]")
@click.option("--argv", is_flag=True, help="Split each command into words, in place of giving it to /bin/sh -c.")
@click.option("--key", metavar="KEY", help="Idempotency key: the same key gives the same batch. [random]")
@click.option("--wait", "patient", is_flag=True, help="Return when it is over; exit code 1 if not all succeeded.")
@surroundings_options
@term_options
@json_option
@pass_session
@click.pass_context
def submit(
    ctx: click.Context,
    session: Session,
    /,
    file: BinaryIO,
    kind: str | None,
    argv: bool,
    key: str | None,
    patient: bool,
    as_json: bool,
    **given: Any,
) -> None:
    """Hand in a task for each line of FILE (- is standard input) as one batch, and print its id.

    A line is a task as JSON, or a command for /bin/sh -c; a file has lines of one kind. Blank lines are skipped, and
    among commands those that begin with #. Options hold for every task: they add to the lists and objects of a line of
    JSON, and take the place of everything else there. --name is the name of the batch, and --tag marks the batch, too.

    If one line is wrong nothing is handed in. A batch is one request: it has at most 10,000 tasks, and at most as many
    bytes as the daemon takes (max_body_bytes, 4 MiB).
    """
    name, tags = given.pop("name"), dict(given["tag"])
    if given["alias"] is not None:
        raise click.UsageError("--alias: no two tasks have the same one; let each line say its own")
    found = lines.read(file.read())
    if (kind or lines.kind_of(found)) == "json":
        tasks = _from_json(found, argv, given)
    else:
        found = lines.commands(found)
        tasks = _from_commands(session, found, argv, given)
    if not tasks:
        raise InvalidRequest(f"{_name(file)}: there is no task in it")
    if len(tasks) > MAX_TASKS:
        raise InvalidRequest(
            f"{_name(file)} has {len(tasks)} tasks, and a batch has at most {MAX_TASKS}: nothing was handed in. "
            f"Divide it (`split -l {MAX_TASKS}`); each part is a batch of its own"
        )
    body = {"tasks": tasks, **({"name": name} if name is not None else {}), **({"tags": tags} if tags else {})}
    numbers = [line.number for line in found]
    with session.client(patience=PATIENCE if patient else 2.0) as client:
        batch = _hand_in(client, body, key or new_key(), numbers)
        if not patient:
            emit(batch) if as_json else click.echo(batch["batchId"])
            return
        if not as_json:
            click.echo(batch["batchId"])
        done = await_batch(client, batch["batchId"])
        ctx.exit(show_end(client, done, dict(zip(batch["tasks"], numbers, strict=False)), as_json))


def _name(file: BinaryIO) -> str:
    name = getattr(file, "name", None)
    return name if isinstance(name, str) and name != "<stdin>" else "standard input"


def _from_json(found: list[lines.Line], argv: bool, given: dict[str, Any]) -> list[dict[str, Any]]:
    wrong = [name for name in _OF_COMMANDS if (argv if name == "argv" else given[name])]
    if wrong:
        option = {"mounts": "mount"}.get(wrong[0], wrong[0].replace("_", "-"))
        raise click.UsageError(f"--{option} is for lines that are commands; a line of JSON says it itself")
    said = terms(given)
    return [merged(task, said) for task in lines.json_tasks(found)]


def _from_commands(
    session: Session, found: list[lines.Line], argv: bool, given: dict[str, Any]
) -> list[dict[str, Any]]:
    with session.client() as client:
        local = client.local
    return lines.command_tasks(
        found, lambda words: task_body(local=local, command=words, shell=not argv, **given), split=argv
    )


def _hand_in(client: Client, body: dict[str, Any], key: str, numbers: list[int]) -> Batch:
    try:
        return client.submit_batch(body, key)
    except BadRequest as error:
        raise lines.in_lines(error, numbers) from None
    except TooLarge as error:
        length = len(json.dumps(body, ensure_ascii=False).encode())
        detail = (
            f"{error.detail}; these {len(numbers)} tasks make one of {size(length)}. Nothing was handed in: divide the "
            "file, each part is a batch of its own; or let the daemon take more"
        )
        raise TooLarge(error.status, detail) from None
    except KeyboardInterrupt:
        say(f"it is not known whether the batch was accepted; handed in again with --key {key} it is the same one")
        raise
