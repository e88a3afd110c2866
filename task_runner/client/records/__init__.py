"""What the daemon answers, as it stands in the JSON. A field of a newer daemon is there too, unnamed."""

from __future__ import annotations

from task_runner.client.records.batch import Batch, BatchResult
from task_runner.client.records.endings import (
    ContainerNote,
    Gap,
    LimitNote,
    Output,
    ProcessNote,
    Progress,
    Receipt,
    Stalled,
)
from task_runner.client.records.event import Event
from task_runner.client.records.file import FileEntry
from task_runner.client.records.node import Dialect, Engine, Means, Node, Possible, Storage
from task_runner.client.records.notification import Notification
from task_runner.client.records.task import FINAL_STATES, ActionStatus, Attempt, PastAttempt, Task, is_over
from task_runner.client.records.template import Template
from task_runner.client.records.token import Token

__all__ = [
    "FINAL_STATES", "ActionStatus", "Attempt", "Batch", "BatchResult", "ContainerNote", "Dialect", "Engine", "Event",
    "FileEntry", "Gap", "LimitNote", "Means", "Node", "Notification", "Output", "PastAttempt", "Possible",
    "ProcessNote", "Progress", "Receipt", "Stalled", "Storage", "Task", "Template", "Token", "is_over",
]
