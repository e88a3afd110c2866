"""The daemon: what it can do, and how it is."""

from __future__ import annotations

from typing import Any, NotRequired, TypedDict


class Storage(TypedDict):
    """Whether the store takes changes."""

    ok: bool
    error: str | None


class Means(TypedDict):
    """How a limit is enforced on this machine."""

    limit: str
    #: none: it is not
    by: str | None
    note: str | None


class Engine(TypedDict):
    """A container engine of the server."""

    name: str
    #: none: it does not say
    version: str | None
    #: why it cannot be used; none: it can
    problem: str | None


class Possible(TypedDict):
    """Whether something can be had."""

    #: why not; none: it can
    problem: str | None


class Dialect(TypedDict):
    """An interface of another system that is served."""

    name: str
    #: its own; none: those of /v1
    address: str | None


class OutputQuota(TypedDict):
    """How much output may be kept, and how much there was at the last look. Null: there is no quota."""

    bytes: int | None
    used: int | None


class Node(TypedDict):
    """The daemon in numbers."""

    version: str
    states: dict[str, int]
    stalled: int
    maxRunning: int | None
    #: what tasks may ask for together, and what of it is not set aside: tasks, cpus, memoryMb, gpus, pools
    capacity: dict[str, Any]
    free: dict[str, Any]
    #: of every limit that a task may ask for; this and the next three are not of an older daemon
    limits: NotRequired[list[Means]]
    engines: NotRequired[list[Engine]]
    sandbox: NotRequired[Possible]
    sidecars: NotRequired[Possible]
    #: not of an older daemon
    dialects: NotRequired[list[Dialect]]
    draining: bool
    drainedAt: str | None
    empty: bool
    #: not of an older daemon
    outputQuota: NotRequired[OutputQuota]
    ready: bool
    storage: Storage
    storeSetAside: str | None
