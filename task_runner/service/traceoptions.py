"""What the variables OTEL_* of the environment ask for, as far as the library for the export does not read them itself.

They are those of OpenTelemetry's specification (https://opentelemetry.io/docs/specs/otel/configuration/sdk-environment-variables/).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from importlib.util import find_spec

from task_runner.errors import Refused
from task_runner.model.trace import SAMPLED, TraceContext

#: whether the trace with this id is exported, and the context that came with the request
Sampler = Callable[[str, TraceContext | None], bool]

_INSTALL = "settings: tracing needs OpenTelemetry's packages: pip install 'task-runner[otel]'"


def check(environ: Mapping[str, str]) -> None:
    """Raises Refused where tracing cannot be done as it is asked for."""
    if not _installed():
        raise Refused(_INSTALL)
    exporter = environ.get("OTEL_TRACES_EXPORTER") or "otlp"
    if exporter not in ("otlp", "none"):
        raise Refused(f"OTEL_TRACES_EXPORTER: there is no {exporter!r} here, only otlp and none")
    name = "OTEL_EXPORTER_OTLP_TRACES_PROTOCOL"
    protocol = environ.get(name) or environ.get("OTEL_EXPORTER_OTLP_PROTOCOL") or "http/protobuf"
    if protocol != "http/protobuf":
        raise Refused(f"{name}: {protocol!r} is not spoken here, only http/protobuf")
    sampler(environ)


def _installed() -> bool:
    try:
        found = [find_spec(name) for name in ("opentelemetry.sdk", "opentelemetry.exporter.otlp.proto.http")]
    except ModuleNotFoundError:
        return False
    return None not in found


def wanted(environ: Mapping[str, str]) -> bool:
    """Whether OpenTelemetry's own switches leave it on."""
    return environ.get("OTEL_SDK_DISABLED", "").lower() != "true" and environ.get("OTEL_TRACES_EXPORTER") != "none"


def sampler(environ: Mapping[str, str]) -> Sampler:
    """What OTEL_TRACES_SAMPLER names. It goes by the trace's id alone, so every daemon decides the same, before a task
    starts and when it has ended. Raises Refused."""
    name = environ.get("OTEL_TRACES_SAMPLER") or "parentbased_always_on"
    based, _, plain = name.rpartition("parentbased_")
    if based or plain not in ("always_on", "always_off", "traceidratio"):
        raise Refused(f"OTEL_TRACES_SAMPLER: there is no {name!r} here")
    share = {"always_on": 1.0, "always_off": 0.0}.get(plain)
    bound = round((_ratio(environ) if share is None else share) * 2**64)

    def sampled(trace_id: str, context: TraceContext | None) -> bool:
        if context is not None and name != plain:
            return bool(context.flags & SAMPLED)
        return int(trace_id[16:], 16) < bound  # as OpenTelemetry's own sampler does, so that others agree

    return sampled


def _ratio(environ: Mapping[str, str]) -> float:
    given = environ.get("OTEL_TRACES_SAMPLER_ARG") or "1"
    try:
        ratio = float(given)
    except ValueError:
        ratio = -1.0
    if not 0 <= ratio <= 1:
        raise Refused(f"OTEL_TRACES_SAMPLER_ARG: expected a number from 0 to 1, found {given[:40]!r}")
    return ratio
