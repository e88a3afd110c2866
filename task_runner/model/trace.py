"""Where a task stands in a trace of somebody else: the context of the W3C recommendation Trace Context."""

from __future__ import annotations

from dataclasses import dataclass

#: bits of the flags: who sent it records this trace; its id is random
SAMPLED, RANDOM = 0x01, 0x02


@dataclass(frozen=True, kw_only=True, slots=True)
class TraceContext:
    """What the headers `traceparent` and `tracestate` say."""

    #: 32 lower-case hexadecimal digits, not all of them 0
    trace_id: str
    #: of the span that is the parent: 16 of them, not all 0
    span_id: str
    flags: int = 0
    #: `tracestate`, as it came
    state: str | None = None
