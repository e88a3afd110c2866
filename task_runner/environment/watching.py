"""What can be seen of attempts: their locks, their status files, and their runners, which the kernel watches."""

from __future__ import annotations

import asyncio
import logging
import os
import threading
from collections.abc import Callable

from task_runner.environment.base import Sighting
from task_runner.errors import Damaged
from task_runner.lib import lock, process, statusfile
from task_runner.lib.clock import boot_id
from task_runner.lib.lock import Probe
from task_runner.lib.taskdir import AttemptDirectory, set_aside
from task_runner.model.status import Heartbeat, Identity, Status

log = logging.getLogger(__name__)


class Lookout:
    """Looks at attempts. Between `open` and `close` it has the kernel tell when a runner ends that was seen from the
    event loop; a look from another thread only looks."""

    def __init__(self) -> None:
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread: int | None = None
        self._watched: dict[str, tuple[int, int]] = {}  # task id: pid of its runner, pidfd

    def open(self, on_end: Callable[[str], None]) -> None:
        """``on_end(task_id)`` is called when a runner has ended."""
        self._loop, self._thread = asyncio.get_running_loop(), threading.get_ident()
        self._on_end = on_end

    def close(self) -> None:
        for task_id in list(self._watched):
            self.forget(task_id)
        self._loop = self._thread = None

    def look(self, task_id: str, directory: AttemptDirectory) -> Sighting:
        """What can be seen of an attempt now."""
        # the lock first: a runner that is dead by then has written all it ever will
        probe = lock.probe(directory)
        status, damage = read_status(directory)
        identity = probe.runner or (status.runner if status else None)
        alive = probe.held
        if probe.runner is None and not alive and identity is not None:
            alive = process.is_alive(identity)  # the lock file was removed or damaged: the next best proof
        process_state = self._watch(task_id, identity) if alive and identity is not None else None
        return Sighting(
            claimed=probe.claimed or status is not None,
            alive=alive,
            void=probe.void,
            barred=probe.barred,
            runner=identity,
            earlier_boot=identity is not None and identity.boot_id != boot_id(),
            heartbeat=_latest(probe, status),
            status=status,
            damage=damage or probe.damage,
            process_state=process_state,
            gpus=probe.gpus or tuple(status.gpus if status else ()),
        )

    def _watch(self, task_id: str, runner: Identity) -> str | None:
        """Have the kernel tell when the runner ends. Returns its state letter, None if it is gone."""
        seen = process.look(runner.pid)
        if seen is None or seen.start_time != runner.start_time:
            return None
        here = self._loop if self._thread == threading.get_ident() else None
        if here is not None and self._watched.get(task_id, (0, 0))[0] != runner.pid:
            self.forget(task_id)
            fd = process.open_pidfd(runner)
            if fd is not None:
                self._watched[task_id] = (runner.pid, fd)
                here.add_reader(fd, self._runner_ended, task_id)
        return seen.state

    def _runner_ended(self, task_id: str) -> None:
        self.forget(task_id)
        self._on_end(task_id)

    def forget(self, task_id: str) -> None:
        """Watch its runner no more."""
        _pid, fd = self._watched.pop(task_id, (0, -1))
        if fd >= 0:
            assert self._loop is not None
            self._loop.remove_reader(fd)
            os.close(fd)


def read_status(directory: AttemptDirectory) -> tuple[Status | None, str | None]:
    """What the runner last said; and what was wrong with the file, which is then set aside."""
    try:
        return statusfile.read(directory), None
    except Damaged as error:
        kept = set_aside(directory.status)
        if kept is not None and (late := _replaced_meanwhile(directory, kept)) is not None:
            return late, None
        log.warning("%s: %s; kept as %s", directory.status, error, kept)
        return None, f"{error}; kept as {os.path.basename(kept or '')}"
    except OSError as error:
        return None, f"status.json: {error.strerror}"


def _replaced_meanwhile(directory: AttemptDirectory, kept: str) -> Status | None:
    """The status that was set aside, if the runner wrote a good one just before the rename: it is put back."""
    try:
        status = statusfile.read_file(kept)
        if status is not None:
            os.link(kept, directory.status)
            os.unlink(kept)
    except FileExistsError:
        return read_status(directory)[0]  # it has written yet another
    except (OSError, Damaged):
        return None
    return status


def _latest(probe: Probe, status: Status | None) -> Heartbeat | None:
    return probe.heartbeat or (status.heartbeat if status else None)
