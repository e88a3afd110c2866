"""What the built-in machines take as parameters. The script of `echo` is in model/echo.py."""

from __future__ import annotations

import enum
from dataclasses import dataclass, field
from typing import Annotated, Any, ClassVar

from task_runner.model.constraints import STRICT, Limit
from task_runner.model.terms import Headers, Seconds, Text, Url, VariableName, Word, WorkPath
from task_runner.model.walls import Sandbox, Sidecar

#: the machine whose work goes on when its runner has died
CONTAINER = "container"
#: machines that have no more to say than an exit code can (machines/say.py)
SILENT = frozenset({"process", "echo", "download", "extract"})


@dataclass(frozen=True, kw_only=True, slots=True)
class ProcessParameters:
    """What the `process` machine runs: exactly one of ``command`` and ``shell``."""

    __pydantic_config__: ClassVar[Any] = STRICT

    #: program and arguments; no shell is involved
    command: Annotated[list[Text], Limit(min_length=1, max_length=10_000)] | None = None
    #: a line for /bin/sh -c
    shell: Text | None = None
    #: variables beside the basic ones (PATH, HOME, USER, LANG …)
    env: Annotated[dict[VariableName, Text], Limit(max_length=10_000)] = field(default_factory=dict)
    #: where to run; relative to the task's work/ directory, which is the default
    working_directory: Text | None = None
    #: what the command reads on its standard input; none: it is empty
    stdin: Annotated[str, Limit(max_length=1_048_576)] | None = None
    #: keep standard input open, for POST …/input; not beside `stdin`
    open_stdin: bool = False
    #: run in a sandbox
    sandbox: Sandbox | None = None
    #: run inside another container; not beside `sandbox`
    sidecar: Sidecar | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class DownloadParameters:
    """What the `download` machine fetches, into the working directory."""

    __pydantic_config__: ClassVar[Any] = STRICT

    #: http, https or file; a file must lie below one of the directories that the server allows
    url: Url
    #: where it goes; the last part of the URL's path, unless said otherwise
    path: WorkPath | None = None
    #: what its content must have, in hexadecimal digits
    sha256: Annotated[str, Limit(pattern=r"^[0-9a-fA-F]{64}$")] | None = None
    #: it fails beyond this size
    max_bytes: Annotated[int, Limit(ge=0, le=2**60)] | None = None
    #: of the request
    headers: Headers = field(default_factory=dict)
    #: the name of a secret that is sent as "Authorization: Bearer …"
    bearer_secret: Word | None = None
    #: seconds without a byte after which a connection counts as broken
    timeout_seconds: Seconds = 60.0
    #: how often a broken transfer is taken up again where it broke off
    resumes: Annotated[int, Limit(ge=0, le=1000)] = 5


class ArchiveFormat(enum.Enum):
    """Kinds of archive."""

    TAR = "tar"
    TAR_GZ = "tar.gz"
    TAR_XZ = "tar.xz"
    TAR_ZST = "tar.zst"
    ZIP = "zip"


@dataclass(frozen=True, kw_only=True, slots=True)
class ExtractParameters:
    """What the `extract` machine unpacks, inside the working directory."""

    __pydantic_config__: ClassVar[Any] = STRICT

    #: the archive, below the working directory
    path: WorkPath
    #: the directory it is unpacked into; the working directory itself, unless said otherwise
    into: WorkPath = "."
    #: found out from the content, unless said
    format: ArchiveFormat | None = None
    #: leave out so many leading parts of each name
    strip_components: Annotated[int, Limit(ge=0, le=100)] = 0
    #: it fails where the unpacked files would hold more
    max_bytes: Annotated[int, Limit(ge=0, le=2**60)] = 10 * 2**30
    #: it fails where there are more files and directories
    max_entries: Annotated[int, Limit(ge=0, le=100_000_000)] = 1_000_000
