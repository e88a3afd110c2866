"""What is kept of a client's own request, in the task's metadata under "drove": what its views have to echo.

It holds no content of configs, no payload and no credential.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from task_runner.errors import Damaged
from task_runner.model.codec import from_json, to_json

#: of metadata, and of an alias before its colon
KEY = "drove"


@dataclass(frozen=True, kw_only=True, slots=True)
class DroveRecord:
    """One TaskSpec, checked: enums in capitals, defaults of Drove filled in, unknown fields left out.

    Lists and objects are as Drove has them in JSON, with its own names of fields.
    """

    source_app_name: str
    task_id: str
    #: "TI-" and a random UUID
    instance_id: str
    #: {"type": "DOCKER", "url": …, "dockerPullTimeout": "15 minutes"}
    executable: dict[str, Any]
    #: as asked for: [{"type": "CPU", "count": 1}, {"type": "MEMORY", "sizeInMB": 128}]
    resources: list[dict[str, Any]] = field(default_factory=list)
    volumes: list[dict[str, Any]] = field(default_factory=list)
    #: what and where alone: [{"type": "INLINE", "localFilename": …}]
    configs: list[dict[str, Any]] = field(default_factory=list)
    #: none: the request had none
    logging: dict[str, Any] | None = None
    placement_policy: dict[str, Any] = field(default_factory=lambda: {"type": "ANY"})
    #: as asked for, without the variables that are set beside them
    env: dict[str, str] = field(default_factory=dict)
    args: list[str] = field(default_factory=list)
    tags: dict[str, str] = field(default_factory=dict)
    devices: list[dict[str, Any]] = field(default_factory=list)
    user_spec: dict[str, Any] | None = None
    #: of the opSpec: {"timeout": "5 minutes", "parallelism": 1, "failureStrategy": "STOP"}
    op_spec: dict[str, Any] = field(default_factory=dict)

    @property
    def drove_id(self) -> str:
        """What Drove itself calls the task."""
        return f"{self.source_app_name}-{self.task_id}"

    @property
    def alias(self) -> str:
        """What the core calls it."""
        return alias_of(self.source_app_name, self.task_id)

    def metadata(self) -> dict[str, Any]:
        """For Spec.metadata."""
        return {KEY: to_json(self)}


def alias_of(source_app_name: str, task_id: str) -> str:
    """The alias of a task that was made through this dialect."""
    return f"{KEY}:{source_app_name}/{task_id}"


def names_of(alias: str | None) -> tuple[str, str] | None:
    """sourceAppName and taskId in an alias; None: it is none of this dialect."""
    head, colon, names = (alias or "").partition(":")
    app, slash, task = names.partition("/")
    return (app, task) if head == KEY and colon and slash else None


def record_of(metadata: Mapping[str, Any] | None) -> DroveRecord | None:
    """The record in a task's metadata; None where there is none that can be read."""
    try:
        return from_json(DroveRecord, metadata[KEY]) if metadata and KEY in metadata else None
    except Damaged:
        return None
