"""How a task ended, from how its actions did. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from task_runner.model.state import Outcome
from task_runner.model.status import ActionStatus

#: what a stop for this reason makes of the action that it ends, and of the task where it ends that
OUTCOMES = {
    "stop": Outcome.CANCELLED,
    "timeout": Outcome.TIMED_OUT,
    "stalled": Outcome.TIMED_OUT,
    "action timeout": Outcome.TIMED_OUT,
    "cleanup timeout": Outcome.TIMED_OUT,
}


@dataclass(frozen=True, slots=True)
class Verdict:
    """How the task ended."""

    outcome: Outcome
    #: the action that decided it, if one did
    decisive: ActionStatus | None = None


def judge(
    actions: Sequence[ActionStatus], tolerated: Sequence[bool], *, interrupted_by: str | None, prepared: bool
) -> Verdict:
    """``tolerated``: which actions may fail. ``interrupted_by``: why the task was stopped before its actions were
    through. ``prepared``: what they need was there.

    What became of the cleanup counts only where all else went well.
    """
    if interrupted_by is not None:
        started = [each for each in actions if not each.cleanup and each.tries]
        return Verdict(OUTCOMES[interrupted_by], started[-1] if started else None)
    if not prepared:
        return Verdict(Outcome.FAILED)
    for each, fine in zip(actions, tolerated, strict=True):
        if each.outcome is Outcome.LOST and not each.cleanup:
            return Verdict(Outcome.LOST, each)
        if each.outcome is not Outcome.SUCCEEDED and not fine:
            return Verdict(Outcome.FAILED if each.cleanup else each.outcome or Outcome.FAILED, each)
    good = [each for each in actions if not each.cleanup and each.outcome is Outcome.SUCCEEDED]
    return Verdict(Outcome.SUCCEEDED, good[-1] if good else None)
