"""How a task stands, as resultCode and resultText. Pure."""

from __future__ import annotations

from task_runner.api.dialects.i3d.form import DONE, FAILED, IN_PROGRESS, PAUSED, PENDING, Form
from task_runner.model.spec import Spec
from task_runner.model.state import Outcome, State
from task_runner.model.status import ActionStatus, Status
from task_runner.service.task import Record

#: characters of a text
LONGEST = 500

_OF_STATE = {
    State.SCHEDULED: PENDING,
    State.PENDING: PENDING,
    State.STARTING: PENDING,
    State.PROVISIONING: IN_PROGRESS,
    State.RUNNING: IN_PROGRESS,
    State.PAUSED: PAUSED,
    State.STOPPING: IN_PROGRESS,
    State.UNKNOWN: IN_PROGRESS,
    State.LOST: FAILED,
}


def result_code(state: State, outcome: Outcome | None, form: Form) -> int:
    """The number for a state, or for an outcome where the task is over."""
    match outcome:
        case Outcome.SUCCEEDED:
            return DONE
        case Outcome.CANCELLED:
            return form.cancelled
        case Outcome.TIMED_OUT:
            return form.timed_out
        case Outcome.FAILED | Outcome.LOST:
            return FAILED
        case None:
            return _OF_STATE[state]


def result_text(record: Record, *, waits_for: str | None, failed: ActionStatus | None, said: str | None) -> str:
    """The same in words. ``waits_for``: why it has not started. ``failed``: the action that made it fail, which wrote
    the line ``said`` last."""
    match record.outcome:
        case Outcome.SUCCEEDED:
            text = "Done"
        case Outcome.CANCELLED:
            text = _with("Cancelled", record.error)
        case Outcome.TIMED_OUT:
            text = _with("Timed out", record.error)
        case Outcome.FAILED:
            text = _failure(record, failed, said)
        case Outcome.LOST:
            text = _with("Lost", record.error)
        case None:
            text = _under_way(record.state, waits_for)
    return text if len(text) <= LONGEST else text[: LONGEST - 1] + "…"


def _under_way(state: State, waits_for: str | None) -> str:
    if state is State.STOPPING:
        return "In progress: being stopped"
    code = _OF_STATE[state]
    if code == PENDING:
        return _with("Pending Task execution", waits_for)
    return "Paused" if code == PAUSED else "In progress"


def _failure(record: Record, failed: ActionStatus | None, said: str | None) -> str:
    if failed is None:
        return record.error or "Done, with error"
    if (error := record.error or failed.error) is None:
        error = f"ended by {failed.signal}" if failed.signal else f"exit code {failed.exit_code}"
    return _with(f"{failed.name or failed.machine}: {error}", said)


def failed_action(status: Status | None, spec: Spec) -> ActionStatus | None:
    """The action that made a task fail, if one did."""
    actions = status.actions if status else []
    for each, action in zip(actions, spec.all_actions, strict=False):
        if each.outcome not in (None, Outcome.SUCCEEDED) and not action.continue_on_failure:
            return each
    return None


def _with(text: str, more: str | None) -> str:
    return text if more is None else f"{text}: {more}"
