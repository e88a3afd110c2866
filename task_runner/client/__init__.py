"""The Python client of Task Runner's `/v1`.

    from task_runner.client import Client, find

    with Client.at(find()) as client:
        task = client.submit({"command": ["make", "test"]})
        for chunk in client.iter_output(task["taskId"], follow=True):
            ...
        print(client.wait(task["taskId"])["outcome"])

httpx is imported when the first request is sent, not before.
"""

from __future__ import annotations

from task_runner.client.client import Client
from task_runner.client.discovery import Address, find
from task_runner.client.errors import ApiError, ConnectionFailed
from task_runner.client.records import Attempt, Batch, BatchResult, Node, Task

__all__ = [
    "Address", "ApiError", "Attempt", "Batch", "BatchResult", "Client", "ConnectionFailed", "Node", "Task", "find",
]
