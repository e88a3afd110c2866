"""`python -m task_runner.lib.runner SPEC.json`: a task as `cli`, here and now, without any daemon.

The files of the task directory appear in the current directory; what the commands write is shown as well.
"""

from __future__ import annotations

import json
import os
import sys
from typing import Any

from task_runner.errors import TaskRunnerError
from task_runner.lib import lock, signals
from task_runner.lib.runner import Options, TaskRunner
from task_runner.lib.taskdir import AttemptDirectory
from task_runner.model.codec import from_json
from task_runner.model.echo import parse as parse_echo
from task_runner.model.shortform import expand
from task_runner.model.spec import Spec
from task_runner.model.status import Status

USAGE = "usage: python -m task_runner.lib.runner SPEC.json    (or - for standard input)"
#: sysexits.h: wrong usage, wrong data
EX_USAGE, EX_DATAERR, EX_TEMPFAIL = 64, 65, 75


def main(argv: list[str]) -> int:
    """Run one task in the foreground; returns its exit code."""
    if len(argv) != 2 or argv[1] in ("-h", "--help"):
        print(USAGE, file=sys.stderr)
        return EX_USAGE
    try:
        spec = _read_spec(argv[1])
    except (OSError, ValueError, TaskRunnerError) as error:
        print(f"{argv[1]}: {error}", file=sys.stderr)
        return EX_DATAERR
    directory = AttemptDirectory(os.getcwd(), 1)
    if lock.probe(directory).held:
        print(f"another task runs in {directory.path}", file=sys.stderr)
        return EX_TEMPFAIL
    _clear(directory)
    os.umask(0o077)
    directory.create()
    signals.install()
    options = Options(locks=os.path.join(directory.task, "locks"))
    runner = TaskRunner("cli", spec, directory, options, on_turn=_Show(directory.output))
    runner.claim()
    status = runner.run()
    return exit_code(status)


def exit_code(status: Status) -> int:
    """The exit code a shell would give: the command's, or 128 and the signal's number, or 127 if none ran."""
    if status.exit_code is not None and status.outcome is not None:
        return status.exit_code or (0 if status.outcome.value == "succeeded" else 1)
    return 128 + signals.parse(status.signal) if status.signal else 127


def _read_spec(path: str) -> Spec:
    if path == "-":
        data: Any = json.load(sys.stdin)
    else:
        with open(path, encoding="utf-8") as file:
            data = json.load(file)
    spec = from_json(Spec, expand(data))
    signals.parse(spec.stop_signal)
    for action in spec.actions:
        if action.machine == "echo":
            parse_echo(action.parameters)
    return spec


def _clear(directory: AttemptDirectory) -> None:
    for path in (directory.lock, directory.status, directory.output, directory.stop):
        try:
            os.unlink(path)
        except FileNotFoundError:
            pass


class _Show:
    """Shows the output as it grows."""

    def __init__(self, path: str) -> None:
        self._path = path
        self._fd = -1

    def __call__(self) -> None:
        if self._fd < 0:
            self._fd = os.open(self._path, os.O_RDONLY | os.O_CLOEXEC)
        while chunk := os.read(self._fd, 1 << 16):
            try:
                sys.stdout.buffer.write(chunk)
                sys.stdout.buffer.flush()
            except OSError:
                return  # nobody looks any more; the file has it all
