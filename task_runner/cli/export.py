"""`task-runner export`: all that is known of a task in one archive, for a report of a fault."""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import BinaryIO

import click

from task_runner.cli.edge import PATIENCE, Session, pass_session
from task_runner.cli.output import emit, json_option, say, size
from task_runner.cli.suggest import TASK
from task_runner.cli.wholefile import place, whole
from task_runner.errors import InvalidRequest


@click.command()
@click.argument("task_id", metavar="ID", shell_complete=TASK)
@click.option("--output", "-o", "target", metavar="FILE", help="Where to; - is standard output. [ID.tar.gz, here]")
@click.option("--files", "with_files", is_flag=True, help="Also what the task has in its working directory.")
@click.option("--force", "-f", is_flag=True, help="Replace FILE if it is there.")
@json_option
@pass_session
def export(
    session: Session, task_id: str, target: str | None, with_files: bool, force: bool, as_json: bool
) -> None:
    """Put all that is known of a task into one archive (tar.gz), to be sent along with a report.

    In it are the spec, the status and the output of each attempt, the events, what `explain` says, the list of the
    files, the node, and the settings of a daemon on this machine. README.txt says what is missing, and why. Values of
    secrets are not in it, as the API does not have them; what a command prints, or was given in the clear, is.

    FILE appears only when it is whole.
    """
    if target == "-" and as_json:
        raise click.UsageError("--json says where FILE is; it does not go with standard output")
    from task_runner.cli.evidence import Evidence

    address = session.address()
    with session.client(patience=PATIENCE) as client:
        task = client.get(task_id)
        path = None if target == "-" else place(target, f"{task['taskId']}.tar.gz", force)
        quiet = session.client(patience=PATIENCE, on_outage=lambda _error: None)
        with quiet as listener, _sink(path) as (out, spool):
            evidence = Evidence(client, listener, task, out, spool, pid=address.pid)
            evidence.collect(with_files=with_files)
            count = out.tell() if path is not None else 0
    for each in evidence.left_out:
        say(f"not in it: {each}")
    if path is not None:
        emit({"file": path, "bytes": count, "leftOut": evidence.left_out}) if as_json else say(f"{path}: {size(count)}")


@contextmanager
def _sink(path: str | None) -> Iterator[tuple[BinaryIO, Callable[[], BinaryIO]]]:
    """Where the archive goes, and what makes files for what must be whole before it goes there."""
    if path is None:
        yield sys.stdout.buffer, tempfile.TemporaryFile
        sys.stdout.buffer.flush()
        return
    with whole(path, 0o600) as out:  # outputs are nobody else's business
        yield out, lambda: _beside(out)


def _beside(out: BinaryIO) -> BinaryIO:
    """A nameless file on the disk of the archive, which has room for more than /tmp may have."""
    import os

    try:
        return tempfile.TemporaryFile(dir=os.path.dirname(os.path.abspath(str(out.name))))
    except OSError as error:
        raise InvalidRequest(f"a temporary file cannot be made: {error.strerror}") from None
