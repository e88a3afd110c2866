"""The daemon's hold on its launcher: the process, the socket to it, and another one when it dies."""

from __future__ import annotations

import asyncio
import json
import logging
import os
import resource
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from typing import cast

from task_runner.environment.base import SECRET_VARIABLE, Refusal
from task_runner.lib.statedir import StateDirectory

log = logging.getLogger(__name__)

#: seconds to wait at start for starts of an earlier daemon that are still on their way
STARTS_PATIENCE = 5.0
#: seconds before a launcher that died is replaced: one that cannot start must not keep a processor busy
RESTART_PAUSE = 0.1


class Launcher(asyncio.Protocol):
    """The launcher process and the socket to it; started again when it dies."""

    def __init__(
        self,
        state: StateDirectory,
        options: bytes,
        on_refusal: Callable[[Refusal], None],
        on_outage: Callable[[], None],
    ) -> None:
        """``options``: what runners are going to be told."""
        self._state = state
        self._options = options
        self._on_refusal = on_refusal
        self._on_outage = on_outage
        self._transport: asyncio.WriteTransport | None = None
        self._process: subprocess.Popen[bytes] | None = None
        self._stopping = False
        self._rest = b""
        self._restart: asyncio.Task[None] | None = None

    async def start(self) -> None:
        ours, theirs = socket.socketpair()
        ours.setblocking(False)
        soft = raise_file_limit()
        arguments = (self._state.launcher_lock, str(soft), self._options.decode())
        command = [sys.executable, "-m", "task_runner.lib.launcher", *arguments]
        with theirs, open(self._state.runner_log, "ab") as errors:  # noqa: ASYNC230
            # from the loop's own thread, which lives as long as the daemon: the launcher asks the kernel to
            # be killed when the *thread* that started it ends
            # every symbol is bound before the first fork: runners would each bind them on pages of their own
            self._process = subprocess.Popen(  # noqa: ASYNC220
                command,
                env={**_inherited(), "LD_BIND_NOW": "1"},
                stdin=theirs.fileno(),
                stdout=errors.fileno(),
                stderr=errors.fileno(),
            )
        loop = asyncio.get_running_loop()
        await loop.create_connection(lambda: self, sock=ours)

    @property
    def pid(self) -> int | None:
        return self._process.pid if self._process else None

    def send(self, request: bytes) -> None:
        if self._transport is not None:
            self._transport.write(request)

    async def stop(self) -> None:
        self._stopping = True
        if self._restart is not None:
            self._restart.cancel()
        if self._transport is not None:
            self._transport.close()
        if self._process is not None:
            await asyncio.to_thread(self._process.wait)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport, self._rest = cast("asyncio.WriteTransport", transport), b""

    def data_received(self, data: bytes) -> None:
        *lines, self._rest = (self._rest + data).split(b"\n")
        for line in lines:
            answer = json.loads(line)
            self._on_refusal(Refusal(task_id=answer["id"], attempt=answer["attempt"], reason=answer["error"]))

    def connection_lost(self, _exc: Exception | None) -> None:
        self._transport = None
        if not self._stopping:
            self._restart = asyncio.ensure_future(self._start_again())

    async def _start_again(self) -> None:
        assert self._process is not None
        code = await asyncio.to_thread(self._process.wait)
        log.warning("the launcher ended (%s); starting another", code, extra={"action": "restart_launcher"})
        await asyncio.sleep(RESTART_PAUSE)
        await starts_finished(self._state)
        await self.start()
        self._on_outage()


def _inherited() -> dict[str, str]:
    return {name: value for name, value in os.environ.items() if not name.startswith(SECRET_VARIABLE)}


async def starts_finished(state: StateDirectory) -> None:
    """Wait until no start of an earlier launcher is on its way, or patience ends.

    Nothing depends on the outcome but tidiness: a start that comes late finds its attempt void, and its daemon gone.
    """
    deadline = time.monotonic() + STARTS_PATIENCE
    while state.starts_under_way():
        if time.monotonic() > deadline:
            log.warning("starts of an earlier launcher are still under way; going on, they cannot run twice")
            return
        await asyncio.sleep(0.01)


def raise_file_limit() -> int:
    """Let the daemon open as many files as it may: one a runner. Returns the limit that tasks shall have."""
    global _usual_file_limit
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if _usual_file_limit is None:
        _usual_file_limit = soft
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    return _usual_file_limit


_usual_file_limit: int | None = None
