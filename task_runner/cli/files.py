"""`task-runner files`, `get`."""

from __future__ import annotations

import base64
import os
import sys
from collections.abc import Iterable, Iterator

import click

from task_runner.cli.edge import PATIENCE, Session, pass_session
from task_runner.cli.output import Cell, clean, emit, emit_array, json_option, say, size, table
from task_runner.cli.suggest import TASK
from task_runner.cli.wholefile import place, whole
from task_runner.client.records import FileEntry

FORMATS = ("tar", "tar.gz", "zip")
_COLUMNS = ("MODE", "SIZE", "MODIFIED", "PATH")
_COLOURS = {"directory": "blue", "link": "cyan", "file": None}


@click.command()
@click.argument("task_id", metavar="ID", shell_complete=TASK)
@click.argument("path", default="")
@click.option("--recursive", "-r", is_flag=True, help="And what is in directories below.")
@json_option
@pass_session
def files(session: Session, task_id: str, path: str, recursive: bool, as_json: bool) -> None:
    """List what a task has in its working directory, or in the directory PATH of it."""
    with session.client() as client:
        found = client.files.list(task_id, path, recursive=recursive)
        if as_json:
            emit_array(found)
        else:
            table(_COLUMNS, map(_row, found))


def _row(entry: FileEntry) -> list[Cell]:
    kind = entry["kind"] or "?"
    name = _text(entry["path"], entry["pathBase64"]) + ("/" if kind == "directory" else "")
    if kind == "link":
        name += f" -> {_text(entry['target'], entry['targetBase64'])}"
    elif kind not in _COLOURS:
        name += f" ({kind})"
    if entry["error"]:
        name += f" ({clean(entry['error'])})"
    modified = entry["modifiedAt"]
    return [
        (entry["mode"] or "-", None),
        (size(entry["bytes"]), None),
        (modified[:19].replace("T", " ") if modified else "-", None),
        (name, _COLOURS.get(kind, "yellow")),
    ]


def _text(text: str | None, exact: str | None) -> str:
    """A name for a terminal: what is not UTF-8 in it stands there as \\xff."""
    if text is None:
        text = base64.b64decode(exact or "").decode(errors="backslashreplace")
    return clean(text)


@click.command()
@click.argument("task_id", metavar="ID", shell_complete=TASK)
@click.argument("path", default="")
@click.option("--output", "-o", "target", metavar="FILE", help="Where to; - is standard output. [the name, here]")
@click.option("--archive", "-a", "kind", type=click.Choice(FORMATS), help="All of a directory, packed.")
@click.option("--force", "-f", is_flag=True, help="Replace FILE if it is there.")
@json_option
@pass_session
def get(
    session: Session, task_id: str, path: str, target: str | None, kind: str | None, force: bool, as_json: bool
) -> None:
    """Fetch the file PATH from a task's working directory; with --archive, all of the directory PATH, or of the task.

    A FILE appears only when it has come whole.
    """
    name = os.path.basename(path.rstrip("/"))
    if kind is None and not name:
        raise click.UsageError("say which file, or --archive for all of them")
    with session.client(patience=PATIENCE) as client:
        content = client.files.read(task_id, path) if kind is None else client.files.archive(task_id, path, kind)
        if target == "-":
            for chunk in content:
                sys.stdout.buffer.write(chunk)
            sys.stdout.buffer.flush()
            return
        file = place(target, name if kind is None else f"{name or task_id}.{kind}", force)
        count = _write(file, content)
    emit({"file": file, "bytes": count}) if as_json else say(f"{file}: {size(count)}")


def _write(file: str, content: Iterable[bytes]) -> int:
    """Returns the number of bytes."""
    count = 0
    chunks: Iterator[bytes] = iter(content)
    chunk = next(chunks, None)  # before anything is made: most refusals come now
    with whole(file) as out:
        while chunk is not None:
            out.write(chunk)
            count += len(chunk)
            chunk = next(chunks, None)
    return count
