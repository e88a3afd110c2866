"""The contract between the service and the place where runners run.

An environment launches attempts, tells what can be seen of them, and passes requests on. It decides nothing:
what a sighting means is the service's to say (service/classify.py).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Protocol

from task_runner.lib.portrait import Portrait
from task_runner.model.grant import Grant
from task_runner.model.status import Heartbeat, Identity, Receipt, Status
from task_runner.model.walls import Means

#: a variable of the daemon that begins so holds a secret: no process that it starts inherits it
SECRET_VARIABLE = "TASK_RUNNER_SECRET_"  # noqa: S105

@dataclass(frozen=True, kw_only=True, slots=True)
class Launch:
    """One attempt to start."""

    task_id: str
    attempt: int
    #: the spec as JSON
    spec: str
    #: none: nothing beside the spec
    grant: Grant | None = None
    #: its runner is dead, and another is to go on with what it had in hand; nothing that was started starts again
    take_up: bool = False


@dataclass(frozen=True, kw_only=True, slots=True)
class Sighting:
    """What can be seen of an attempt at one moment. Facts, no verdict."""

    #: a runner has claimed it
    claimed: bool = False
    #: that runner lives: its lock is held
    alive: bool = False
    #: it was made impossible before a runner could claim it
    void: bool = False
    #: that runner is dead, and none is to take up what it had in hand
    barred: bool = False
    runner: Identity | None = None
    #: the runner is of an earlier boot of this machine
    earlier_boot: bool = False
    heartbeat: Heartbeat | None = None
    status: Status | None = None
    #: what was wrong with a file, and where it was set aside
    damage: str | None = None
    #: state letter of the runner process (R, S, D, T …), where it lives
    process_state: str | None = None
    #: the graphics processors that the attempt was given, by index, as its claim says
    gpus: tuple[int, ...] = ()


@dataclass(frozen=True, kw_only=True, slots=True)
class Use:
    """What an attempt uses now. None: not known."""

    #: since its runner's start, of what has ended, too
    cpu_seconds: float | None = None
    #: resident memory of its processes in sum: what several share counts for each
    rss_bytes: int | None = None
    #: that live, its runner not counted
    processes: int | None = None


UNKNOWN = Use()


@dataclass(frozen=True, kw_only=True, slots=True)
class Refusal:
    """A launch that did not happen."""

    task_id: str
    attempt: int
    reason: str


class Environment(Protocol):
    """Launches attempts, tells what it sees, passes requests on."""

    async def open(
        self, on_news: Callable[[str], None], on_refusal: Callable[[Refusal], None], on_outage: Callable[[], None]
    ) -> None:
        """Get ready. ``on_news(task_id)`` is called when a task is worth looking at, ``on_refusal`` when a launch
        did not happen, ``on_outage`` when launches may have been lost and each must be looked at."""

    async def close(self) -> None:
        """Let go of everything; runners go on."""

    def launch(self, launch: Launch) -> None:
        """Have an attempt started. Returns at once; news or a refusal follow."""

    def look(self, task_id: str, attempt: int) -> Sighting:
        """What can be seen of an attempt now. A live runner that is looked at from the event loop is watched from then
        on, where the environment is open: its end is news."""

    def report(self, task_id: str, attempt: int) -> Status | None:
        """What the runner of an attempt last said, of an earlier attempt, too; None if that is not known."""

    def bar(self, task_id: str, attempt: int) -> bool:
        """Make sure that no runner takes up what a dead one had in hand; False where one has."""

    async def sweep(self, doomed: Callable[[str, int], bool]) -> bool:
        """Remove what container engines keep for tasks: of each attempt there is anything of, ``doomed`` says whether
        it is to go. False where an engine did not answer, so that it should be tried again. Nothing is asked where no
        container was ever run."""

    def forget(self, task_id: str) -> None:
        """Stop watching a task."""

    def recall(self, task_id: str, attempt: int) -> bool:
        """Make sure that a launch never comes to anything, and clear its directory; False if a runner was first."""

    def stop(self, task_id: str, attempt: int, signal: str | None, grace: float | None) -> bool:
        """Have the runner stop its task; None means as the spec says. False if there is no runner."""

    def abandon(self, task_id: str, attempt: int) -> bool:
        """Kill a runner that does not answer; what its task has left is then `clear`ed. False if there is none."""

    def pause(self, task_id: str, attempt: int) -> bool:
        """Have the runner freeze its task. False if there is no runner."""

    def resume(self, task_id: str, attempt: int) -> bool:
        """Have the runner let its task go on. False if there is no runner."""

    def signal(self, task_id: str, attempt: int, number: int) -> bool:
        """Have the runner pass a signal on. False if there is no runner."""

    def feed(self, task_id: str, attempt: int, data: bytes, offset: int | None, end: bool) -> int | None:
        """Keep bytes for the standard input of a task, and have the runner pass them on.

        ``offset`` says how many came before, by the sender's count; None: whatever came. ``end``: these are the last.
        With ``offset`` the last bytes may be sent again, by who does not know whether they arrived: they count once.
        Returns how many bytes there are by now; None if there is no runner. Blocks for a write to a local file.
        Raises Conflict where the input has ended, or where ``offset`` is not what came before; StorageFull.
        """

    def clear(self, task_id: str, *, rebooted: bool = False) -> Receipt | None:
        """Kill what a dead runner left, and remove the secrets it had in files; None if nothing was killed.
        ``rebooted``: the machine was started anew since, so there is nothing to kill."""

    def make_durable(self, task_id: str, attempt: int) -> None:
        """Bring an attempt's status to stable storage, for when the store cannot."""

    def discard(self, task_id: str) -> None:
        """Remove all files of a task that has no runner. May take long."""

    def output_path(self, task_id: str, attempt: int, stream: str = "output") -> str:
        """The file with the attempt's output ("output", "stdout" or "stderr"); it need not exist yet."""

    def unforwarded(self, task_id: str, attempt: int) -> int | None:
        """Lines of an attempt's output that did not get to where they were to be forwarded to, each counted for each
        target; None: that is not known, or not yet."""

    def work_path(self, task_id: str) -> str:
        """The working directory of a task, which all its attempts share; it need not exist yet."""

    def tree(self, task_id: str, attempt: int, most: int) -> tuple[list[Portrait], int]:
        """The live processes of an attempt, the runner first, parents before children; at most ``most`` of them, and
        how many there are. Where the runner is dead: what it left. Reads /proc, which may take a moment."""

    def measure(self, statuses: Iterable[Status]) -> dict[str, Use]:
        """What attempts use now, by task; each is known by what its runner last said, and left out where that runner
        cannot be verified. One at a time, not in the event loop: it reads /proc."""

    def means(self) -> list[Means]:
        """How each limit of TaskLimits is enforced here; known once it is open."""

    def known(self) -> list[str]:
        """The tasks that this environment has files of."""

    def disk_use(self, task_id: str) -> int:
        """Bytes on the disk that all files of a task take. May take long."""

    def output_use(self, task_id: str, attempts: int) -> int:
        """Bytes on the disk that the output of a task's first attempts takes."""

    def drop_output(self, task_id: str, attempts: int) -> None:
        """Remove the output of a task's first attempts; none of them runs. Raises OSError."""
