"""What Task Runner wants of a container engine.

The calls block. They are made in a child of a runner (machines/containers/standin.py) or in a helper process of the
daemon, never in either of those two themselves. Whoever calls may be killed at any point: what the engine was told to
do it goes on doing, and a container is found again by its labels.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Protocol

from task_runner.model.status import LimitNote
from task_runner.model.walls import Device, Mount, TaskLimits

#: labels of everything that is made for tasks; the value of the first names the daemon (its state directory)
LABEL_DAEMON = "task-runner.daemon"
LABEL_TASK = "task-runner.task"
#: "ATTEMPT.ACTION.TRY": which start of which action
LABEL_START = "task-runner.start"


@dataclass(frozen=True, kw_only=True, slots=True)
class Login:
    """Who asks a registry."""

    username: str
    password: str = field(repr=False)


@dataclass(frozen=True, kw_only=True, slots=True)
class Order:
    """A container to be made."""

    name: str
    image: str
    #: in place of the image's entry point; none: its own
    command: list[str] | None = None
    #: none: the image's own
    args: list[str] | None = None
    env: dict[str, str] = field(default_factory=dict)
    #: user or user:group
    user: str | None = None
    working_directory: str | None = None
    #: all of them, the task's working directory included
    mounts: list[Mount] = field(default_factory=list)
    devices: list[Device] = field(default_factory=list)
    limits: TaskLimits | None = None
    network: str
    labels: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True, slots=True)
class Found:
    """A container that was made for a task."""

    id: str
    name: str
    labels: dict[str, str]

    @property
    def ours(self) -> bool:
        """Whether it has the name that goes with its labels. Labels alone prove nothing: an image that somebody made
        of a task's container (`commit`) hands them on to every container of his."""
        return self.name == name_of(self.labels.get(LABEL_TASK, ""), self.labels.get(LABEL_START, ""))


def name_of(task: str, start: str) -> str:
    """What the container of that very start of a task is called: one of a kind as long as task ids are."""
    return f"task-runner-{task}-{start}"


@dataclass(frozen=True, kw_only=True, slots=True)
class Seen:
    """How a container is now. What the engine does not say is None."""

    #: "created", "running", "paused", "exited", or "gone": the engine does not know it (any more)
    state: str
    exit_code: int | None = None
    #: only where the engine tells it apart from an exit code
    signal: str | None = None
    oom_killed: bool | None = None
    #: of its main process, as this machine numbers it
    pid: int | None = None
    image_id: str | None = None
    #: what went wrong, in the engine's words
    error: str | None = None


#: how a pull goes on: a message for people, and the share that is done (0 to 1), where it is known
Tell = Callable[[str, float | None], None]


class Engine(Protocol):
    """One engine. Every call raises EngineFailed where the engine refuses or does not answer."""

    #: "podman", "docker" or "cri"
    name: str

    def describe(self) -> str:
        """Name and version, for people: "Podman 4.3.1". Engines start programs to answer it."""

    def ping(self) -> None:
        """Whether it is there at all; the least that can be asked. Raises EngineFailed where it does not answer."""

    def image_id(self, image: str) -> str | None:
        """Which image that is here; None where it has to be pulled."""

    def pull(self, image: str, login: Login | None, tell: Tell) -> str:
        """Fetch an image; returns its id."""

    def create(self, order: Order) -> str:
        """Make a container, not started; returns its id."""

    def notes(self, order: Order) -> list[LimitNote]:
        """How the limits of an order are enforced: what was asked, by what, or why not."""

    def start(self, container: str) -> None:
        """Start it."""

    def find(self, labels: Mapping[str, str]) -> list[Found]:
        """All containers that carry all of these labels, whatever their state."""

    def look(self, container: str) -> Seen:
        """How it is now."""

    def wait(self, container: str, seconds: float) -> Seen:
        """Returns as soon as it has ended or is gone, or after so many seconds."""

    def output(self, container: str, skip: tuple[int, int]) -> Iterator[tuple[int, bytes]]:
        """What it wrote, byte for byte and in order, as pairs of stream (1: stdout, 2: stderr) and bytes: all but the
        first ``skip`` bytes of each of the two. Follows it; ends after the container has, with everything read."""

    def send(self, container: str, signal: str) -> None:
        """Send a signal ("SIGTERM") to its main process; nothing happens where it has ended."""

    def pause(self, container: str) -> None:
        """Freeze everything in it."""

    def resume(self, container: str) -> None:
        """Let it go on."""

    def remove(self, container: str) -> None:
        """Kill it, if need be, and remove it with its anonymous volumes; nothing happens where it is gone."""

    def main_pid(self, name: str) -> int:
        """The main process of a running container that somebody else has started, by name or id."""

    def close(self) -> None:
        """Let go of the connection."""
