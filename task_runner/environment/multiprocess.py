"""This machine: every attempt is a runner process, forked by the launcher, found again by its files."""

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
from collections.abc import Callable, Sequence
from signal import SIGCONT, SIGKILL
from typing import cast

from task_runner.environment.base import SECRET_VARIABLE, Launch, Refusal, Sighting
from task_runner.errors import Damaged
from task_runner.lib import diskuse, failpoint, inputspool, lock, process, secretfiles, signals, statusfile, stop
from task_runner.lib.clock import SystemClock, boot_id
from task_runner.lib.doorbell import Doorbell
from task_runner.lib.lock import Probe
from task_runner.lib.portrait import Portrait, portray
from task_runner.lib.request import encode_request
from task_runner.lib.statedir import StateDirectory
from task_runner.lib.taskdir import AttemptDirectory, open_regular, set_aside, write_control
from task_runner.model.status import Heartbeat, Identity, Receipt, Status

log = logging.getLogger(__name__)

#: seconds to wait at start for starts of an earlier daemon that are still on their way
STARTS_PATIENCE = 5.0
#: seconds before a launcher that died is replaced: one that cannot start must not keep a processor busy
RESTART_PAUSE = 0.1


class MultiprocessEnvironment:
    """Runs attempts as processes of this machine. See environment/base.py for what each method promises."""

    def __init__(
        self, state: StateDirectory, *, heartbeat_seconds: float = 10.0, host_files: Sequence[str] = ()
    ) -> None:
        """``host_files``: the directories below which tasks may have files of this machine read."""
        self._state = state
        options = {
            "bell": state.bell,
            "heartbeatSeconds": heartbeat_seconds,
            "locks": state.locks,
            "hostFiles": list(host_files),
        }
        self._options = json.dumps(options).encode()
        self._watched: dict[str, tuple[int, int]] = {}  # task id: pid of its runner, pidfd
        self._launcher: _Launcher | None = None
        self._bell: Doorbell | None = None

    async def open(
        self, on_news: Callable[[str], None], on_refusal: Callable[[Refusal], None], on_outage: Callable[[], None]
    ) -> None:
        self._loop = asyncio.get_running_loop()
        self._on_news = on_news
        await starts_finished(self._state)
        await asyncio.to_thread(self._state.tasks.sweep)
        self._bell = Doorbell(self._state.bell)
        self._loop.add_reader(self._bell.fd, self._answer_bell)
        self._launcher = _Launcher(self._state, on_refusal, on_outage)
        await self._launcher.start()

    async def close(self) -> None:
        if self._launcher is not None:
            await self._launcher.stop()
        for task_id in list(self._watched):
            self.forget(task_id)
        if self._bell is not None:
            self._loop.remove_reader(self._bell.fd)
            self._bell.close()

    def _answer_bell(self) -> None:
        assert self._bell is not None
        for task_id in self._bell.answer():
            self._on_news(task_id)

    def _directory(self, task_id: str, attempt: int) -> AttemptDirectory:
        return self._state.tasks.attempt(task_id, attempt)

    # -- starting

    def launch(self, launch: Launch) -> None:
        assert self._launcher is not None
        path = self._state.tasks.attempt(launch.task_id, 1).task
        spec = launch.spec.encode()
        self._launcher.send(
            encode_request(launch.task_id, launch.attempt, path, spec, self._options, launch.grant)
        )

    def recall(self, task_id: str, attempt: int) -> bool:
        directory = self._directory(task_id, attempt)
        if not lock.void(directory):
            return False
        self._state.tasks.discard(task_id, attempt)
        return True

    # -- seeing

    def look(self, task_id: str, attempt: int) -> Sighting:
        directory = self._directory(task_id, attempt)
        # the lock first: a runner that is dead by then has written all it ever will
        probe = lock.probe(directory)
        status, damage = self._read_status(directory)
        identity = probe.runner or (status.runner if status else None)
        alive = probe.held
        if probe.runner is None and not alive and identity is not None:
            alive = process.is_alive(identity)  # the lock file was removed or damaged: the next best proof
        process_state = self._watch(task_id, identity) if alive and identity is not None else None
        return Sighting(
            claimed=probe.claimed or status is not None,
            alive=alive,
            void=probe.void,
            runner=identity,
            earlier_boot=identity is not None and identity.boot_id != boot_id(),
            heartbeat=_latest(probe, status),
            status=status,
            damage=damage or probe.damage,
            process_state=process_state,
            gpus=probe.gpus or tuple(status.gpus if status else ()),
        )

    def report(self, task_id: str, attempt: int) -> Status | None:
        return self._read_status(self._directory(task_id, attempt))[0]

    def _read_status(self, directory: AttemptDirectory) -> tuple[Status | None, str | None]:
        try:
            return statusfile.read(directory), None
        except Damaged as error:
            kept = set_aside(directory.status)
            if kept is not None and (late := self._replaced_meanwhile(directory, kept)) is not None:
                return late, None
            log.warning("%s: %s; kept as %s", directory.status, error, kept)
            return None, f"{error}; kept as {os.path.basename(kept or '')}"
        except OSError as error:
            return None, f"status.json: {error.strerror}"

    def _replaced_meanwhile(self, directory: AttemptDirectory, kept: str) -> Status | None:
        """The status that was set aside, if the runner wrote a good one just before the rename: it is put back."""
        try:
            status = statusfile.read_file(kept)
            if status is not None:
                os.link(kept, directory.status)
                os.unlink(kept)
        except FileExistsError:
            return self._read_status(directory)[0]  # it has written yet another
        except (OSError, Damaged):
            return None
        return status

    def _watch(self, task_id: str, runner: Identity) -> str | None:
        """Have the kernel tell when the runner ends. Returns its state letter, None if it is gone."""
        seen = process.look(runner.pid)
        if seen is None or seen.start_time != runner.start_time:
            return None
        if self._watched.get(task_id, (0, 0))[0] != runner.pid:
            self.forget(task_id)
            fd = process.open_pidfd(runner)
            if fd is not None:
                self._watched[task_id] = (runner.pid, fd)
                self._loop.add_reader(fd, self._runner_ended, task_id)
        return seen.state

    def _runner_ended(self, task_id: str) -> None:
        self.forget(task_id)
        self._on_news(task_id)

    def forget(self, task_id: str) -> None:
        _pid, fd = self._watched.pop(task_id, (0, -1))
        if fd >= 0:
            self._loop.remove_reader(fd)
            os.close(fd)

    # -- asking

    def stop(self, task_id: str, attempt: int, signal: str | None, grace: float | None) -> bool:
        if signal is not None or grace is not None:
            order = json.dumps({"signal": signal, "graceSeconds": grace}).encode()
            try:
                write_control(self._directory(task_id, attempt).stop, order)
            except OSError as error:
                log.warning("task %s: stop.json: %s; stopping as the spec says", task_id, error.strerror)
        # a runner that somebody has stopped (SIGSTOP) must go on to be able to stop its task
        return self._send(task_id, attempt, signals.STOP) and self._send(task_id, attempt, SIGCONT)

    def abandon(self, task_id: str, attempt: int) -> bool:
        return self._send(task_id, attempt, SIGKILL)

    def pause(self, task_id: str, attempt: int) -> bool:
        return self._send(task_id, attempt, signals.PAUSE)

    def resume(self, task_id: str, attempt: int) -> bool:
        return self._send(task_id, attempt, signals.RESUME)

    def signal(self, task_id: str, attempt: int, number: int) -> bool:
        return self._send(task_id, attempt, signals.forwarding(number))

    def feed(self, task_id: str, attempt: int, data: bytes, offset: int | None, end: bool) -> int | None:
        if not self.look(task_id, attempt).alive:
            return None
        total = inputspool.append(self._directory(task_id, attempt), data, offset, end)
        failpoint.reach("feed.kept")
        self._send(task_id, attempt, signals.FEED)
        return total

    def _send(self, task_id: str, attempt: int, number: int) -> bool:
        """Signal the runner: the lock says that it lives, the identity says who it is, the pidfd keeps it so."""
        sighting = self.look(task_id, attempt)
        runner = sighting.runner
        if not sighting.alive or runner is None:
            return False
        seen = process.look(runner.pid)
        if seen is None or seen.start_time != runner.start_time or runner.boot_id != boot_id():
            return False
        return process.send(seen, number)

    # -- the end

    def clear(self, task_id: str, *, rebooted: bool = False) -> Receipt | None:
        receipt = None if rebooted else stop.clear_remains(task_id, SystemClock())
        secretfiles.remove_all(self._directory(task_id, 1).task)
        return receipt

    def make_durable(self, task_id: str, attempt: int) -> None:
        directory = self._directory(task_id, attempt)
        try:
            fd = open_regular(directory.status)
        except (OSError, Damaged):
            return
        statusfile.sync_status(directory.path, fd)
        os.close(fd)

    def discard(self, task_id: str) -> None:
        self._state.tasks.discard(task_id)

    def output_path(self, task_id: str, attempt: int, stream: str = "output") -> str:
        directory = self._directory(task_id, attempt)
        return {"output": directory.output, "stdout": directory.stdout, "stderr": directory.stderr}[stream]

    def work_path(self, task_id: str) -> str:
        return self._directory(task_id, 1).work

    def tree(self, task_id: str, attempt: int, most: int) -> tuple[list[Portrait], int]:
        probe = lock.probe(self._directory(task_id, attempt))
        runner = process.look(probe.runner.pid) if probe.held and probe.runner else None
        if runner is not None and probe.runner is not None and process.is_alive(probe.runner):
            found = [runner, *process.descendants(runner.pid)]
        else:
            found = process.marked(task_id)
        return portray(found[:most]), len(found)

    def known(self) -> list[str]:
        return self._state.tasks.ids()

    def disk_use(self, task_id: str) -> int:
        return diskuse.of_tree(self._directory(task_id, 1).task)

    def output_use(self, task_id: str, attempts: int) -> int:
        return sum(map(diskuse.of_file, self._outputs(task_id, attempts)))

    def drop_output(self, task_id: str, attempts: int) -> None:
        for path in self._outputs(task_id, attempts):
            try:
                os.unlink(path)
            except FileNotFoundError:
                pass

    def _outputs(self, task_id: str, attempts: int) -> list[str]:
        directories = [self._directory(task_id, attempt) for attempt in range(1, attempts + 1)]
        return [path for directory in directories for path in diskuse.outputs(directory)]


async def starts_finished(state: StateDirectory) -> None:
    """Wait until no start of an earlier launcher is on its way, or patience ends.

    Nothing depends on the outcome but tidiness: a start that comes late finds its attempt void.
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


def _latest(probe: Probe, status: Status | None) -> Heartbeat | None:
    return probe.heartbeat or (status.heartbeat if status else None)


class _Launcher(asyncio.Protocol):
    """The launcher process and the socket to it; started again when it dies."""

    def __init__(
        self, state: StateDirectory, on_refusal: Callable[[Refusal], None], on_outage: Callable[[], None]
    ) -> None:
        self._state = state
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
        command = [sys.executable, "-m", "task_runner.lib.launcher", self._state.launcher_lock, str(soft)]
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
