"""`python -m task_runner.lib.runner SPEC.json`: a task as `cli`, here and now, without any daemon.

The files of the task directory appear in the current directory; what the commands write is shown as well. A command
that asks for an open standard input gets ours. Secrets are the daemon's: here there are none.
"""

from __future__ import annotations

import json
import os
import select
import signal
import sys
from typing import Any, BinaryIO

from task_runner.errors import TaskRunnerError
from task_runner.lib import cgroups, inputspool, lock, secretfiles, signals
from task_runner.lib.equipment import Options, wants_input
from task_runner.lib.runner import TaskRunner
from task_runner.lib.taskdir import AttemptDirectory
from task_runner.machines.walls import forbid_new_privileges
from task_runner.model.codec import from_json
from task_runner.model.echo import parse as parse_echo
from task_runner.model.shortform import expand
from task_runner.model.spec import OutputMode, Spec
from task_runner.model.state import Outcome
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
    forbid_new_privileges()
    # one that comes before the runner listens waits for that, and is not lost
    signal.pthread_sigmask(signal.SIG_BLOCK, signals.HANDLED)
    signals.install()
    places = cgroups.find(cgroups.name_of(directory.task)) if spec.limits is not None else None
    options = Options(locks=os.path.join(directory.task, "locks"), host_files=("/",), cgroups=places)
    terminal = _Terminal(spec, directory)
    runner = TaskRunner("cli", spec, directory, options, on_turn=terminal)
    runner.claim()
    status = runner.run()
    terminal.show()  # what a filter of the output wrote after the last turn
    if places is not None:
        cgroups.leave(places)
    if status.error is not None:
        print(status.error, file=sys.stderr)
    return exit_code(status)


def exit_code(status: Status) -> int:
    """The exit code a shell would give: the command's, or 128 and the signal's number, or 127 if none ran."""
    if status.outcome is Outcome.SUCCEEDED:
        return 0
    if status.exit_code is not None and status.outcome is not None:
        return status.exit_code or 1
    return 128 + signals.parse(status.signal) if status.signal else 127


def _read_spec(path: str) -> Spec:
    if path == "-":
        data: Any = json.load(sys.stdin)
    else:
        with open(path, encoding="utf-8") as file:
            data = json.load(file)
    spec = from_json(Spec, expand(data))
    signals.parse(spec.stop_signal)
    for action in spec.all_actions:
        if action.machine == "echo":
            parse_echo(action.parameters)
    return spec


def _clear(directory: AttemptDirectory) -> None:
    secretfiles.remove(directory)
    for path in (
        directory.lock,
        directory.status,
        directory.output,
        directory.stdout,
        directory.stderr,
        directory.stop,
        directory.input,
        directory.input_end,
        directory.progress,
    ):
        try:
            os.unlink(path)
        except FileNotFoundError:
            pass


class _Terminal:
    """Shows the output as it grows, and passes on what is typed to a task that asks for it."""

    def __init__(self, spec: Spec, directory: AttemptDirectory) -> None:
        if spec.output_mode is OutputMode.SEPARATE:
            self._shown = [_Show(directory.stdout, sys.stdout.buffer), _Show(directory.stderr, sys.stderr.buffer)]
        else:
            self._shown = [_Show(directory.output, sys.stdout.buffer)]
        self._directory = directory
        self._typing = any(map(wants_input, spec.all_actions))

    def show(self) -> None:
        for each in self._shown:
            each.turn()

    def __call__(self) -> None:
        self.show()
        if self._typing and select.select([0], [], [], 0)[0]:
            data = os.read(0, 1 << 16)
            self._typing = bool(data)
            inputspool.append(self._directory, data, None, not data)


class _Show:
    """Shows one file."""

    def __init__(self, path: str, to: BinaryIO) -> None:
        self._path = path
        self._to = to
        self._fd = -1

    def turn(self) -> None:
        if self._fd < 0:
            self._fd = os.open(self._path, os.O_RDONLY | os.O_CLOEXEC)
        while chunk := os.read(self._fd, 1 << 16):
            try:
                self._to.write(chunk)
                self._to.flush()
            except OSError:
                return  # nobody looks any more; the file has it all
