"""What a batch asks for: tasks that are accepted together and counted together."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Annotated, Any, ClassVar

from task_runner.model.constraints import STRICT, Limit
from task_runner.model.terms import Name, TagKey, TagValue

#: the most tasks of one batch
MAX_TASKS = 10_000


@dataclass(frozen=True, kw_only=True, slots=True)
class BatchRequest:
    """Either ``tasks``, or one ``task`` for each of ``entities``."""

    __pydantic_config__: ClassVar[Any] = STRICT

    #: each as for POST /v1/tasks
    tasks: Annotated[list[Any], Limit(min_length=1, max_length=MAX_TASKS)] | None = None
    #: the same, without an entity: it is made once for every entity
    task: dict[str, Any] | None = None
    #: each is what one of the tasks is about
    entities: Annotated[list[Name], Limit(min_length=1, max_length=MAX_TASKS)] | None = None
    #: for people
    name: Name | None = None
    #: of the batch: short keys and values
    tags: Annotated[dict[TagKey, TagValue], Limit(max_length=50)] = field(default_factory=dict)
    #: for the client, kept and given back as it is
    metadata: dict[str, Any] | None = None
