"""What is known of a task beyond its status, put in order. Pure: facts in, explanation out.

Nothing is guessed: what is not known is None. Times are compared by the wall clock where the facts are stamps; a
clock that was set since makes such a time wrong or unknown, never the rest.
"""

from __future__ import annotations

from datetime import datetime

from task_runner.lib.portrait import Portrait
from task_runner.lib.verdict import judge
from task_runner.model.spec import Action, Spec
from task_runner.model.state import FINAL, WAITING, State
from task_runner.model.status import ActionStatus, Status
from task_runner.service.explanation import (
    CurrentAction,
    Ending,
    Explanation,
    Facts,
    Limits,
    Process,
    Runner,
    StopWanted,
    WaitsFor,
)
from task_runner.service.summary import summarize
from task_runner.service.wording import ending_words, state_words


def explain(facts: Facts) -> Explanation:
    """Put the facts in order."""
    record = facts.record
    since = _since(facts)
    found = Explanation(
        task_id=facts.task_id,
        state=record.state.value,
        outcome=record.outcome and record.outcome.value,
        attempt=record.attempt,
        summary=[],
        since=since,
        since_seconds=_age(since, facts.now),
        stalled=facts.stalled,
        waits_for=_waits_for(facts) if record.state in WAITING else None,
        runner=_runner(facts),
        processes=[_process(each, facts) for each in facts.processes],
        process_count=facts.process_count,
        action=_action(facts),
        progress=record.status.progress if record.status else None,
        last_output=list(facts.output),
        limits=_limits(facts),
        stop=_stop(facts) if record.state not in FINAL else None,
        ending=_ending(facts) if record.state in FINAL else None,
        previous=list(record.previous),
    )
    found.summary.extend(summarize(found, facts))
    return found


def _age(stamp: str | None, now: float) -> float | None:
    """Seconds since a stamp; none where the clock was set back since."""
    if stamp is None:
        return None
    seconds = now - datetime.fromisoformat(stamp).timestamp()
    return seconds if seconds >= 0 else None


def _since(facts: Facts) -> str | None:
    record, status = facts.record, facts.record.status
    match record.state:
        case State.EXITED | State.LOST:
            return record.finished_at
        case State.PENDING | State.SCHEDULED:
            return record.previous[-1].finished_at if record.previous else record.created_at
        case State.PAUSED:
            return status.paused_at if status else None
        case State.STOPPING:
            return facts.intent.requested_at if facts.intent else None
        case State.RUNNING if status and not status.paused_seconds:
            return next((each.started_at for each in status.actions if each.started_at), status.started_at)
        case _:
            return None


# -- the parts


def _waits_for(facts: Facts) -> WaitsFor:
    return WaitsFor(
        reason=facts.pending_reason,
        execute_at=facts.record.execute_at,
        retry_at=facts.record.retry_at,
        entity=facts.spec.entity,
        ahead=list(facts.ahead[:20]),
        ahead_count=len(facts.ahead),
        after=list(facts.after),
    )


def _runner(facts: Facts) -> Runner | None:
    seen, who = facts.sighting, facts.runner
    if who is None or seen is None:
        return None
    portrait = next((each for each in facts.processes if each.pid == who.pid), None) if seen.alive else None
    letter = portrait.state if portrait else seen.process_state
    return Runner(
        pid=who.pid,
        alive=seen.alive,
        earlier_boot=seen.earlier_boot,
        state=letter,
        state_words=state_words(letter) if letter else None,
        wait_channel=portrait.wait_channel if portrait else None,
        heartbeat_at=seen.heartbeat.at if seen.heartbeat else None,
        heartbeat_age_seconds=facts.pulse_age,
    )


def _process(portrait: Portrait, facts: Facts) -> Process:
    who = facts.runner
    return Process(
        pid=portrait.pid,
        ppid=portrait.ppid,
        runner=who is not None and who.pid == portrait.pid,
        command=portrait.command,
        state=portrait.state,
        state_words="is frozen" if portrait.frozen else state_words(portrait.state),
        wait_channel=portrait.wait_channel,
        cpu_seconds=portrait.cpu_seconds,
        rss_bytes=portrait.rss_bytes,
        age_seconds=portrait.age_seconds,
    )


def _planned(spec: Spec, index: int) -> Action | None:
    """The action as it was asked for."""
    actions = spec.all_actions
    return actions[index] if 0 <= index < len(actions) else None


def _current(status: Status | None) -> ActionStatus | None:
    at = status.current_action_idx if status else -1
    return status.actions[at] if status and 0 <= at < len(status.actions) else None


def _decisive(facts: Facts) -> ActionStatus | None:
    """Of a task that is over: the action that decided how. Not always the last: a cleanup runs after a failure, too."""
    status, planned = facts.record.status, facts.spec.all_actions
    if facts.record.outcome is None or status is None or len(planned) != len(status.actions):
        return None
    tolerated = [each.continue_on_failure for each in planned]
    return judge(status.actions, tolerated, interrupted_by=None, prepared=True).decisive


def _action(facts: Facts) -> CurrentAction | None:
    status = facts.record.status
    found = _decisive(facts) or _current(status)
    if found is None or status is None or facts.record.state in WAITING:
        return None
    planned = _planned(facts.spec, found.index)
    limit = planned.timeout_seconds if planned else None
    elapsed = _between(found.started_at, found.finished_at, facts.now)
    return CurrentAction(
        index=found.index,
        of=len(status.actions),
        cleanup=found.cleanup,
        name=found.name,
        machine=found.machine,
        state=found.state,
        tries=found.tries,
        started_at=found.started_at,
        elapsed_seconds=elapsed,
        timeout_seconds=limit,
        timeout_left_seconds=_left(limit, elapsed, facts) if found.state == "running" else None,
    )


def _left(limit: float | None, elapsed: float | None, facts: Facts) -> float | None:
    """Of a limit in the task's own time. How long it was paused before is known for the whole attempt alone."""
    status = facts.record.status
    if limit is None or elapsed is None or facts.record.state is not State.RUNNING or status is None:
        return None
    return max(0.0, limit - elapsed + status.paused_seconds)


def _limits(facts: Facts) -> Limits:
    spec, status = facts.spec, facts.record.status
    current = _current(status)
    elapsed = _age(status.started_at, facts.now) if status else None
    over = current is None or current.cleanup
    stall = spec.stall
    first = next((each for each in facts.processes if each.open_files_limit is not None), None)
    return Limits(
        timeout_seconds=spec.timeout_seconds,
        timeout_left_seconds=None if over else _left(spec.timeout_seconds, elapsed, facts),
        max_output_bytes=spec.max_output_bytes,
        stall_after_seconds=stall.after_seconds if stall else None,
        stall_then=stall.then.value if stall else None,
        open_files=first.open_files_limit if first else None,
    )


def _stop(facts: Facts) -> StopWanted | None:
    intent = facts.intent
    if intent is None:
        return None
    grace = facts.spec.grace_seconds if intent.grace_seconds is None else intent.grace_seconds
    age = _age(intent.requested_at, facts.now)
    return StopWanted(
        requested_at=intent.requested_at,
        age_seconds=age,
        signal=intent.signal or facts.spec.stop_signal,
        grace_seconds=grace,
        grace_left_seconds=None if age is None else max(0.0, grace - age),
    )


def _ending(facts: Facts) -> Ending:
    record, status = facts.record, facts.record.status
    exit_code, signal = (status.exit_code, status.signal) if status else (None, None)
    return Ending(
        outcome=record.outcome and record.outcome.value,
        exit_code=exit_code,
        signal=signal,
        meaning=ending_words(exit_code, signal),
        error=record.error,
        stop_requested=facts.intent is not None,
        receipt=record.receipt or (status.receipt if status else None),
        ran_seconds=_between(status.started_at, record.finished_at, facts.now) if status else None,
    )


def _between(start: str | None, end: str | None, now: float) -> float | None:
    return _age(start, now if end is None else datetime.fromisoformat(end).timestamp())
