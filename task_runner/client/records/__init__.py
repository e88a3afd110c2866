"""What the daemon answers, as it stands in the JSON. A field of a newer daemon is there too, unnamed."""

from __future__ import annotations

from task_runner.client.records.batch import Batch, BatchResult
from task_runner.client.records.endings import (
    ContainerNote,
    Gap,
    Identity,
    LimitNote,
    Output,
    ProcessNote,
    Progress,
    Receipt,
    Stalled,
)
from task_runner.client.records.event import Event
from task_runner.client.records.file import FileEntry
from task_runner.client.records.node import Dialect, Engine, Means, Node, OutputQuota, Possible, Storage
from task_runner.client.records.notification import Notification
from task_runner.client.records.past import History, Timeline
from task_runner.client.records.task import (
    FINAL_STATES,
    ActionStatus,
    Attempt,
    Heartbeat,
    PastAttempt,
    Silence,
    Task,
    is_over,
)
from task_runner.client.records.template import Template, TemplateHead
from task_runner.client.records.token import Token
from task_runner.client.records.use import TasksUse, TaskUse

__all__ = [
    "FINAL_STATES", "ActionStatus", "Attempt", "Batch", "BatchResult", "ContainerNote", "Dialect", "Engine", "Event",
    "FileEntry", "Gap", "Heartbeat", "History", "Identity", "LimitNote", "Means", "Node", "Notification", "Output",
    "OutputQuota", "PastAttempt", "Possible", "ProcessNote", "Progress", "Receipt", "Silence", "Stalled", "Storage",
    "Task", "TaskUse", "TasksUse", "Template", "TemplateHead", "Timeline", "Token", "is_over",
]
