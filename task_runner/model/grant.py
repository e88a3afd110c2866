"""What a task is given at its start beside its spec."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(frozen=True, kw_only=True, slots=True)
class GrantedAccount:
    """A user of this machine, as the daemon found it when the task started."""

    uid: int
    gid: int
    #: all groups, the first one included
    groups: list[int]
    name: str
    home: str
    shell: str


@dataclass(frozen=True, kw_only=True, slots=True)
class Grant:
    """Goes from the daemon to the launcher and on to the runner, and is never written to disk: it holds secrets.

    A runner keeps it for its life, so a restart of the daemon changes nothing. A later attempt gets another.
    """

    #: graphics processors, by index; the claim in the lock file names them too, for the next daemon
    gpus: list[int] = field(default_factory=list)
    #: the values of the secrets that the spec names, by name
    secrets: dict[str, str] = field(default_factory=dict)
    #: whom the actions run as; none: as the daemon
    account: GrantedAccount | None = None
    #: why nothing of the task may run after all; it fails with this
    fault: str | None = None
    #: variables for every action: what the daemon knows of the task and the spec does not say
    env: dict[str, str] = field(default_factory=dict)
    #: variables of the daemon's own for every action that runs on this machine itself, and not inside a container
    inherited: dict[str, str] = field(default_factory=dict)
    #: TRACEPARENT for each action, by index; empty: there is no tracing
    traceparents: list[str] = field(default_factory=list)
