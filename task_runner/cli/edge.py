"""The edge of the command line: options all verbs share, and the one place where errors become exit codes."""

from __future__ import annotations

import errno
import os
import sys
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

import click

from task_runner.cli import exitcode
from task_runner.cli.output import clean, say
from task_runner.errors import TaskRunnerError

if TYPE_CHECKING:
    from task_runner.client import Address, Client

T = TypeVar("T")

#: seconds that a verb which waits anyway waits for a daemon that has gone away
PATIENCE = 60.0
#: why standard output takes no more
_NO_ROOM = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO})


@dataclass(slots=True)
class Session:
    """What the verbs know of their surroundings."""

    url: str | None = None
    state_dir: str | None = None
    #: the daemon by the name that the user has given it
    context: str | None = None
    #: the exit code for every error; None: each has its own
    failure: int | None = None

    def client(
        self, *, patience: float = 2.0, met: bool = False, on_outage: Callable[[TaskRunnerError], None] | None = None
    ) -> Client:
        """A client of the daemon that is meant. Nothing is sent yet. ``on_outage``: who tells the person."""
        from task_runner.client import Client  # here: `--help` and `completion` do without it

        # httpx loads rich for a command line of its own, wherever it finds it: a third of the time that `list` takes
        sys.modules.setdefault("httpx._main", None)  # type: ignore[arg-type]
        return Client.at(self.address(), patience=patience, on_outage=on_outage or _tell_outage, met=met)

    def address(self) -> Address:
        """Where the daemon is that is meant. Raises InvalidRequest."""
        from task_runner.client.discovery import find

        return find(self.url, self.state_dir, context=self.context)


pass_session = click.make_pass_decorator(Session, ensure=True)


def _tell_outage(error: TaskRunnerError) -> None:
    say(f"no contact with the daemon, trying again; tasks run on meanwhile ({error})")


class Group(click.Group):
    """The commands. Whatever they raise ends here, as a line on stderr and an exit code."""

    def make_context(self, info_name: str | None, args: list[str], *rest: Any, **extra: Any) -> click.Context:
        # --help and --version write here
        try:
            return super().make_context(info_name, args, *rest, **extra)
        except BrokenPipeError:
            drop_stdout()
            sys.exit(exitcode.READER_GONE)
        except OSError as error:
            _require_no_room(error)
            sys.exit(exitcode.TROUBLE)

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except TaskRunnerError as error:
            report(error)
            session = ctx.find_object(Session)
            failure = session.failure if session else None
            ctx.exit(exitcode.of_error(error) if failure is None else failure)
        except KeyboardInterrupt:
            ctx.exit(exitcode.INTERRUPTED)
        except BrokenPipeError:
            drop_stdout()
            ctx.exit(exitcode.READER_GONE)
        except OSError as error:
            _require_no_room(error)
            session = ctx.find_object(Session)
            failure = session.failure if session else None
            ctx.exit(exitcode.TROUBLE if failure is None else failure)


def _require_no_room(error: OSError) -> None:
    """Say that the output cannot be written. Raises ``error`` where it is another one."""
    if error.filename is not None or error.errno not in _NO_ROOM:
        raise error
    drop_stdout()
    say(f"the output cannot be written: {error.strerror}")


def report(error: TaskRunnerError, about: str | None = None) -> None:
    """Say what went wrong: a line, and one more for each field."""
    fields = getattr(error, "fields", [])
    listed = [f"{fault.field}: {fault.message}" if fault.field else fault.message for fault in fields]
    prefix = f"{about}: " if about else ""
    if len(listed) == 1 or (listed and str(error) == "; ".join(listed[:3])):
        say(prefix + listed[0])
        listed = listed[1:]
    else:
        say(prefix + str(error))
    for line in listed:
        click.echo(f"  {clean(line)}", err=True)


def drop_stdout() -> None:
    """Nobody reads it any more: what is still buffered must not fail at exit."""
    os.dup2(os.open(os.devnull, os.O_WRONLY | os.O_CLOEXEC), sys.stdout.fileno())


def each(ids: Iterable[str], act: Callable[[str], T]) -> tuple[list[T], int]:
    """Do something to every task, whatever happens to the others; returns results and the first exit code."""
    results, code = list[T](), exitcode.OK
    for task_id in ids:
        try:
            results.append(act(task_id))
        except TaskRunnerError as error:
            report(error, about=task_id)
            code = code or exitcode.of_error(error)
    return results, code
