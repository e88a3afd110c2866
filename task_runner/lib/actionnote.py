"""What is known of the action at hand, while it changes."""

from __future__ import annotations

import resource

from task_runner.lib import signals
from task_runner.lib.group import Group
from task_runner.model.spec import Action
from task_runner.model.state import Outcome
from task_runner.model.status import ActionStatus, ContainerNote, Identity, Usage


class ActionNote:
    """It becomes an ActionStatus when it is written."""

    __slots__ = (
        "state", "outcome", "tries", "exit_code", "signal", "error", "started_at", "finished_at", "process", "usage",
        "oom_killed", "container", "output_start", "output_end", "stderr_start", "stderr_end", "_index", "_action",
        "_cleanup", "_before", "_group", "_kills_before",
    )  # fmt: skip

    def __init__(self, index: int, action: Action, *, cleanup: bool, group: Group | None) -> None:
        self._group = group
        self._kills_before: int | None = None
        self._index = index
        self._action = action
        self._cleanup = cleanup
        self._before = resource.getrusage(resource.RUSAGE_CHILDREN)
        self.state = "pending"
        self.outcome: Outcome | None = None
        self.tries = 0
        self.started_at: str | None = None
        self.output_start: int | None = None
        self.stderr_start: int | None = None
        self.output_end: int | None = None
        self.stderr_end: int | None = None
        self.usage: Usage | None = None
        self.process: Identity | None = None
        self.oom_killed: bool | None = None
        self.container: ContainerNote | None = None
        self._clear()

    def _clear(self) -> None:
        self.exit_code: int | None = None
        self.signal: str | None = None
        self.error: str | None = None
        self.finished_at: str | None = None

    def begin_try(self, at: str, sizes: tuple[int, int | None]) -> None:
        if self.tries == 0:
            self.started_at = at
            self.output_start, self.stderr_start = sizes
        self.tries += 1
        self.state, self.outcome, self.process = "running", None, None
        self._kills_before = self._group.oom_kills() if self._group is not None else None
        self._clear()

    def inherit(self, before: ActionStatus) -> None:
        """Go on where a dead runner was with this very try."""
        self.state, self.tries, self.process, self.container = "running", before.tries, before.process, before.container
        self.started_at, self.usage = before.started_at, before.usage
        self.output_start, self.stderr_start = before.output_start, before.stderr_start
        self.exit_code, self.signal, self.oom_killed = before.exit_code, before.signal, before.oom_killed

    def end_try(self, at: str, outcome: Outcome, result: int | None, sizes: tuple[int, int | None]) -> None:
        """``result`` is the exit code, or a signal with a minus, or unknown."""
        self.state, self.outcome, self.finished_at = "exited", outcome, at
        if result is not None and result < 0:
            self.signal = signals.name_of(-result)
        else:
            self.exit_code = result
        self.output_end, self.stderr_end = sizes
        if self.process is not None:
            self.usage = usage_since(self._before)  # of all tries together
        if self._group is not None and self._kills_before is not None:
            self._note_oom(self._group, (self._group.oom_kills() or 0) - self._kills_before)

    def _note_oom(self, group: Group, kills: int) -> None:
        """``kills``: in this try. What runs in a container is not counted here: its engine tells."""
        if kills > 0:
            self.oom_killed = True
            if self.outcome is Outcome.FAILED and self.error is None:
                self.error = group.oom_words(kills)
        elif self.oom_killed is None and self.container is None:
            self.oom_killed = False

    def status(self) -> ActionStatus:
        return ActionStatus(
            index=self._index,
            machine=self._action.machine,
            name=self._action.name,
            cleanup=self._cleanup,
            state=self.state,
            outcome=self.outcome,
            tries=self.tries,
            exit_code=self.exit_code,
            signal=self.signal,
            error=self.error,
            started_at=self.started_at,
            finished_at=self.finished_at,
            process=self.process,
            usage=self.usage,
            oom_killed=self.oom_killed,
            container=self.container,
            output_start=self.output_start,
            output_end=self.output_end,
            stderr_start=self.stderr_start,
            stderr_end=self.stderr_end,
        )


def usage_since(before: resource.struct_rusage) -> Usage:
    """What the kernel counted since ``before``.

    For the peak it knows no "since", and a command's peak begins with the memory of the runner that became it:
    one that is not above the runner's own says nothing of the command, so it is unknown.
    """
    now = resource.getrusage(resource.RUSAGE_CHILDREN)
    user, system = now.ru_utime - before.ru_utime, now.ru_stime - before.ru_stime
    own_peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return Usage(
        cpu_seconds=round(user + system, 6),
        user_seconds=round(user, 6),
        system_seconds=round(system, 6),
        max_rss_bytes=now.ru_maxrss * 1024 if now.ru_maxrss > own_peak else None,
        read_bytes=(now.ru_inblock - before.ru_inblock) * 512,
        written_bytes=(now.ru_oublock - before.ru_oublock) * 512,
    )
