"""The walls around a task: what it may use, whom it runs as, what it sees, and what of that is really so."""

from __future__ import annotations

import enum
from dataclasses import dataclass, field
from typing import Annotated, Any, ClassVar

from task_runner.model.constraints import STRICT, Limit
from task_runner.model.terms import Text, VariableName, Word, WorkPath

#: a user or group, by name or number
Account = Annotated[str, Limit(min_length=1, max_length=64, pattern=r"^([A-Za-z_][A-Za-z0-9_.-]*\$?|[0-9]{1,10})$")]
#: permission bits that new files do not get, in octal digits
Umask = Annotated[str, Limit(pattern=r"^0?[0-7]{3}$")]
#: user, or user:group
Accounts = Annotated[
    str, Limit(min_length=1, max_length=130, pattern=r"^[A-Za-z0-9_.$-]+(:[A-Za-z0-9_.$-]+)?$")
]
EngineName = Annotated[str, Limit(pattern=r"^(podman|docker|cri)$")]
ContainerName = Annotated[str, Limit(min_length=1, max_length=200, pattern=r"^[A-Za-z0-9][A-Za-z0-9_./-]*$")]
ImageName = Annotated[str, Limit(min_length=1, max_length=500, pattern=r"^[A-Za-z0-9][A-Za-z0-9._:/@-]*$")]
NetworkName = Annotated[str, Limit(min_length=1, max_length=100, pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]*$")]
#: an absolute path
RootedPath = Annotated[str, Limit(min_length=1, max_length=4096, pattern=r"^/[^\x00]*$")]


@dataclass(frozen=True, kw_only=True, slots=True)
class TaskLimits:
    """What a task may use at most. Each is for all its processes together, unless its line says otherwise."""

    __pydantic_config__: ClassVar[Any] = STRICT

    #: memory in MiB, the page cache of what it reads and writes included
    memory_mb: Annotated[int, Limit(ge=1, le=2**40)] | None = None
    #: swap in MiB beside that; 0: none
    swap_mb: Annotated[int, Limit(ge=0, le=2**40)] | None = None
    #: processors; parts of one can be asked for
    cpus: Annotated[float, Limit(ge=0.01, le=100_000)] | None = None
    #: processes and threads
    pids: Annotated[int, Limit(ge=1, le=4_194_304)] | None = None
    #: files that a process has open
    open_files: Annotated[int, Limit(ge=3, le=2**30)] | None = None
    #: size in MiB of a core file; 0: none is written
    core_mb: Annotated[int, Limit(ge=0, le=2**40)] | None = None
    #: size in MiB of a file that a process writes
    file_mb: Annotated[int, Limit(ge=0, le=2**40)] | None = None
    #: the scheduler's nice value: 19 is the most modest
    nice: Annotated[int, Limit(ge=-20, le=19)] | None = None
    #: share of the disks, relative to the 100 that everybody else has
    io_weight: Annotated[int, Limit(ge=1, le=10_000)] | None = None
    #: refuse the task where one of these cannot be enforced
    required: bool = False


@dataclass(frozen=True, kw_only=True, slots=True)
class Means:
    """How this machine enforces one of the limits."""

    #: the field of TaskLimits, as it is called in JSON: "memoryMb", "cpus" …
    limit: str
    #: "cgroup v2", "cgroup v1", "rlimit", "setpriority", "ioprio", or an engine's name; none: not at all
    by: str | None
    #: in words: why not, or in what it differs from what was asked
    note: str | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class Mount:
    """A directory or file of this machine, shown inside a container or a sandbox."""

    __pydantic_config__: ClassVar[Any] = STRICT

    #: its path here
    source: RootedPath
    #: its path inside; the same, unless said otherwise
    target: RootedPath | None = None
    #: nothing in it can be changed from inside
    read_only: bool = False


@dataclass(frozen=True, kw_only=True, slots=True)
class Sandbox:
    """A command's own view of this machine, made by bubblewrap: the system read-only, a /tmp, /proc and /dev of its
    own, its own processes alone to be seen, and the working directory."""

    __pydantic_config__: ClassVar[Any] = STRICT

    #: let it reach the network
    network: bool = False
    #: what else it sees
    mounts: Annotated[list[Mount], Limit(max_length=100)] = field(default_factory=list)


class Namespace(enum.Enum):
    """What of a process a sidecar joins."""

    PID = "pid"
    MOUNT = "mount"
    UTS = "uts"
    IPC = "ipc"
    NET = "net"


@dataclass(frozen=True, kw_only=True, slots=True)
class Sidecar:
    """Run inside the namespaces of another container's main process: exactly one of `container`, `pid` and `mark`."""

    __pydantic_config__: ClassVar[Any] = STRICT

    #: the name or id of a container, by which its engine knows it
    container: ContainerName | None = None
    #: the engine to ask; the server's first, unless said otherwise
    engine: EngineName | None = None
    #: a process of this machine
    pid: Annotated[int, Limit(ge=1, le=4_194_304)] | None = None
    #: NAME=VALUE, as it stands in the environment of exactly one container's processes; the first of them is meant
    mark: Annotated[str, Limit(min_length=3, max_length=1000, pattern=r"^[^\x00=]+=[^\x00]*$")] | None = None
    #: which of its namespaces
    namespaces: Annotated[list[Namespace], Limit(min_length=1, max_length=5)] = field(
        default_factory=lambda: list(Namespace)
    )
    #: user inside, by name or number of the target's own /etc/passwd; root, unless said otherwise
    user: Account | None = None


class Pull(enum.Enum):
    """When to fetch an image."""

    MISSING = "missing"
    ALWAYS = "always"
    NEVER = "never"


@dataclass(frozen=True, kw_only=True, slots=True)
class Registry:
    """Who asks for the image."""

    __pydantic_config__: ClassVar[Any] = STRICT

    #: as the registry knows them
    username: Annotated[str, Limit(min_length=1, max_length=500, pattern=r"^[^\x00-\x1f:]+$")]
    #: the name of a secret that the server knows
    password_secret: Word


@dataclass(frozen=True, kw_only=True, slots=True)
class WorkMount:
    """Something in the task's working directory, one of its files say, shown at another place inside a container."""

    __pydantic_config__: ClassVar[Any] = STRICT

    #: where it is, below the working directory
    path: WorkPath
    #: its path inside
    target: RootedPath
    #: it cannot be changed from inside
    read_only: bool = False
    #: where nothing is there, a directory is made first, in which every user may write
    make_directory: bool = False


@dataclass(frozen=True, kw_only=True, slots=True)
class Device:
    """A device of this machine, shown inside a container."""

    __pydantic_config__: ClassVar[Any] = STRICT

    #: its path here
    path: RootedPath
    #: its path inside; the same, unless said otherwise
    target: RootedPath | None = None
    #: r: it may be read, w: written, m: made anew (mknod)
    permissions: Annotated[str, Limit(pattern=r"^r?w?m?$", min_length=1)] = "rwm"


#: where a container finds what its task gives it beside the working directory
CONTAINER_GIVEN = "/run/task-runner"


@dataclass(frozen=True, kw_only=True, slots=True)
class ContainerParameters:
    """What the `container` machine runs."""

    __pydantic_config__: ClassVar[Any] = STRICT

    #: name, with a tag or digest
    image: ImageName
    #: program and first arguments, in place of the image's entry point
    command: Annotated[list[Text], Limit(min_length=1, max_length=10_000)] | None = None
    #: arguments after it, in place of the image's own
    args: Annotated[list[Text], Limit(max_length=10_000)] | None = None
    #: variables beside the image's own
    env: Annotated[dict[VariableName, Text], Limit(max_length=10_000)] = field(default_factory=dict)
    #: user, or user:group, inside; the image's own, unless said otherwise
    user: Accounts | None = None
    #: where to run; `workAt`, unless said otherwise
    working_directory: RootedPath | None = None
    #: where the task's working directory is shown inside; none: nowhere
    work_at: RootedPath | None = "/work"
    #: what else of this machine is shown inside, below the directories that the server allows
    mounts: Annotated[list[Mount], Limit(max_length=100)] = field(default_factory=list)
    #: what of the working directory is shown at other places inside
    work_mounts: Annotated[list[WorkMount], Limit(max_length=100)] = field(default_factory=list)
    #: devices of this machine, of those that the server allows: a path, or more of it
    devices: Annotated[list[RootedPath | Device], Limit(max_length=100)] = field(default_factory=list)
    #: what it may use; the task's own limits, unless said otherwise
    limits: TaskLimits | None = None
    #: "none", "host", "bridge" or a name, of those that the server allows; its first, unless said otherwise
    network: NetworkName | None = None
    #: when to fetch the image
    pull: Pull = Pull.MISSING
    #: seconds after which fetching it has failed
    pull_timeout_seconds: Annotated[float, Limit(gt=0, le=86_400)] = 300.0
    #: credentials for fetching it
    registry: Registry | None = None
    #: which engine; the server's first, unless said otherwise
    engine: EngineName | None = None


class Transport(enum.Enum):
    """How lines of output reach a log server."""

    UDP = "udp"
    TCP = "tcp"
    TLS = "tls"


@dataclass(frozen=True, kw_only=True, slots=True)
class Syslog:
    """A server that takes lines as RFC 5424 says."""

    __pydantic_config__: ClassVar[Any] = STRICT

    #: its name or address, of those that the server allows; by TLS its certificate is for this
    host: Annotated[str, Limit(min_length=1, max_length=253, pattern=r"^[A-Za-z0-9_.:-]+$")]
    #: the usual one for TLS is 6514
    port: Annotated[int, Limit(ge=1, le=65_535)] = 514
    #: "udp", "tcp" or "tls"
    transport: Transport = Transport.UDP
    #: the number of the facility: 1 is user, 16 to 23 are local0 to local7
    facility: Annotated[int, Limit(ge=0, le=23)] = 1


@dataclass(frozen=True, kw_only=True, slots=True)
class Logging:
    """Where lines of output go beside the task's own log. What does not get through is left out and counted."""

    __pydantic_config__: ClassVar[Any] = STRICT

    #: to a log server
    syslog: Syslog | None = None
    #: to the journal of the server's machine
    journald: bool = False
    #: the tag (APP-NAME, SYSLOG_IDENTIFIER) is this, the task's name or else its id, and the suffix
    tag_prefix: Annotated[str, Limit(max_length=20, pattern=r"^[\x21-\x7e]*$")] = ""
    #: the end of the tag
    tag_suffix: Annotated[str, Limit(max_length=20, pattern=r"^[\x21-\x7e]*$")] = ""
