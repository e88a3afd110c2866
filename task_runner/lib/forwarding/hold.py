"""The runner's hold on its forwarder (lib/forwarding/forwarder.py): starts it, and tells it what it cannot see.

The forwarder goes on for a moment when the task is over, and nobody waits for it. What got through it writes into
forward.json, which the service reads when somebody asks.
"""

from __future__ import annotations

import ctypes
import os
import signal
import socket
import sys
from collections.abc import Mapping
from typing import NoReturn

from task_runner.lib.forwarding.order import Order, Origin
from task_runner.lib.helper import leave_runner
from task_runner.lib.taskdir import AttemptDirectory
from task_runner.model.spec import OutputMode, Spec

_PR_SET_CHILD_SUBREAPER = 36
_libc = ctypes.CDLL(None)


class Forwarding:
    """The forwarder of one attempt."""

    def __init__(
        self,
        task_id: str,
        spec: Spec,
        directory: AttemptDirectory,
        variables: Mapping[str, str],
        authorities: str | None,
    ) -> None:
        """Raises OSError where there is no process or descriptor left. ``variables``: those of the task's actions."""
        order = _order(task_id, spec, directory, variables, authorities)
        source, self._sink = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
        try:
            _start(order, source)
        except OSError:
            os.close(self._sink)
            raise
        finally:
            os.close(source)

    def begin(self, action: int, sizes: tuple[int, int | None]) -> None:
        """What is written from here on is of this action."""
        self._tell(f"action {action}", sizes)

    def end(self, sizes: tuple[int, int | None]) -> None:
        """Nothing more will be written."""
        self._tell("end", sizes)
        self.close()

    def close(self) -> None:
        if self._sink >= 0:
            os.close(self._sink)
            self._sink = -1

    def _tell(self, what: str, sizes: tuple[int, int | None]) -> None:
        words = [what, *(str(size) for size in sizes if size is not None)]
        try:
            os.write(self._sink, " ".join(words).encode() + b"\n")
        except OSError:
            pass  # it has been killed, or hears nothing


def _order(
    task_id: str, spec: Spec, directory: AttemptDirectory, variables: Mapping[str, str], authorities: str | None
) -> Order:
    assert spec.logging is not None
    apart = spec.output_mode is OutputMode.SEPARATE
    origin = Origin(
        task_id=task_id,
        attempt=directory.attempt,
        name=spec.name,
        entity=variables.get("TASK_RUNNER_ENTITY"),
        batch=variables.get("TASK_RUNNER_BATCH"),
        host=socket.gethostname(),
    )
    return Order(
        logging=spec.logging,
        origin=origin,
        files=[("stdout", directory.stdout), ("stderr", directory.stderr)] if apart else [("output", directory.output)],
        limit=spec.max_output_bytes,
        authorities=authorities,
        directory=directory.path,
        note=os.path.basename(directory.forward),
    )


# -- the process


def _start(order: Order, source: int) -> None:
    """Fork a forwarder that is nobody's child. Raises OSError.

    Whose parent ends becomes a child of the nearest subreaper above it, and that is the runner: so for a moment it is
    none. Nothing of the task has been started yet that could get lost by this.
    """
    # blocked until the child has left the runner: a signal for it would be noted in the runner's inbox
    before = signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
    _libc.prctl(_PR_SET_CHILD_SUBREAPER, 0, 0, 0, 0)
    try:
        pid = os.fork()
        if pid == 0:
            _become(order, source)
        try:
            os.waitpid(pid, 0)
        except ChildProcessError:
            pass  # where SIGCHLD is ignored the kernel has waited for it
    finally:
        _libc.prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _become(order: Order, source: int) -> NoReturn:
    try:
        if os.fork() == 0:
            leave_runner([source])
            _forward(order, source)
    except BaseException:
        import traceback

        traceback.print_exc()
        sys.stderr.flush()
        os._exit(1)
    os._exit(0)


def _forward(order: Order, source: int) -> None:
    import gc

    from task_runner.lib.forwarding.forwarder import Forwarder

    gc.enable()  # the launcher has switched it off, for processes that live in short steps
    Forwarder(order, source).run()
