"""What TaskExecutor hands out."""

from __future__ import annotations

import os
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from task_runner.client.results import Result

if TYPE_CHECKING:
    from task_runner.client.client import Client


@dataclass(frozen=True, slots=True, kw_only=True)
class TaskResult(Result):
    """How a task of an executor ended. What it wrote stays with the daemon until it is asked for."""

    _client: Client = field(repr=False, compare=False)

    def output(self, stream: str | None = None) -> bytes:
        """All that its last attempt wrote; ``stream``: "stdout" or "stderr", where the task keeps them apart.

        It is fetched now, also after the executor's shutdown. Raises NotFound where the task has been removed.
        """
        return b"".join(self._client.iter_output(self.task_id, attempt=self.attempt, stream=stream))

    def output_path(self, stream: str | None = None) -> Path | None:
        """The file that `output` reads, if the daemon is on this machine and this user may read it; else None."""
        state_dir = self._client.state_dir
        if state_dir is None or not self._client.local:
            return None
        from task_runner.lib.statedir import StateDirectory

        directory = StateDirectory(state_dir).tasks.attempt(self.task_id, self.attempt)
        path = Path(directory.path, f"{stream or 'output'}.log")
        return path if os.access(path, os.R_OK) else None


class TaskFuture(Future[TaskResult]):
    """The end of a task. It is resolved with a TaskResult however the task ended: what failed, was stopped by somebody
    or is lost has an outcome that says so. An exception says that the end cannot be heard of."""

    def __init__(self, cancel: Callable[[TaskFuture], bool]) -> None:
        super().__init__()
        self._ask = cancel
        self.task_id = ""
        self.cancelling = False

    def cancel(self) -> bool:
        """Cancel the task if it has not started; returns whether it never will. One that runs goes on: False.

        Asks the daemon, and raises what that may raise.
        """
        if self.done():
            return self.cancelled()
        return self._ask(self)
