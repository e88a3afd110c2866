"""The exit codes, all of them."""

from __future__ import annotations

import signal

from task_runner.client.errors import Alien, ApiError, ConnectionFailed
from task_runner.client.records import Task
from task_runner.errors import Conflict, NotFound, StorageFull, TaskRunnerError, Unavailable
from task_runner.lib import signals

OK, FAILED, USAGE, NOT_FOUND, CONFLICT, REFUSED, UNREACHABLE, TROUBLE = range(8)
#: as timeout(1) says it
TIMED_OUT = 124
#: `run` could not do its own part; the codes above belong to the command there
RUN_FAILED = 125
#: as a shell says that a command could not be started
NOT_STARTED = 127
INTERRUPTED = 128 + signal.SIGINT
READER_GONE = 128 + signal.SIGPIPE

HELP = """\
\b
Exit codes:
  0    done
  1    what was asked about failed: a task, a check
  2    wrong usage
  3    no such task
  4    the task is not in a state that allows this
  5    the request was refused: not valid, or not allowed
  6    the daemon cannot be reached, or is not ready
  7    the daemon has a fault, or no space left
  124  the time given was not enough
  130  interrupted
  141  nobody reads the output any more

\b
`run` (and `wait --exit-code`) end with the exit code of the command, and else:
  124  its time limit stopped it
  125  task-runner itself failed, or nobody knows how the command ended
  127  the command could not be started
  128+N  signal N killed the command, or came here before it began

\b
Where the daemon is, the first that is there: --url or --state-dir; --context; TASK_RUNNER_URL; TASK_RUNNER_CONTEXT;
TASK_RUNNER_STATE_DIR; `context use`; the usual state directories (<state directory>/address.json).
Its token: that of the context, else TASK_RUNNER_TOKEN, else <state directory>/token (only on this machine).
`task-runner config show` says which it is.
"""

_BY_STATUS = {404: NOT_FOUND, 409: CONFLICT, 502: UNREACHABLE, 503: UNREACHABLE, 504: UNREACHABLE}


def of_error(error: TaskRunnerError) -> int:
    """The exit code for something that went wrong."""
    if isinstance(error, Alien) and error.status == 404:
        return REFUSED
    if isinstance(error, ApiError):
        return _BY_STATUS.get(error.status, TROUBLE if error.status >= 500 else REFUSED)
    by_kind: list[tuple[type[TaskRunnerError], int]] = [
        (ConnectionFailed, UNREACHABLE),
        (Unavailable, UNREACHABLE),
        (NotFound, NOT_FOUND),
        (Conflict, CONFLICT),
        (StorageFull, TROUBLE),
    ]
    return next((code for kind, code in by_kind if isinstance(error, kind)), REFUSED)


def of_task(task: Task, heard: str | None = None) -> int:
    """The exit code for a task that is over: its command's, where that says enough. ``heard``: the signal on which we
    have stopped it; it may have come before there was a command."""
    outcome = task["outcome"]
    if outcome == "succeeded":
        return OK
    if outcome == "timed_out":
        return TIMED_OUT
    if outcome == "lost" or outcome is None:
        return RUN_FAILED
    if task["exitCode"] is not None:
        return task["exitCode"] or FAILED
    if task["signal"]:
        return _of_signal(task["signal"])
    if outcome == "cancelled" and heard is not None:
        return _of_signal(heard)
    return NOT_STARTED if outcome == "failed" else RUN_FAILED


def _of_signal(name: str) -> int:
    try:
        return 128 + signals.parse(name)
    except ValueError:
        return RUN_FAILED
