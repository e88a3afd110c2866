"""This machine: every attempt is a runner process, forked by the launcher, found again by its files."""

from __future__ import annotations

import asyncio
import json
import logging
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from signal import SIGCONT, SIGKILL

from task_runner.environment import base
from task_runner.environment.base import Launch, Refusal, Sighting
from task_runner.environment.groups import Groups
from task_runner.environment.launching import Launcher, starts_finished
from task_runner.environment.measuring import Meter
from task_runner.environment.sweeping import Sweeper
from task_runner.environment.watching import Lookout, read_status
from task_runner.errors import Damaged
from task_runner.lib import (
    diskuse,
    failpoint,
    inputspool,
    limits,
    lock,
    process,
    secretfiles,
    signals,
    statusfile,
    stop,
)
from task_runner.lib.clock import SystemClock, boot_id
from task_runner.lib.doorbell import Doorbell
from task_runner.lib.forwarding import order as forwarded
from task_runner.lib.portrait import Portrait, portray
from task_runner.lib.request import encode_request
from task_runner.lib.statedir import StateDirectory
from task_runner.lib.taskdir import AttemptDirectory, open_regular, write_control
from task_runner.model.codec import to_json
from task_runner.model.containerpolicy import ContainerPolicy
from task_runner.model.machines import CONTAINER
from task_runner.model.status import Receipt, Status
from task_runner.model.walls import Means

log = logging.getLogger(__name__)


class MultiprocessEnvironment:
    """Runs attempts as processes of this machine. See environment/base.py for what each method promises."""

    def __init__(
        self,
        state: StateDirectory,
        *,
        heartbeat_seconds: float = 10.0,
        host_files: Sequence[str] = (),
        cgroups: bool = False,
        engines: Mapping[str, str] | None = None,
        containers: ContainerPolicy | None = None,
        forward_ca: str | None = None,
    ) -> None:
        """``host_files``: the directories below which tasks may have files of this machine read. ``cgroups``: tasks get
        control groups, where this host allows it. ``engines``: those that are configured, by the path of their socket;
        ``containers``: what they may have of this machine. ``forward_ca``: whom to trust where output is forwarded by
        TLS."""
        self._state = state
        self._groups = Groups(state, wanted=cgroups)
        self._meter = Meter(self._groups)
        self._settings = {
            "bell": state.bell,
            "heartbeatSeconds": heartbeat_seconds,
            "locks": state.locks,
            "hostFiles": list(host_files),
            "engines": dict(engines or {}),
            "daemon": os.path.realpath(state.path),
            "containers": to_json(containers or ContainerPolicy()),
            "forwardCa": forward_ca,
        }
        self._options = json.dumps(self._settings).encode()
        self._lookout = Lookout()
        self._sweeper = Sweeper(state.containers, self._settings["daemon"], dict(engines or {}))
        self._launcher: Launcher | None = None
        self._bell: Doorbell | None = None

    async def open(
        self, on_news: Callable[[str], None], on_refusal: Callable[[Refusal], None], on_outage: Callable[[], None]
    ) -> None:
        self._loop = asyncio.get_running_loop()
        self._on_news = on_news
        await starts_finished(self._state)
        await asyncio.to_thread(self._state.tasks.sweep)
        await asyncio.to_thread(self._groups.open)
        if self._groups.places is not None:
            self._settings["cgroups"] = to_json(self._groups.places, sparse=True)
            self._options = json.dumps(self._settings).encode()
        self._lookout.open(on_news)
        self._bell = Doorbell(self._state.bell)
        self._loop.add_reader(self._bell.fd, self._answer_bell)
        self._launcher = Launcher(self._state, self._options, on_refusal, on_outage)
        await self._launcher.start()

    async def close(self) -> None:
        if self._launcher is not None:
            await self._launcher.stop()
        self._lookout.close()
        if self._bell is not None:
            self._loop.remove_reader(self._bell.fd)
            self._bell.close()
        await asyncio.to_thread(self._groups.close)

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
        if f'"{CONTAINER}"' in launch.spec:
            self._sweeper.expect()
        self._launcher.send(
            encode_request(
                launch.task_id, launch.attempt, path, spec, self._options, launch.grant, take_up=launch.take_up
            )
        )

    def recall(self, task_id: str, attempt: int) -> bool:
        directory = self._directory(task_id, attempt)
        if not lock.void(directory):
            return False
        self._state.tasks.discard(task_id, attempt)
        return True

    def bar(self, task_id: str, attempt: int) -> bool:
        try:
            return lock.bar(self._directory(task_id, attempt))
        except OSError as error:
            log.warning("task %s: its lock cannot be barred: %s", task_id, error.strerror)
            return False

    async def sweep(self, doomed: Callable[[str, int], bool]) -> bool:
        return await self._sweeper.sweep(doomed)

    # -- seeing

    def look(self, task_id: str, attempt: int) -> Sighting:
        return self._lookout.look(task_id, self._directory(task_id, attempt))

    def report(self, task_id: str, attempt: int) -> Status | None:
        return read_status(self._directory(task_id, attempt))[0]

    def forget(self, task_id: str) -> None:
        self._lookout.forget(task_id)

    # -- asking

    def stop(self, task_id: str, attempt: int, signal: str | None, grace: float | None) -> bool:
        if signal is not None or grace is not None:
            order = json.dumps({"signal": signal, "graceSeconds": grace}).encode()
            try:
                write_control(self._directory(task_id, attempt).stop, order)
            except OSError as error:
                log.warning("task %s: stop.json: %s; stopping as the spec says", task_id, error.strerror)
        if not self._send(task_id, attempt, signals.STOP):
            return False
        # a runner that somebody has stopped (SIGSTOP) must go on to be able to stop its task; another is through by now
        self._send(task_id, attempt, SIGCONT)
        return True

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
        groups = self._groups.left_by(task_id)
        receipt = None if rebooted else stop.clear_remains(task_id, SystemClock(), groups)
        for each in groups:
            each.remove()
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

    def unforwarded(self, task_id: str, attempt: int) -> int | None:
        return forwarded.missed(self._directory(task_id, attempt).forward)

    def work_path(self, task_id: str) -> str:
        return self._directory(task_id, 1).work

    def tree(self, task_id: str, attempt: int, most: int) -> tuple[list[Portrait], int]:
        probe = lock.probe(self._directory(task_id, attempt))
        runner = process.look(probe.runner.pid) if probe.held and probe.runner else None
        if runner is not None and probe.runner is not None and process.is_alive(probe.runner):
            found = [runner, *process.descendants(runner.pid)]
        else:
            found = process.marked(task_id)
        own = self._groups.of(task_id, attempt)
        if own is None:
            return portray(found[:most]), len(found)
        known = {each.pid for each in found}
        found += [each for each in own.members() if each.pid not in known]
        return portray(found[:most], frozenset(own.pids()) if own.frozen else frozenset()), len(found)

    def measure(self, statuses: Iterable[Status]) -> dict[str, base.Use]:
        return self._meter.measure(statuses)

    def means(self) -> list[Means]:
        return limits.means(self._groups.means)

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
