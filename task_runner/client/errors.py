"""What a client can run into, beside a request that makes no sense on its own (InvalidRequest).

    TaskRunnerError
    ├── ApiError             the daemon answered with an error: status, detail, fields
    │   ├── BadRequest       400: the request makes no sense; fields say where (also an InvalidRequest)
    │   ├── Unauthorized     401: the token is missing or wrong
    │   ├── Forbidden        403, 421: not with this token, or not at this address
    │   ├── NotFound         404: no such task, batch, template, file
    │   ├── Conflict         409: it is there, but not in a state that allows this
    │   ├── TooLarge         413: the body is larger than allowed
    │   ├── Unavailable      503, 502, 504: not now; it was tried again for as long as the client's patience lasts
    │   ├── StorageFull      507: nothing was accepted
    │   └── Alien            what answers is not Task Runner, or not of this version
    ├── ConnectionFailed     the daemon cannot be reached
    │   ├── Untrusted        its certificate is not one that this client trusts; nothing was sent
    │   ├── ConnectionBroken the connection broke before the answer was whole
    │   └── Silent           it took the request and says nothing
    └── TaskFailed           a task that `run(check=True)` ran did not succeed; result says how it ended

The words are those of task_runner.errors, which is the daemon's side: these are what its answers say.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from task_runner.errors import FieldError, InvalidRequest, TaskRunnerError


class ApiError(TaskRunnerError):
    """The daemon answered, but not with what was asked for."""

    def __init__(self, status: int, detail: str, fields: Sequence[FieldError] = ()) -> None:
        self.status = status
        self.detail = detail
        self.fields = list(fields)
        TaskRunnerError.__init__(self, detail)

    def __reduce__(self) -> tuple[Any, ...]:  # exceptions cross the borders of processes, too
        return type(self), (self.status, self.detail, self.fields)

    @classmethod
    def of(cls, status: int, body: Any) -> ApiError:
        """The error that a problem document describes; any other body gives one that says only the status."""
        kind = _KINDS.get(status, ApiError)
        if not isinstance(body, dict):
            return kind(status, f"HTTP status {status}, and no word of explanation")
        detail = body.get("detail") or body.get("title") or f"HTTP status {status}"
        if status == 404 and str(detail).startswith("there is nothing at /"):  # of the daemon, and not of a task
            return Alien(status, f"{detail}: this daemon is older than that, or its address is wrong")
        listed = body.get("errors")
        faults = [fault for fault in listed if isinstance(fault, dict)] if isinstance(listed, list) else []
        fields = [FieldError(str(each.get("field", "")), str(each.get("message", ""))) for each in faults]
        return kind(status, str(detail), fields)


class BadRequest(ApiError, InvalidRequest):
    """The request makes no sense to the daemon."""


class Unauthorized(ApiError):
    """The token is missing or wrong."""


class Forbidden(ApiError):
    """Not with this token, or not at this address."""


class NotFound(ApiError):
    """There is no such thing."""


class Conflict(ApiError):
    """It is there, but not in a state that allows this."""


class TooLarge(ApiError):
    """The body is larger than allowed."""


class Unavailable(ApiError):
    """Not now."""


class StorageFull(ApiError):
    """The daemon has no space left: nothing was accepted."""


class Alien(ApiError):
    """What answers is not Task Runner."""


class ConnectionFailed(TaskRunnerError):
    """The daemon cannot be reached."""


class Untrusted(ConnectionFailed):
    """Its certificate is not one that this client trusts."""


class ConnectionBroken(ConnectionFailed):
    """The connection broke: whether the request was carried out is not known."""


class Silent(ConnectionFailed):
    """The daemon took the request and says nothing."""


class TaskFailed(TaskRunnerError):
    """A task did not succeed."""

    def __init__(self, result: Any) -> None:
        self.result = result
        super().__init__(f"task {result.task_id} ended: {result.ending}")

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self.result,)


_KINDS: dict[int, type[ApiError]] = {
    400: BadRequest,
    401: Unauthorized,
    403: Forbidden,
    404: NotFound,
    409: Conflict,
    413: TooLarge,
    421: Forbidden,
    502: Unavailable,
    503: Unavailable,
    504: Unavailable,
    507: StorageFull,
}
