"""What a task's actions are given, and what watches over them: only what its spec asks for.

A part is something that the runner's one loop turns (lib/supervision.py): it takes what has come, and never waits.
A task that asks for nothing has none.
"""

from __future__ import annotations

import os
import select
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Protocol

from task_runner.lib import failpoint, group, process, secretfiles, walls
from task_runner.lib.basics import base_environment
from task_runner.lib.cgroups import Places
from task_runner.lib.clock import Clock
from task_runner.lib.family import Family
from task_runner.lib.group import Group
from task_runner.lib.inputpipe import InputPipe
from task_runner.lib.outputlog import OutputLog
from task_runner.lib.process import Process
from task_runner.lib.progress import ProgressPipe
from task_runner.lib.silence import StallWatch
from task_runner.lib.taskdir import AttemptDirectory
from task_runner.lib.tasktime import TaskTime
from task_runner.machines.base import Context
from task_runner.machines.walls import Walls
from task_runner.model.containerpolicy import ContainerPolicy
from task_runner.model.grant import Grant
from task_runner.model.machines import CONTAINER, SILENT
from task_runner.model.spec import Action, Spec
from task_runner.model.status import Accounting, LimitNote

if TYPE_CHECKING:
    from task_runner.lib.forwarding.hold import Forwarding

#: machines that report progress, whether the spec asks for it or not
_REPORTING = frozenset({"download", "extract", "container"})


@dataclass(frozen=True, kw_only=True, slots=True)
class Options:
    """What a runner is told beside its spec."""

    #: the FIFO to ring; none: nobody to tell
    bell: str | None = None
    heartbeat_seconds: float = 10.0
    #: where tasks keep the locks they share
    locks: str = "/tmp"  # noqa: S108
    #: directories below which files of this machine may be read for tasks
    host_files: tuple[str, ...] = ()
    #: where tasks get their cgroups; none: they get none
    cgroups: Places | None = None
    #: container engines by the path of their socket, the default first; empty: look in the usual places
    engines: dict[str, str] = field(default_factory=dict)
    #: names the daemon in labels of what engines make for it
    daemon: str = ""
    #: what containers may have of this machine
    containers: ContainerPolicy = field(default_factory=ContainerPolicy)
    #: a PEM file with whom to trust where output is forwarded by TLS; none: as this machine does
    forward_ca: str | None = None


class Part(Protocol):
    """Something to be turned by the one loop."""

    def due(self) -> float | None:
        """When it wants a turn though no descriptor is ready, on the monotonic clock; None: never."""

    def turn(self, now: float) -> None:
        """Do what there is to do at this time of the monotonic clock."""


def wants_input(action: Action) -> bool:
    """Whether an action asks for an open standard input."""
    return (
        action.machine == "process" and isinstance(action.parameters, dict) and bool(action.parameters.get("openStdin"))
    )


def may_say(action: Action) -> bool:
    """Whether an action's machine may say how it gets on."""
    return action.machine not in SILENT or action.wrapped


def is_remote(action: Action) -> bool:
    """Whether what an action's machine runs is none of our descendants (machines/say.py)."""
    return action.machine == CONTAINER


class OutputLimit:
    """Keeps the output within its limit."""

    def __init__(self, output: OutputLog, clock: Clock) -> None:
        self._check = output.check
        self._at: float | None = clock.monotonic()

    def due(self) -> float | None:
        return self._at

    def turn(self, now: float) -> None:
        if self._at is not None and now >= self._at:
            patience = self._check()
            self._at = None if patience is None else now + patience


class Equipment:
    """Everything of one attempt that stands around its actions."""

    __slots__ = (
        "parts", "progress", "input", "stall", "forwarding", "group", "accounting", "limits", "obstacle",
        "task_id", "_spec", "_directory", "_options", "_grant", "_variables", "_basics", "_walls",
    )  # fmt: skip

    def __init__(
        self, task_id: str, spec: Spec, directory: AttemptDirectory, options: Options, grant: Grant | None
    ) -> None:
        self.task_id = task_id
        self._spec = spec
        self._directory = directory
        self._options = options
        self._grant = grant
        self._variables: dict[str, str] = {}
        self._basics = base_environment()
        self._walls: Walls | None = None
        #: what became of the limits that the spec asks for
        self.limits: list[LimitNote] = []
        #: why nothing of the task may run
        self.obstacle: str | None = None
        self.parts: list[Part] = []
        self.progress: ProgressPipe | None = None
        self.input: InputPipe | None = None
        self.stall: StallWatch | None = None
        #: none: no output is forwarded
        self.forwarding: Forwarding | None = None
        #: none: there are no cgroups here
        self.group: Group | None = None
        #: what the group has used; known at the end
        self.accounting: Accounting | None = None

    def open(self, output: OutputLog, clock: Clock, tell: Callable[[], None], poll: select.poll) -> None:
        """Make files and pipes. Raises OSError."""
        spec, directory = self._spec, self._directory
        if self._options.cgroups is not None:
            self.group = group.make(self._options.cgroups, self.task_id, directory.attempt)
        self._put_up_walls()
        account = self._grant.account if self._grant is not None else None
        if self._grant is not None:
            self._variables.update(self._grant.env)
            if self._grant.gpus:
                self._variables["CUDA_VISIBLE_DEVICES"] = ",".join(map(str, self._grant.gpus))
                # the indices are the driver's; CUDA's own order, the fastest first, may be another
                self._variables["CUDA_DEVICE_ORDER"] = "PCI_BUS_ID"
        if spec.secrets and self._grant is not None:
            self._variables.update(secretfiles.provide(directory, spec.secrets, self._grant.secrets, account))
        actions = spec.all_actions
        if spec.progress or any(each.machine in _REPORTING for each in actions):
            self.progress = ProgressPipe(directory.progress, clock, tell, account)
            self.progress.watch(poll)
            self.parts.append(self.progress)
            if spec.progress:
                self._variables["TASK_RUNNER_PROGRESS"] = directory.progress
        if any(map(wants_input, actions)):
            self.input = InputPipe(directory, poll)
            self.parts.append(self.input)
        if spec.max_output_bytes is not None:
            self.parts.append(OutputLimit(output, clock))
        if spec.logging is not None:
            from task_runner.lib.forwarding.hold import Forwarding  # as few tasks have that

            self.forwarding = Forwarding(self.task_id, spec, directory, self._variables, self._options.forward_ca)

    def _put_up_walls(self) -> None:
        spec, grant, places = self._spec, self._grant, self._options.cgroups
        self._walls, self.limits = walls.build(spec, grant, self.group, places.why if places is not None else None)
        self.obstacle = walls.obstacle(spec, grant, self.limits) or walls.inheritance(self._directory, self.user_id)
        if grant is None:
            return
        if (account := grant.account) is not None:
            if account.uid != os.geteuid() and self.obstacle is None:
                self._directory.hand_over(account.uid, account.gid)
            self._basics = walls.environment(self._basics, account)
        self._basics = {**grant.inherited, **self._basics}

    @property
    def user_id(self) -> int | None:
        """Whom the actions run as; None: as the daemon."""
        account = self._grant.account if self._grant is not None else None
        return None if account is None else account.uid

    def watch_silence(
        self, root: int, family: Family, time: TaskTime, clock: Clock, output: OutputLog, act: Callable[[], None],
        elsewhere: Callable[[], Iterable[Process]],
    ) -> None:  # fmt: skip
        """Watch over the task as its stall policy says. ``elsewhere``: its processes beside our descendants."""
        if self._spec.stall is None:
            return

        def count() -> tuple[int | None, ...]:
            lines = self.progress.lines if self.progress else 0
            return (*output.size(), lines, self.input.passed if self.input else 0)

        self.stall = StallWatch(self._spec.stall, root, family, time, clock, count, act, elsewhere)
        self.parts.append(self.stall)

    def absent_secrets(self) -> list[str]:
        """The names of secrets that the spec asks for and that were not given."""
        if not self._spec.secrets:
            return []
        return secretfiles.missing(self._spec.secrets, self._grant.secrets if self._grant else {})

    def context(self, index: int, stdout: int, stderr: int, stdin: int | None) -> Context:
        """What an action may know; ``index`` is -1 for what comes before the first."""
        env = self._basics | self._given(index)
        return Context(
            task_id=self.task_id,
            attempt=self._directory.attempt,
            action_index=index,
            work=self._directory.work,
            env=env,
            stdout=stdout,
            stderr=stderr,
            locks=self._options.locks,
            stdin=stdin,
            progress=self._directory.progress if self.progress else None,
            host_files=self._options.host_files,
            secrets=self._grant.secrets if self._grant else {},
            walls=self._walls,
        )

    def _given(self, index: int) -> dict[str, str]:
        own = {process.MARK: self.task_id, "TASK_RUNNER_ATTEMPT": str(self._directory.attempt)}
        if index >= 0 and self._grant is not None and self._grant.traceparents:
            own["TRACEPARENT"] = self._grant.traceparents[index]
        return {**self._variables, **own, "TASK_RUNNER_ACTION": str(index)}

    def speaking_context(self, plain: Context, *, tries: int, take_up: bool) -> Context:
        """The same for a machine that may say something."""
        spec = self._spec
        wants_files = any(use.file_env is not None for use in spec.secrets)
        return replace(
            plain,
            tries=tries,
            take_up=take_up,
            keep=self.keep(plain.action_index, tries),
            reach=failpoint.reach,
            limits=spec.limits,
            engines=self._options.engines,
            daemon=self._options.daemon,
            containers=self._options.containers,
            given=self._given(plain.action_index),
            secret_files=self._directory.secrets if wants_files else None,
        )

    def keep(self, index: int, tries: int) -> str:
        """Where a machine keeps what a later process of this try has to know."""
        return f"{self._directory.path}/machine.{index}.{tries}"

    def close(self) -> None:
        """Put everything away. What was said last of progress stays known."""
        if self.progress is not None:
            self.progress.close()
        if self.input is not None:
            self.input.close()
        if self.forwarding is not None:
            self.forwarding.close()
        if self._spec.secrets:
            secretfiles.remove(self._directory)
        if self.group is not None:
            self.accounting = self.group.accounting()
            self.group.remove()
