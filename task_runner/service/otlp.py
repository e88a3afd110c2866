"""The export of spans by OTLP over HTTP, with OpenTelemetry's own library, which reads OTEL_* from the environment.

Imported only where there is tracing: the packages are an extra, and large.
"""

from __future__ import annotations

import platform
from collections.abc import Sequence
from typing import Any

import requests
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import OTELResourceDetector, Resource
from opentelemetry.sdk.trace import Event, ReadableSpan
from opentelemetry.sdk.trace.export import SpanExportResult
from opentelemetry.sdk.util.instrumentation import InstrumentationScope
from opentelemetry.trace import SpanContext, SpanKind, Status, StatusCode, TraceFlags, TraceState

from task_runner import __version__
from task_runner.service.spans import Mark, Span, nanoseconds

_SCOPE = InstrumentationScope("task_runner", __version__)
_SAMPLED = TraceFlags(TraceFlags.SAMPLED)


class Exporter:
    """A connection to the collector. Its calls block, for as long as OTEL_EXPORTER_OTLP_TIMEOUT allows."""

    def __init__(self) -> None:
        session = requests.Session()
        session.hooks["response"].append(self._heard)
        #: of HTTP; none: there was no answer
        self._status: int | None = None
        self._exporter = OTLPSpanExporter(session=session)
        own = {"service.name": "task-runner", "service.version": __version__, "host.name": platform.node()}
        # what the environment says goes first
        self._resource = Resource.create({**own, **OTELResourceDetector().detect().attributes})

    def _heard(self, response: requests.Response, **_more: Any) -> None:
        self._status = response.status_code

    def send(self, spans: Sequence[Span]) -> int | None:
        """Have the collector take all or none of these; returns 200, the status of its refusal, or None where there was
        no answer."""
        self._status = None
        result = self._exporter.export([self._readable(each) for each in spans])
        return 200 if result is SpanExportResult.SUCCESS else self._status

    def close(self) -> None:
        """Give up what is on its way, as far as the library lets go of it."""
        self._exporter.shutdown()  # type: ignore[no-untyped-call]

    def _readable(self, span: Span) -> ReadableSpan:
        state = TraceState.from_header([span.state]) if span.state else TraceState()
        trace_id = int(span.trace_id, 16)
        parent = None
        if span.parent_id is not None:
            parent = SpanContext(trace_id, int(span.parent_id, 16), span.remote, _SAMPLED, state)
        return ReadableSpan(
            name=span.name,
            context=SpanContext(trace_id, int(span.span_id, 16), False, _SAMPLED, state),
            parent=parent,
            resource=self._resource,
            attributes=dict(span.attributes),
            events=[_event(mark) for mark in span.marks],
            kind=SpanKind.CONSUMER if span.parent_id is None or span.remote else SpanKind.INTERNAL,
            status=Status(StatusCode.UNSET) if span.fault is None else Status(StatusCode.ERROR, span.fault),
            start_time=nanoseconds(span.start),
            end_time=nanoseconds(span.end),
            instrumentation_scope=_SCOPE,
        )


def _event(mark: Mark) -> Event:
    return Event(mark.name, dict(mark.attributes), nanoseconds(mark.at))
