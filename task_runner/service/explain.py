"""What is known of a task beyond its status, put in order and into words. Pure: facts in, explanation out.

Nothing is guessed: what is not known is None, and a sentence says only what the facts say. Times are compared by the
wall clock where the facts are stamps; a clock that was set since makes such a time wrong, never the rest.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from itertools import islice

from task_runner.environment.base import Sighting
from task_runner.lib.portrait import Portrait
from task_runner.model.spec import Action, Spec
from task_runner.model.state import FINAL, WAITING, State
from task_runner.model.status import ActionStatus, Identity, Progress, Receipt, Status
from task_runner.service.task import Past, Record, Stall, StopIntent
from task_runner.service.wording import ending_words, process_words, span, state_words


@dataclass(frozen=True, kw_only=True, slots=True)
class Predecessor:
    """A task that must be over first."""

    task_id: str
    #: how it has to end: "success" or "end"
    on: str
    #: none: there is no such task any more
    state: str | None = None
    outcome: str | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class LastOutput:
    """The end of what it has written to one stream."""

    #: "output", "stdout" or "stderr"
    stream: str
    bytes: int
    written_at: str | None = None
    age_seconds: float | None = None
    #: the last lines, at most 2 KiB; in base64 where they are not UTF-8
    text: str | None = None
    base64: str | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class Facts:
    """What was found out."""

    task_id: str
    record: Record
    spec: Spec
    #: seconds since 1970
    now: float
    pending_reason: str | None = None
    stalled: Stall | None = None
    intent: StopIntent | None = None
    #: none: nobody had to look, the task waits or is over
    sighting: Sighting | None = None
    #: seconds since the runner's last sign of life, by the clock that nobody sets
    pulse_age: float | None = None
    processes: Sequence[Portrait] = ()
    process_count: int = 0
    output: Sequence[LastOutput] = ()
    #: tasks of the same entity that are not over and were accepted before
    ahead: Sequence[str] = ()
    after: Sequence[Predecessor] = ()


@dataclass(frozen=True, kw_only=True, slots=True)
class WaitsFor:
    """What keeps a task from starting."""

    reason: str | None
    execute_at: str | None
    retry_at: str | None
    entity: str | None
    #: tasks before it in the line of its entity, first the one whose turn it is
    ahead: Sequence[str]
    ahead_count: int
    after: Sequence[Predecessor]


@dataclass(frozen=True, kw_only=True, slots=True)
class Runner:
    """The process that carries out the task."""

    pid: int
    alive: bool
    earlier_boot: bool
    state: str | None
    state_words: str | None
    wait_channel: str | None
    heartbeat_at: str | None
    heartbeat_age_seconds: float | None


@dataclass(frozen=True, kw_only=True, slots=True)
class Process:
    """One live process of the task."""

    pid: int
    ppid: int
    runner: bool
    command: str
    state: str
    state_words: str
    wait_channel: str | None
    cpu_seconds: float
    rss_bytes: int | None
    age_seconds: float


@dataclass(frozen=True, kw_only=True, slots=True)
class CurrentAction:
    """The action it is at."""

    index: int
    of: int
    cleanup: bool
    name: str | None
    machine: str
    state: str
    tries: int
    started_at: str | None
    elapsed_seconds: float | None
    timeout_seconds: float | None
    #: pauses not counted; none where there is no limit, or it is paused
    timeout_left_seconds: float | None


@dataclass(frozen=True, kw_only=True, slots=True)
class Limits:
    """What it may use."""

    timeout_seconds: float | None
    timeout_left_seconds: float | None
    max_output_bytes: int | None
    stall_after_seconds: float | None
    stall_then: str | None
    #: of its first process that lives
    open_files: int | None


@dataclass(frozen=True, kw_only=True, slots=True)
class StopWanted:
    """The stop that somebody asked for."""

    requested_at: str
    age_seconds: float | None
    signal: str
    grace_seconds: float
    grace_left_seconds: float | None


@dataclass(frozen=True, kw_only=True, slots=True)
class Ending:
    """How it ended."""

    outcome: str | None
    exit_code: int | None
    signal: str | None
    #: what the exit code or the signal means
    meaning: str | None
    error: str | None
    stop_requested: bool
    receipt: Receipt | None
    ran_seconds: float | None


@dataclass(frozen=True, kw_only=True, slots=True)
class Explanation:
    """All of it, as `/v1` shows it."""

    task_id: str
    state: str
    outcome: str | None
    attempt: int
    #: for people: one to five sentences, the most important first
    summary: list[str]
    #: since when it is in this state; none: not known
    since: str | None
    since_seconds: float | None
    stalled: Stall | None
    waits_for: WaitsFor | None
    runner: Runner | None
    processes: list[Process]
    #: how many there are: at most 200 are shown
    process_count: int
    action: CurrentAction | None
    progress: Progress | None
    last_output: list[LastOutput]
    limits: Limits
    stop: StopWanted | None
    ending: Ending | None
    previous: list[Past] = field(default_factory=list)


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
    found.summary.extend(islice(_summary(found, facts), 5))
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


def _runner_identity(facts: Facts) -> Identity | None:
    status = facts.record.status
    if facts.sighting is not None and facts.sighting.runner is not None:
        return facts.sighting.runner
    return status.runner if status and facts.record.state not in WAITING else None


def _runner(facts: Facts) -> Runner | None:
    seen, who = facts.sighting, _runner_identity(facts)
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
    who = _runner_identity(facts)
    return Process(
        pid=portrait.pid,
        ppid=portrait.ppid,
        runner=who is not None and who.pid == portrait.pid,
        command=portrait.command,
        state=portrait.state,
        state_words=state_words(portrait.state),
        wait_channel=portrait.wait_channel,
        cpu_seconds=portrait.cpu_seconds,
        rss_bytes=portrait.rss_bytes,
        age_seconds=portrait.age_seconds,
    )


def _planned(spec: Spec, index: int) -> Action | None:
    """The action as it was asked for; the cleanup is counted behind the others."""
    both = [*spec.actions, *spec.cleanup]
    return both[index] if 0 <= index < len(both) else None


def _current(status: Status | None) -> ActionStatus | None:
    at = status.current_action_idx if status else -1
    return status.actions[at] if status and 0 <= at < len(status.actions) else None


def _action(facts: Facts) -> CurrentAction | None:
    status = facts.record.status
    found = _current(status)
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


# -- in words


def _summary(found: Explanation, facts: Facts) -> Iterator[str]:
    """Sentences, the most important first."""
    if found.waits_for is not None:
        yield from _summary_of_waiting(found, found.waits_for)
    elif found.ending is not None:
        yield from _summary_of_ending(found, found.ending)
    else:
        yield from _summary_of_active(found, facts)


def _summary_of_waiting(found: Explanation, waits: WaitsFor) -> Iterator[str]:
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
        tasks = "1 task" if waits.ahead_count == 1 else f"{waits.ahead_count} tasks"
        yield f"{tasks} of entity {waits.entity!r} come before it: the next is {waits.ahead[0]}."
    if found.previous:
        yield f"It is attempt {found.attempt}; the one before ended {_past_words(found.previous[-1])}."


def _past_words(past: Past) -> str:
    if past.exit_code is not None:
        return f"with exit code {past.exit_code}"
    if past.signal is not None:
        return f"by {past.signal}"
    return past.outcome.value.replace("_", " ") if past.outcome else "in a way that is not known"


def _summary_of_active(found: Explanation, facts: Facts) -> Iterator[str]:
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
    who = _runner_identity(facts)
    others = [each for each in facts.processes if who is None or each.pid != who.pid]
    for letter in "DR":
        if (held := [each for each in others if each.state == letter]):
            return held[0]
    return others[-1] if others else None


def _summary_of_ending(found: Explanation, ending: Ending) -> Iterator[str]:
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
