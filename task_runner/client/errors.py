"""What a client can run into, beside a request that makes no sense on its own (InvalidRequest)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from task_runner.errors import FieldError, TaskRunnerError


class ApiError(TaskRunnerError):
    """The daemon answered, but not with what was asked for."""

    def __init__(self, status: int, detail: str, fields: Sequence[FieldError] = ()) -> None:
        self.status = status
        self.detail = detail
        self.fields = list(fields)
        super().__init__(detail)

    @classmethod
    def of(cls, status: int, body: Any) -> ApiError:
        """The error that a problem document describes; any other body gives one that says only the status."""
        if not isinstance(body, dict):
            return cls(status, f"HTTP status {status}, and no word of explanation")
        detail = body.get("detail") or body.get("title") or f"HTTP status {status}"
        listed = body.get("errors")
        faults = [fault for fault in listed if isinstance(fault, dict)] if isinstance(listed, list) else []
        fields = [FieldError(str(each.get("field", "")), str(each.get("message", ""))) for each in faults]
        return cls(status, str(detail), fields)


class ConnectionFailed(TaskRunnerError):
    """The daemon cannot be reached."""


class Silent(ConnectionFailed):
    """The daemon took the request and says nothing."""
