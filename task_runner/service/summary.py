"""An explanation in a few sentences. Pure. A sentence says only what the facts say."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice

from task_runner.lib.portrait import Portrait
from task_runner.model.state import State
from task_runner.service.explanation import Ending, Explanation, Facts, WaitsFor
from task_runner.service.task import Past
from task_runner.service.wording import process_words, span

#: no summary has more sentences
MOST = 5


def summarize(found: Explanation, facts: Facts) -> list[str]:
    """The most important first."""
    return list(islice(_sentences(found, facts), MOST))


def _sentences(found: Explanation, facts: Facts) -> Iterator[str]:
    if found.waits_for is not None:
        yield from _of_waiting(found, found.waits_for)
    elif found.ending is not None:
        yield from _of_ending(found, found.ending)
    else:
        yield from _of_active(found, facts)


def _of_waiting(found: Explanation, waits: WaitsFor) -> Iterator[str]:
    if found.state == State.SCHEDULED.value:
        yield f"It is to run at {waits.execute_at}."
    else:
        reason = f": {waits.reason}" if waits.reason else ""
        yield f"It has been waiting{_for(found.since_seconds)}{reason}."
    for each in waits.after:
        if each.outcome is None:
            yield f"Task {each.task_id} must be over first; it is {each.state or 'not there any more'}."
            break
    if waits.ahead_count:
        one = waits.ahead_count == 1
        tasks, come = ("1 task", "comes") if one else (f"{waits.ahead_count} tasks", "come")
        yield f"{tasks} of entity {waits.entity!r} {come} before it: the next is {waits.ahead[0]}."
    if found.previous:
        yield f"It is attempt {found.attempt}; the one before ended {_past_words(found.previous[-1])}."


def _past_words(past: Past) -> str:
    if past.exit_code is not None:
        return f"with exit code {past.exit_code}"
    if past.signal is not None:
        return f"by {past.signal}"
    return past.outcome.value.replace("_", " ") if past.outcome else "in a way that is not known"


def _of_active(found: Explanation, facts: Facts) -> Iterator[str]:
    yield _activity(found)
    if found.runner is not None and not found.runner.alive:
        yield f"Its runner (pid {found.runner.pid}) is not alive."
    if found.stalled is not None:
        yield f"It counts as stalled since {found.stalled.since}: {found.stalled.reason}."
    left = found.action.timeout_left_seconds if found.action else None
    if left is not None and found.action is not None:
        yield f"{span(left)} of the action's time limit of {span(found.action.timeout_seconds or 0)} are left."
    elif found.limits.timeout_left_seconds is not None:
        limit = span(found.limits.timeout_seconds or 0)
        yield f"{span(found.limits.timeout_left_seconds)} of its time limit of {limit} are left."
    if (text := _output_words(found)) is not None:
        yield text
    if (chosen := _telling(facts)) is not None:
        yield process_words(chosen)


def _activity(found: Explanation) -> str:
    action, stop = found.action, found.stop
    what = "no action yet"
    if action is not None:
        name = action.name or action.machine
        what = f"{'the cleanup, ' if action.cleanup else ''}action {action.index + 1} of {action.of} ({name})"
    match found.state:
        case State.STARTING.value | State.PROVISIONING.value:
            return "It has been handed to a runner, and its first command does not run yet."
        case State.PAUSED.value:
            return f"It is paused{_for(found.since_seconds)}, at {what}."
        case State.STOPPING.value if stop is not None:
            left = f"; {span(stop.grace_left_seconds)} of the grace are left" if stop.grace_left_seconds else ""
            return f"It is being stopped{_for(stop.age_seconds)}, at {what}, because somebody asked for it{left}."
        case State.STOPPING.value:
            return f"It is being stopped, at {what}, and nobody asked for it: a limit of its own does that."
        case State.UNKNOWN.value:
            return "The daemon has just started and has not examined it yet."
        case _:
            elapsed = action.elapsed_seconds if action else None
            asked = "; a stop has been asked for" if stop is not None else ""
            return f"It runs {what}{_for(elapsed)}{asked}."


def _for(seconds: float | None) -> str:
    return "" if seconds is None else f" for {span(seconds)}"


def _output_words(found: Explanation) -> str | None:
    if not found.last_output:
        return None
    ages = [each.age_seconds for each in found.last_output if each.age_seconds is not None]
    if not any(each.bytes for each in found.last_output):
        return "It has written no output so far."
    return f"Its last output was {span(min(ages))} ago." if ages else None


def _telling(facts: Facts) -> Portrait | None:
    """The process that tells most of what the task does: one that the kernel holds, else one that works, else the
    last that was started. Its runner only if there is nobody else."""
    who = facts.runner
    others = [each for each in facts.processes if who is None or each.pid != who.pid]
    for letter in "DR":
        if (held := [each for each in others if each.state == letter]):
            return held[0]
    return others[-1] if others else None


def _of_ending(found: Explanation, ending: Ending) -> Iterator[str]:
    ago = f" {span(found.since_seconds)} ago" if found.since_seconds is not None else ""
    after = f" after {span(ending.ran_seconds)}" if ending.ran_seconds is not None else ""
    outcome = (ending.outcome or "over").replace("_", " ")
    yield f"It ended{ago}{after}: {outcome}."
    action = found.action
    if ending.error and ending.outcome != "succeeded":
        yield f"{ending.error[:1].upper()}{ending.error[1:]}."
    elif action is not None and ending.outcome != "succeeded" and (ending.exit_code is not None or ending.signal):
        how = f"with exit code {ending.exit_code}" if ending.signal is None else f"by {ending.signal}"
        meaning = f" ({ending.meaning})" if ending.meaning else ""
        yield f"Action {action.index + 1} of {action.of} ({action.name or action.machine}) ended {how}{meaning}."
    if ending.receipt is not None and ending.receipt.reason in _REASONS:
        yield _REASONS[ending.receipt.reason]
    elif ending.signal is not None and ending.outcome == "failed" and not ending.stop_requested:
        yield "No stop was asked for and no limit of the task's own stopped it: the signal came from elsewhere."
    if ending.receipt is not None and ending.receipt.survivors:
        yield f"{len(ending.receipt.survivors)} of its processes could not be killed."
    if found.process_count:
        yield f"{found.process_count} of its processes are alive."
    if found.previous:
        yield f"It was attempt {found.attempt}; the one before ended {_past_words(found.previous[-1])}."


_REASONS = {
    "stop": "Somebody asked for the stop.",
    "timeout": "Its time limit stopped it.",
    "action timeout": "The action's time limit stopped it.",
    "stalled": "Its stall policy stopped it: it gave no sign of getting on.",
    "leftovers": "The command had ended and left processes behind, which were ended.",
    "runner died": "Its runner had died; the daemon cleared what it left.",
}
