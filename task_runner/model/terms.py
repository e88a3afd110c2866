"""What a task may ask for beside its actions: order, resources, retries, files, secrets, notifications."""

from __future__ import annotations

import enum
from dataclasses import dataclass, field
from typing import Annotated, Any, ClassVar

from task_runner.model.constraints import STRICT, Limit

#: no NUL: the kernel ends a string there
Text = Annotated[str, Limit(max_length=131_072, pattern=r"^[^\x00]*$")]
Name = Annotated[str, Limit(min_length=1, max_length=200, pattern=r"^[^\x00-\x1f\x7f]*$")]
Seconds = Annotated[float, Limit(gt=0, le=10 * 365 * 86_400)]
Grace = Annotated[float, Limit(ge=0, le=86_400)]
SignalName = Annotated[str, Limit(pattern=r"^SIG[A-Z0-9]{2,10}$")]
TagKey = Annotated[str, Limit(min_length=1, max_length=100, pattern=r"^[^\x00-\x1f\x7f=]+$")]
TagValue = Annotated[str, Limit(max_length=200, pattern=r"^[^\x00-\x1f\x7f]*$")]
VariableName = Annotated[str, Limit(min_length=1, max_length=1000, pattern=r"^[^\x00=]+$")]
#: another name of a task; a dialect puts its own name and a colon in front of what its clients call a task
Alias = Annotated[str, Limit(min_length=1, max_length=600, pattern=r"^[^\x00-\x1f\x7f]*$")]
#: a word that names something on the server: a pool, a secret, a template
Word = Annotated[str, Limit(min_length=1, max_length=100, pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$")]
#: bytes of the shortest secret that is masked in an output: a shorter one stands in too many places by chance
LEAST_MASKED = 4
#: a path below the task's working directory; that it stays there is checked where it is used
WorkPath = Annotated[str, Limit(min_length=1, max_length=4096, pattern=r"^[^\x00]+$")]
Url = Annotated[str, Limit(min_length=1, max_length=8192, pattern=r"^[a-z][a-z0-9+.-]*:[^\x00-\x20\x7f]+$")]
HeaderName = Annotated[str, Limit(min_length=1, max_length=200, pattern=r"^[!#$%&'*+.^_`|~0-9A-Za-z-]+$")]
Headers = Annotated[
    dict[
        HeaderName,
        Annotated[str, Limit(max_length=8192, pattern=r"^[^\x00\r\n]*$")],
    ],
    Limit(max_length=100),
]


class RetryOn(enum.Enum):
    """The endings after which another try makes sense."""

    FAILED = "failed"
    TIMED_OUT = "timed_out"
    LOST = "lost"


@dataclass(frozen=True, kw_only=True, slots=True)
class Retry:
    """Try again, later and later. Try n (the first again is 1) waits delay * factor^(n-1), with jitter."""

    __pydantic_config__: ClassVar[Any] = STRICT

    #: how often to try again; the first try is not counted
    count: Annotated[int, Limit(ge=0, le=1000)] = 3
    #: seconds before the first repetition
    delay_seconds: Grace = 1.0
    #: each wait is so many times the one before
    factor: Annotated[float, Limit(ge=1, le=100)] = 2.0
    #: no wait is longer
    max_delay_seconds: Grace = 300.0
    #: each wait is made longer or shorter by a random part of up to this share of it
    jitter: Annotated[float, Limit(ge=0, le=1)] = 0.1
    #: which endings are tried again; a task that somebody stopped never is
    on: Annotated[list[RetryOn], Limit(min_length=1, max_length=3)] = field(default_factory=lambda: list(RetryOn))


class Condition(enum.Enum):
    """How a task that another waits for has to end."""

    SUCCESS = "success"
    END = "end"


@dataclass(frozen=True, kw_only=True, slots=True)
class After:
    """Another task that must be over first."""

    __pydantic_config__: ClassVar[Any] = STRICT

    #: its id; in a batch also the name of another task of the batch
    task: Name
    #: how it has to end; if it ends otherwise, the task that waits for it ends `cancelled`
    on: Condition = Condition.SUCCESS


@dataclass(frozen=True, kw_only=True, slots=True)
class Resources:
    """What of the machine is set aside for a task while it runs. It is counted, and not enforced here."""

    __pydantic_config__: ClassVar[Any] = STRICT

    #: processors; parts of one can be asked for
    cpus: Annotated[float, Limit(ge=0, le=100_000)] = 0.0
    #: in MiB
    memory_mb: Annotated[int, Limit(ge=0, le=2**40)] = 0
    #: whole graphics processors; the command finds their indices in CUDA_VISIBLE_DEVICES
    gpus: Annotated[int, Limit(ge=0, le=1024)] = 0


class StallThen(enum.Enum):
    """What to do with a task that is silent."""

    MARK = "mark"
    STOP = "stop"


@dataclass(frozen=True, kw_only=True, slots=True)
class StallPolicy:
    """A task is silent while it writes no output, uses no processor time and reports no progress."""

    __pydantic_config__: ClassVar[Any] = STRICT

    #: seconds of silence, pauses not counted
    after_seconds: Seconds
    #: "mark": show it as stalled; "stop": stop it, and it ends `timed_out`
    then: StallThen = StallThen.MARK


@dataclass(frozen=True, kw_only=True, slots=True)
class SecretUse:
    """A secret that the server knows, handed to every action: as a variable, as a file, or both."""

    __pydantic_config__: ClassVar[Any] = STRICT

    #: the name that the server knows it by
    name: Word
    #: the environment variable that holds it
    env: VariableName | None = None
    #: the environment variable that holds the path of a file with it; the file is the task's alone
    file_env: VariableName | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class Fetch:
    """A file to be fetched over HTTP."""

    __pydantic_config__: ClassVar[Any] = STRICT

    #: http or https
    url: Url
    #: of the request
    method: Annotated[str, Limit(pattern=r"^[A-Z]{1,20}$")] = "GET"
    #: of the request
    headers: Headers = field(default_factory=dict)
    #: credentials for HTTP Basic authentication
    username: Annotated[str, Limit(max_length=500, pattern=r"^[^\x00-\x1f:]*$")] | None = None
    #: the name of a secret that the server knows
    password_secret: Word | None = None
    #: the name of a secret that is sent as "Authorization: Bearer …"
    bearer_secret: Word | None = None
    #: headers whose whole value is a secret, by its name
    header_secrets: Annotated[dict[HeaderName, Word], Limit(max_length=100)] = field(default_factory=dict)
    #: what is sent with the request, as text/plain unless `headers` say otherwise
    body: Annotated[str, Limit(max_length=1_048_576)] | None = None
    #: the statuses of an answer that holds the file; none: 200 to 299
    statuses: Annotated[list[Annotated[int, Limit(ge=200, le=599)]], Limit(max_length=100)] = field(
        default_factory=list
    )
    #: take any certificate, also a forged one
    insecure: bool = False
    #: seconds without a byte after which it has failed
    timeout_seconds: Seconds = 60.0
    #: seconds that connecting may take; `timeoutSeconds`, unless said otherwise
    connect_seconds: Seconds | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class FileIn:
    """A file to be put into the working directory before the first action: exactly one source."""

    __pydantic_config__: ClassVar[Any] = STRICT

    #: where it goes, below the working directory; directories on the way are made
    path: WorkPath
    #: its content
    text: Annotated[str, Limit(max_length=1_048_576)] | None = None
    #: bytes in base64
    base64: Annotated[str, Limit(max_length=4_194_304, pattern=r"^[A-Za-z0-9+/\s]*={0,2}\s*$")] | None = None
    #: a file of this machine, below one of the directories that the server allows
    host_path: Annotated[str, Limit(max_length=4096, pattern=r"^/[^\x00]*$")] | None = None
    #: a file to be fetched over HTTP
    fetch: Fetch | None = None
    #: permissions in octal digits
    mode: Annotated[str, Limit(pattern=r"^0?[0-7]{3}$")] = "0644"
    #: user, or user:group, by name or number; needs root
    owner: Annotated[str, Limit(max_length=200, pattern=r"^[A-Za-z0-9_.$-]+(:[A-Za-z0-9_.$-]+)?$")] | None = None


class NotifyOn(enum.Enum):
    """A change worth a notification: a state that was entered, or an ending."""

    PENDING = "pending"
    RUNNING = "running"
    PAUSED = "paused"
    STOPPING = "stopping"
    STALLED = "stalled"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    CANCELLED = "cancelled"
    TIMED_OUT = "timed_out"
    LOST = "lost"


#: the endings
ENDINGS = (NotifyOn.SUCCEEDED, NotifyOn.FAILED, NotifyOn.CANCELLED, NotifyOn.TIMED_OUT, NotifyOn.LOST)


@dataclass(frozen=True, kw_only=True, slots=True)
class Webhook:
    """Where to tell what."""

    __pydantic_config__: ClassVar[Any] = STRICT

    #: http or https
    url: Url
    #: which changes; the endings, unless said otherwise
    on: Annotated[list[NotifyOn], Limit(min_length=1, max_length=10)] = field(default_factory=lambda: list(ENDINGS))
    #: the name of a secret that the server knows: the notification is signed with it (HMAC-SHA256)
    secret: Word | None = None
