"""W3C Trace Context (https://www.w3.org/TR/trace-context/): reading it from a request, and handing it on."""

from __future__ import annotations

import re
from collections.abc import Sequence
from contextvars import ContextVar

from task_runner.model.trace import RANDOM, SAMPLED, TraceContext

#: of the request that is being answered; set only where there is tracing. A context variable, because a task may be
#: accepted through any surface, and none of them has to know of traces
INCOMING: ContextVar[TraceContext | None] = ContextVar("INCOMING", default=None)

# version 00 ends after the flags; a later one may go on after another dash
_PARENT = re.compile(r"(?!ff)([0-9a-f]{2})-(?!0{32})([0-9a-f]{32})-(?!0{16})([0-9a-f]{16})-([0-9a-f]{2})(-.*)?")
_SIMPLE = r"[a-z][a-z0-9_\-*/]{0,255}"
_MULTI = r"[a-z0-9][a-z0-9_\-*/]{0,240}@[a-z][a-z0-9_\-*/]{0,13}"
_MEMBER = re.compile(rf"((?:{_SIMPLE})|(?:{_MULTI}))=([ -+\--<>-~]{{0,255}}[!-+\--<>-~])")
#: characters and members of a state that are passed on at least, by the recommendation
MOST_STATE, MOST_MEMBERS = 512, 32


def read(parents: Sequence[str], states: Sequence[str]) -> TraceContext | None:
    """What the headers of these names say; None: there is no context, or none that is valid, and a new trace begins.
    A state that is not valid is left out, as the recommendation has it."""
    if len(parents) != 1:
        return None
    match = _PARENT.fullmatch(parents[0].strip(" \t"))
    if match is None or (match[1] == "00" and match[5] is not None):
        return None
    flags = int(match[4], 16) & (SAMPLED | RANDOM)
    return TraceContext(trace_id=match[2], span_id=match[3], flags=flags, state=_state(states))


def _state(values: Sequence[str]) -> str | None:
    members = [member for value in values for each in value.split(",") if (member := each.strip(" \t"))]
    found = [_MEMBER.fullmatch(member) for member in members]
    keys = [match[1] for match in found if match is not None]
    state = ",".join(members)
    valid = len(keys) == len(members) == len(set(keys)) and len(keys) <= MOST_MEMBERS and len(state) <= MOST_STATE
    return state if valid and members else None


def parent(trace_id: str, span_id: str, flags: int) -> str:
    """A `traceparent`."""
    return f"00-{trace_id}-{span_id}-{flags:02x}"
