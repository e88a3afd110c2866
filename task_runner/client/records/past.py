"""What was. Both are by column: the entries with one index belong together."""

from __future__ import annotations

from typing import TypedDict


class History(TypedDict):
    """What the machine and the queue were like; null: not known."""

    #: between two samples
    stepSeconds: int
    #: seconds since 1970
    at: list[int]
    #: how busy the processors were since the sample before, from 0 to 1
    cpu: list[float | None]
    #: the load average of one minute
    load: list[float | None]
    #: bytes
    memory: list[int | None]
    memoryTotal: list[int | None]
    #: bytes on the disk of the state directory
    disk: list[int | None]
    diskTotal: list[int | None]
    #: tasks
    running: list[int | None]
    stalled: list[int | None]
    #: taken, and all; null where nothing limits how many tasks run at once
    slots: list[int | None]
    slotsTotal: list[int | None]
    #: tasks that wait, and what for
    queued: list[int | None]
    queuedFor: dict[str, list[int | None]]


Timeline = TypedDict(
    "Timeline",
    {
        #: the interval
        "from": str,
        "to": str,
        #: there are others, which started earlier
        "more": bool,
        "taskId": list[str],
        "name": list[str | None],
        "batch": list[str | None],
        "entity": list[str | None],
        "state": list[str],
        #: null: it goes on
        "outcome": list[str | None],
        "startedAt": list[str],
        "finishedAt": list[str | None],
        "attempt": list[int],
    },
)
