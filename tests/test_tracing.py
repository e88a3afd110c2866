"""Traces: each ending is exported as spans, true, once, and whatever happens to the daemon or the collector."""

from __future__ import annotations

import gzip
import os
import signal
import socket
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from datetime import datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from conftest import PATIENCE, Daemon, wait_for
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.trace.v1.trace_pb2 import Span, Status

from task_runner.errors import Refused
from task_runner.model.trace import TraceContext
from task_runner.service import settings, tracecontext, traceoptions

TRACE, PARENT = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
GIVEN = {"traceparent": f"00-{TRACE}-{PARENT}-01", "tracestate": "rojo=00f067aa0ba902b7,congo=t61rcWkgMzE"}


class Collector:
    """A receiver of OTLP over HTTP that keeps what it is sent, and answers as it is told."""

    def __init__(self) -> None:
        self.requests: list[ExportTraceServiceRequest] = []
        self.status = 200
        #: refuse requests in which a span has this name, as data that is no good
        self.bad: str | None = None
        self.asked = 0
        outer = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["content-length"]))
                if self.headers.get("content-encoding") == "gzip":
                    body = gzip.decompress(body)
                status = outer.take(self.path, body, self.headers.get("content-type"))
                self.send_response(status)
                self.send_header("Content-Type", "application/x-protobuf")
                self.send_header("Content-Length", "0")
                self.end_headers()

            def log_message(self, *_arguments: Any) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._server.server_port}"
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.05,))
        self._thread.start()

    def take(self, path: str, body: bytes, kind: str | None) -> int:
        assert path == "/v1/traces"
        assert kind == "application/x-protobuf"
        status = self.status  # a test may change it meanwhile: what is answered is what is done
        self.asked += 1
        request = ExportTraceServiceRequest.FromString(body)
        if status == 200 and self.bad is not None and any(each.name == self.bad for each in _spans(request)):
            return 400
        if status == 200:
            self.requests.append(request)
        return status

    def close(self) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()

    @property
    def spans(self) -> list[Span]:
        return [each for request in self.requests for each in _spans(request)]

    def of(self, task: str) -> list[Span]:
        return [each for each in self.spans if _told(each).get("task_runner.task.id") == task]

    def wait_ids(self, task: str, count: int) -> None:
        """Where the daemon gives up a request after a second, it may send one again that has come: its spans are the
        same ones."""
        wait_for(lambda: len({each.span_id for each in self.of(task)}) >= count, f"{count} spans of {task}")
        assert len({each.span_id for each in self.of(task)}) == count

    def wait(self, task: str, count: int) -> dict[str, Span]:
        """The spans of a task by their names, when there are so many; more than one of a name: `name 2` …"""
        wait_for(lambda: len(self.of(task)) >= count, f"{count} spans of {task}")
        found: dict[str, Span] = {}
        seen: Counter[str] = Counter()
        for each in sorted(self.of(task), key=lambda each: each.start_time_unix_nano):
            seen[each.name] += 1
            found[each.name if seen[each.name] == 1 else f"{each.name} {seen[each.name]}"] = each
        assert len(found) == count, found
        return found


def _spans(request: ExportTraceServiceRequest) -> Iterator[Span]:
    return (each for resource in request.resource_spans for scope in resource.scope_spans for each in scope.spans)


def _told(span: Span) -> dict[str, Any]:
    return {each.key: getattr(each.value, each.value.WhichOneof("value")) for each in span.attributes}


def ns(stamp: str) -> int:
    return round(datetime.fromisoformat(stamp).timestamp() * 1_000_000) * 1000


@pytest.fixture(scope="module")
def collector() -> Iterator[Collector]:
    made = Collector()
    yield made
    made.close()


@pytest.fixture
def own() -> Iterator[Collector]:
    """One that a test may have misbehave."""
    made = Collector()
    yield made
    made.close()


@pytest.fixture(scope="module")
def traced(collector: Collector, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Daemon]:
    """A daemon that sends to `collector`."""
    daemon = Daemon(tmp_path_factory.mktemp("traced") / "state", tracing=True)
    daemon.environment = _with(daemon, collector)  # type: ignore[method-assign]
    try:
        yield daemon.start()
        assert b"Traceback" not in daemon.log.read_bytes()
    finally:
        daemon.close()


def _with(daemon: Daemon, collector: Collector, **otel: str) -> Callable[..., dict[str, str]]:
    plain = daemon.environment
    return lambda **more: plain(OTEL_EXPORTER_OTLP_ENDPOINT=collector.url, **otel, **more)


@pytest.fixture
def make_traced(make_daemon: Callable[..., Daemon]) -> Callable[..., Daemon]:
    def make(collector: Collector, otel: dict[str, str] | None = None, **options: Any) -> Daemon:
        daemon = make_daemon(tracing=True, **options)
        daemon.environment = _with(daemon, collector, **(otel or {}))  # type: ignore[method-assign]
        return daemon

    return make


def submit(daemon: Daemon, headers: dict[str, str] | None = None, **body: Any) -> str:
    response = daemon.post("/v1/tasks", body, headers=headers or {})
    assert response.status_code == 201, response.text
    return str(response.json()["taskId"])


# -- the spans of a task


def test_a_task_is_a_trace_with_a_span_for_its_attempt_and_for_each_action(traced: Daemon, collector: Collector):
    task = submit(traced, name="build", actions=[
        {"machine": "process", "name": "first", "parameters": {"command": ["true"]}},
        {"machine": "echo", "parameters": "echo x"},
    ])  # fmt: skip
    known = traced.wait(task)
    spans = collector.wait(task, 4)
    whole, attempt, first, echo = (spans[name] for name in ("task build", "attempt", "first", "echo"))
    assert {each.trace_id for each in spans.values()} == {whole.trace_id}
    assert len({each.span_id for each in spans.values()}) == 4
    assert (whole.parent_span_id, attempt.parent_span_id) == (b"", whole.span_id)
    assert first.parent_span_id == echo.parent_span_id == attempt.span_id
    assert (whole.kind, attempt.kind) == (Span.SPAN_KIND_CONSUMER, Span.SPAN_KIND_INTERNAL)
    # the times are the very ones that the API tells
    assert (whole.start_time_unix_nano, whole.end_time_unix_nano) == (ns(known["createdAt"]), ns(known["finishedAt"]))
    assert attempt.start_time_unix_nano == ns(known["startedAt"])
    for span, action in zip((first, echo), known["actions"], strict=True):
        assert span.start_time_unix_nano == ns(action["startedAt"])
        assert span.end_time_unix_nano == ns(action["finishedAt"])
    assert _told(whole)["task_runner.outcome"] == "succeeded"
    assert _told(whole)["task_runner.origin"] == "v1"
    assert (_told(first)["task_runner.exit_code"], _told(echo)["task_runner.machine"]) == (0, "echo")
    assert {each.status.code for each in spans.values()} == {Status.STATUS_CODE_UNSET}
    resource = {each.key: each.value.string_value for each in collector.requests[0].resource_spans[0].resource.attributes}
    assert resource["service.name"] == "task-runner"


def test_a_trace_tells_no_command_no_environment_and_no_output(traced: Daemon, collector: Collector):
    parameters = {"command": ["sh", "-c", "echo outhush; : cmdhush"], "env": {"A": "envhush"}}
    task = submit(traced, machine="process", parameters=parameters)
    traced.wait(task)
    collector.wait(task, 3)
    everything = b"".join(each.SerializeToString() for each in collector.of(task))
    assert b"hush" not in everything


def test_a_failure_and_what_follows_it(traced: Daemon, collector: Collector):
    task = submit(traced, actions=[
        {"machine": "process", "name": "bad", "parameters": {"command": ["sh", "-c", "exit 3"]}},
        {"machine": "process", "name": "never", "parameters": {"command": ["true"]}},
    ], cleanup=[{"machine": "process", "name": "tidy", "parameters": {"command": ["true"]}}])  # fmt: skip
    traced.wait(task)
    spans = collector.wait(task, 4)  # `never` was not started
    assert set(spans) == {"task", "attempt", "bad", "tidy"}
    for name in ("task", "attempt", "bad"):
        assert spans[name].status.code == Status.STATUS_CODE_ERROR
    assert "3" in spans["bad"].status.message
    assert spans["tidy"].status.code == Status.STATUS_CODE_UNSET
    assert _told(spans["tidy"])["task_runner.cleanup"] is True


def test_a_stopped_task_is_no_error_and_its_stop_stands_in_it(traced: Daemon, collector: Collector):
    task = submit(traced, command=["sleep", "600"])
    traced.wait_state(task, "running")
    traced.post(f"/v1/tasks/{task}/stop")
    traced.wait(task)
    spans = collector.wait(task, 3)
    assert {each.status.code for each in spans.values()} == {Status.STATUS_CODE_UNSET}
    (stop,) = spans["attempt"].events
    assert stop.name == "stop"
    assert stop.time_unix_nano >= spans["process"].start_time_unix_nano


def test_a_task_that_never_started_has_the_one_span(traced: Daemon, collector: Collector):
    task = submit(traced, command=["true"], executeAt=time.time() + 3600)
    traced.post(f"/v1/tasks/{task}/stop")
    spans = collector.wait(task, 1)
    assert _told(spans["task"])["task_runner.outcome"] == "cancelled"


def test_retries_are_attempts_of_one_task(traced: Daemon, collector: Collector):
    task = submit(traced, command=["sh", "-c", 'test "$TASK_RUNNER_ATTEMPT" = 3'], retry={"count": 3, "delaySeconds": 0.01})
    traced.wait(task)
    spans = collector.wait(task, 7)
    whole = spans["task"]
    attempts = [spans[name] for name in ("attempt", "attempt 2", "attempt 3")]
    assert [_told(each)["task_runner.attempt"] for each in attempts] == [1, 2, 3]
    assert {each.parent_span_id for each in attempts} == {whole.span_id}
    assert [each.status.code for each in attempts] == [2, 2, 0]
    commands = [spans[name] for name in ("process", "process 2", "process 3")]
    assert [each.parent_span_id for each in commands] == [each.span_id for each in attempts]
    assert whole.status.code == Status.STATUS_CODE_UNSET


def test_a_task_that_somebody_tries_again_has_another_span_in_its_trace(traced: Daemon, collector: Collector):
    task = submit(traced, command=["true"])
    traced.wait(task)
    first = collector.wait(task, 3)
    assert traced.post(f"/v1/tasks/{task}/retry").status_code == 200
    spans = collector.wait(task, 6)
    again = spans["task 2"]
    assert again.trace_id == first["task"].trace_id
    assert again.parent_span_id == first["task"].span_id
    assert again.span_id != first["task"].span_id
    assert again.start_time_unix_nano >= first["task"].end_time_unix_nano
    assert spans["attempt 2"].parent_span_id == again.span_id


def test_the_tasks_of_a_batch(traced: Daemon, collector: Collector):
    body = {"tasks": [{"command": ["true"], "name": f"one{number}"} for number in range(60)]}
    response = traced.post("/v1/batches", body, headers=GIVEN)
    batch = response.json()["batchId"]

    def found() -> list[Span]:
        return [each for each in collector.spans if _told(each).get("task_runner.batch") == batch]

    wait_for(lambda: len(found()) == 60, "each task has its span")
    assert {each.trace_id.hex() for each in found()} == {TRACE}
    assert {each.parent_span_id.hex() for each in found()} == {PARENT}
    assert len({each.span_id for each in found()}) == 60


def test_a_lost_task_says_what_is_not_known(make_traced: Callable[..., Daemon], own: Collector):
    daemon = make_traced(own).start()
    task = submit(daemon, command=["sleep", "600"])
    daemon.wait_state(task, "running")
    wait_for(lambda: daemon.task(task)["actions"][0]["startedAt"], "its command runs")
    os.kill(daemon.runner_pid(task), signal.SIGKILL)
    assert daemon.wait(task)["outcome"] == "lost"
    spans = own.wait(task, 3)
    assert {each.status.code for each in spans.values()} == {Status.STATUS_CODE_ERROR}
    assert _told(spans["process"])["task_runner.end_known"] is False
    assert _told(spans["attempt"])["task_runner.end_known"] is False


# -- the context


def test_the_context_of_the_request_goes_through_to_the_command(traced: Daemon, collector: Collector):
    show = ["sh", "-c", 'echo "$TRACEPARENT $TRACESTATE"']
    actions = [{"machine": "process", "name": name, "parameters": {"command": show}} for name in ("one", "two")]
    task = submit(traced, GIVEN, actions=actions)
    traced.wait(task)
    spans = collector.wait(task, 4)
    assert {each.trace_id.hex() for each in spans.values()} == {TRACE}
    assert spans["task"].parent_span_id.hex() == PARENT
    assert spans["task"].flags & 0x300 == 0x300  # the parent is known, and of another process
    assert spans["attempt"].flags & 0x300 == 0x100
    assert {each.trace_state for each in spans.values()} == {GIVEN["tracestate"]}
    given = [f"00-{TRACE}-{spans[name].span_id.hex()}-01 {GIVEN['tracestate']}" for name in ("one", "two")]
    assert traced.output(task).decode().splitlines() == given


def test_without_a_context_the_command_gets_its_own_trace(traced: Daemon, collector: Collector):
    task = submit(traced, command=["sh", "-c", 'echo "$TRACEPARENT ${TRACESTATE-unset}"'])
    traced.wait(task)
    spans = collector.wait(task, 3)
    process = spans["process"]
    assert traced.output(task).decode() == f"00-{process.trace_id.hex()}-{process.span_id.hex()}-01 unset\n"


def test_an_environment_of_the_spec_goes_first(traced: Daemon):
    parameters = {"command": ["sh", "-c", 'echo "$TRACEPARENT"'], "env": {"TRACEPARENT": "mine"}}
    task = submit(traced, GIVEN, machine="process", parameters=parameters)
    traced.wait(task)
    assert traced.output(task) == b"mine\n"


def test_who_does_not_record_his_trace_has_none_recorded_here(traced: Daemon, collector: Collector):
    task = submit(traced, {"traceparent": f"00-{TRACE}-{PARENT}-00"}, command=["sh", "-c", 'echo "$TRACEPARENT"'])
    traced.wait(task)
    assert traced.output(task).decode().endswith("-00\n")
    later = submit(traced, command=["true"])
    collector.wait(later, 3)
    assert collector.of(task) == []


def test_a_request_with_a_bad_context_is_taken_and_begins_a_trace(traced: Daemon, collector: Collector):
    task = submit(traced, {"traceparent": "00-nonsense"}, command=["true"])
    assert collector.wait(task, 3)["task"].parent_span_id == b""


def test_a_request_repeated_with_another_context_is_the_same_task(traced: Daemon, collector: Collector):
    body = {"command": ["true"]}
    first = traced.post("/v1/tasks", body, headers={"Idempotency-Key": "k1", **GIVEN})
    other = {"traceparent": f"00-{'1' * 32}-{'2' * 16}-01"}
    second = traced.post("/v1/tasks", body, headers={"Idempotency-Key": "k1", **other})
    assert (first.status_code, second.status_code) == (201, 200)
    task = first.json()["taskId"]
    assert {each.trace_id.hex() for each in collector.wait(task, 3).values()} == {TRACE}


VALID = f"00-{TRACE}-{PARENT}-01"


@pytest.mark.parametrize(
    "parents",
    [
        [],
        [VALID, VALID],
        [""],
        [VALID.upper()],
        [f"ff-{TRACE}-{PARENT}-01"],
        [f"00-{'0' * 32}-{PARENT}-01"],
        [f"00-{TRACE}-{'0' * 16}-01"],
        [f"{VALID}-more"],
        [VALID[:-1]],
        [f"{VALID}0"],
        [f"00-{TRACE}-{PARENT}-0x"],
        [f"cc-{TRACE}-{PARENT}-01.more"],
        [VALID.replace("-", "_")],
    ],
)
def test_contexts_that_are_none(parents: list[str]):
    assert tracecontext.read(parents, ["a=b"]) is None


@pytest.mark.parametrize(
    ("states", "kept"),
    [
        ([], None),
        ([""], None),
        (["a=b"], "a=b"),
        (["a=b", "c=d"], "a=b,c=d"),
        ([" a=b , ,c=d\t"], "a=b,c=d"),
        (["t1@v=1,x*/-_0=;:!~"], "t1@v=1,x*/-_0=;:!~"),
        (["a=b,a=c"], None),
        (["A=b"], None),
        (["a=b=c"], None),
        (["a=ü"], None),
        (["a=b\nc=d"], None),
        (["a="], None),
        (["a"], None),
        ([",".join(f"k{number}=v" for number in range(33))], None),
        (["a=" + "v" * 257], None),
        ([",".join(f"k{number}={'v' * 200}" for number in range(3))], None),
    ],
)
def test_states_that_are_kept_and_states_that_are_not(states: list[str], kept: str | None):
    assert tracecontext.read([VALID], states) == TraceContext(trace_id=TRACE, span_id=PARENT, flags=1, state=kept)


def test_a_later_version_is_read_as_far_as_it_is_known():
    assert tracecontext.read([f"cc-{TRACE}-{PARENT}-03-what-ever"], []) == TraceContext(
        trace_id=TRACE, span_id=PARENT, flags=3
    )


# -- restarts, and collectors that are away


def test_a_restart_in_the_middle_loses_nothing_and_doubles_nothing(make_traced: Callable[..., Daemon], own: Collector):
    daemon = make_traced(own).start()
    go = daemon.state_dir.parent / "go"
    until = ["sh", "-c", f'echo "$TRACEPARENT"; until [ -e {go} ]; do sleep 0.05; done']
    during = submit(daemon, GIVEN, command=until, name="during")
    retried = submit(daemon, command=["sh", "-c", f"until [ -e {go} ]; do sleep 0.05; done; exit 1"], name="retried",
                     retry={"count": 1, "delaySeconds": 0.01})  # fmt: skip
    for task in (during, retried):
        daemon.wait_state(task, "running")
    daemon.kill()
    go.touch()
    wait_for(lambda: not daemon.alive(during) and not daemon.alive(retried), "they end while no daemon is there")
    daemon.start()
    known = daemon.wait(during)
    daemon.wait(retried)
    spans = own.wait(during, 3)
    assert spans["task during"].parent_span_id.hex() == PARENT
    assert daemon.output(during).decode() == f"00-{TRACE}-{spans['process'].span_id.hex()}-01\n"
    assert spans["process"].end_time_unix_nano == ns(known["actions"][0]["finishedAt"])
    assert set(own.wait(retried, 5)) == {"task retried", "attempt", "attempt 2", "process", "process 2"}
    daemon.restart()
    last = submit(daemon, command=["true"])
    own.wait(last, 3)
    # one that was killed before it noted the collector's answer sends the same spans again
    assert [len({span.span_id for span in own.of(task)}) for task in (during, retried)] == [3, 5]


def test_spans_wait_in_the_store_while_the_collector_is_away(make_traced: Callable[..., Daemon], own: Collector):
    own.status = 503
    daemon = make_traced(own, {"OTEL_EXPORTER_OTLP_TIMEOUT": "1"}).start()
    task = submit(daemon, command=["true"])
    daemon.wait(task)
    wait_for(lambda: own.asked, "it was tried")
    assert daemon.http.delete(f"/v1/tasks/{task}").status_code == 200  # its spans outlive it
    daemon.restart()
    other = submit(daemon, command=["true"])
    assert daemon.wait(other)["outcome"] == "succeeded"
    metrics = daemon.http.get("/metrics").text
    assert "task_runner_span_groups_waiting 2.0" in metrics
    own.status = 200
    for each in (task, other):
        own.wait_ids(each, 3)
    wait_for(lambda: "task_runner_span_groups_waiting 0.0" in daemon.http.get("/metrics").text, "none waits")
    assert "task_runner_spans_exported_total 6.0" in daemon.http.get("/metrics").text


def test_a_daemon_that_dies_before_it_has_noted_the_answer_sends_the_same_spans_again(
    make_traced: Callable[..., Daemon], own: Collector
):
    daemon = make_traced(own)
    daemon.start(TASK_RUNNER_FAILPOINT="spans.sent")
    task = submit(daemon, command=["true"])
    daemon.wait_dead()
    first = own.wait(task, 3)
    daemon.start()
    wait_for(lambda: len(own.of(task)) == 6, "they come again")
    assert {each.span_id for each in own.of(task)} == {each.span_id for each in first.values()}
    wait_for(lambda: "task_runner_span_groups_waiting 0.0" in daemon.http.get("/metrics").text, "and no more")


def test_no_more_than_so_many_wait(make_traced: Callable[..., Daemon], own: Collector):
    own.status = 503
    daemon = make_traced(own, {"OTEL_EXPORTER_OTLP_TIMEOUT": "1"}, tracing_waiting=3).start()
    tasks = []
    for _ in range(8):  # one after the other: the spans of the first come first
        tasks.append(submit(daemon, command=["true"]))
        daemon.wait(tasks[-1])
    wait_for(lambda: "task_runner_span_groups_dropped_total 5.0" in daemon.http.get("/metrics").text, "five are dropped")
    own.status = 200
    for task in tasks[-3:]:
        own.wait_ids(task, 3)
    assert [own.of(task) for task in tasks[:5]] == [[]] * 5


def test_data_that_the_collector_refuses_does_not_bar_the_rest(make_traced: Callable[..., Daemon], own: Collector):
    own.bad = "task bad"
    daemon = make_traced(own).start()
    body = {"tasks": [{"command": ["true"], "name": name} for name in ("good", "bad", "fine")]}
    daemon.post("/v1/batches", body)
    wait_for(lambda: {"task good", "task fine"} <= {each.name for each in own.spans}, "the others arrive")
    wait_for(lambda: "task_runner_span_groups_dropped_total 1.0" in daemon.http.get("/metrics").text, "one is dropped")


def test_a_collector_that_hangs_hinders_nothing(make_traced: Callable[..., Daemon]):
    with socket.create_server(("127.0.0.1", 0)) as silent:  # takes connections and never answers

        class Silent:
            url = f"http://127.0.0.1:{silent.getsockname()[1]}"

        # the library waits longer for its answer than anything here waits for the daemon
        daemon = make_traced(Silent(), {"OTEL_EXPORTER_OTLP_TIMEOUT": "600"}).start()  # type: ignore[arg-type]
        for _ in range(3):
            assert daemon.wait(daemon.submit("true"))["outcome"] == "succeeded"
        silent.settimeout(PATIENCE)
        connection, _ = silent.accept()
        with connection:
            connection.settimeout(PATIENCE)
            assert connection.recv(1), "it is on its way"
            daemon.terminate()


# -- settings


def test_it_is_off_by_default_and_nothing_of_it_is_loaded(make_daemon: Callable[..., Daemon], collector: Collector):
    daemon = make_daemon()
    daemon.start(OTEL_EXPORTER_OTLP_ENDPOINT=collector.url)
    task = submit(daemon, GIVEN, command=["sh", "-c", 'echo "${TRACEPARENT-unset}"'])
    daemon.wait(task)
    assert daemon.output(task) == b"unset\n"
    assert collector.of(task) == []
    maps = Path(f"/proc/{daemon.pid}/maps").read_text()
    assert "google/_upb" not in maps  # what decodes protobuf is a shared library


def test_a_sampler_of_the_environment(make_traced: Callable[..., Daemon], own: Collector):
    daemon = make_traced(own, {"OTEL_TRACES_SAMPLER": "parentbased_always_off", "OTEL_SERVICE_NAME": "mine"}).start()
    out = submit(daemon, command=["sh", "-c", 'echo "$TRACEPARENT"'])
    daemon.wait(out)
    assert daemon.output(out).endswith(b"-00\n")
    kept = submit(daemon, GIVEN, command=["true"])
    own.wait(kept, 3)
    assert own.of(out) == []
    resource = own.requests[0].resource_spans[0].resource.attributes
    assert ("service.name", "mine") in {(each.key, each.value.string_value) for each in resource}


def test_samplers_decide_by_the_id_of_the_trace_alone():
    low, high = "0" * 16 + "3" + "f" * 15, "f" * 16 + "c" + "0" * 15
    half = traceoptions.sampler({"OTEL_TRACES_SAMPLER": "traceidratio", "OTEL_TRACES_SAMPLER_ARG": "0.5"})
    assert (half(low, None), half(high, None)) == (True, False)
    recorded = TraceContext(trace_id=high, span_id=PARENT, flags=1)
    assert not half(high, recorded)
    based = traceoptions.sampler({"OTEL_TRACES_SAMPLER": "parentbased_traceidratio", "OTEL_TRACES_SAMPLER_ARG": "0"})
    assert based(high, recorded)
    assert not based(low, None)
    assert traceoptions.sampler({})("f" * 32, None)
    assert not traceoptions.sampler({"OTEL_TRACES_SAMPLER": "always_off"})("0" * 32, recorded)


@pytest.mark.parametrize(
    ("name", "given", "said"),
    [
        ("OTEL_TRACES_EXPORTER", "zipkin", "OTEL_TRACES_EXPORTER"),
        ("OTEL_EXPORTER_OTLP_PROTOCOL", "grpc", "http/protobuf"),
        ("OTEL_TRACES_SAMPLER", "jaeger_remote", "OTEL_TRACES_SAMPLER"),
        ("OTEL_TRACES_SAMPLER", "parentbased_parentbased_always_on", "OTEL_TRACES_SAMPLER"),
    ],
)
def test_what_cannot_be_done_is_refused_at_the_start(monkeypatch: pytest.MonkeyPatch, name: str, given: str, said: str):
    monkeypatch.setenv(name, given)
    with pytest.raises(Refused, match=said):
        settings.load(tracing=True)
    settings.load(tracing=False)


@pytest.mark.parametrize("arg", ["x", "1.5", "-0.1", "nan"])
def test_a_share_that_is_none_is_refused(arg: str):
    with pytest.raises(Refused, match="OTEL_TRACES_SAMPLER_ARG"):
        traceoptions.sampler({"OTEL_TRACES_SAMPLER": "traceidratio", "OTEL_TRACES_SAMPLER_ARG": arg})


def test_without_the_packages_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(traceoptions, "find_spec", lambda _name: None)
    with pytest.raises(Refused, match=r"pip install 'task-runner\[otel\]'"):
        settings.load(tracing=True)
    settings.load()


def test_opentelemetrys_own_switch_turns_it_off(make_traced: Callable[..., Daemon], own: Collector):
    daemon = make_traced(own, {"OTEL_SDK_DISABLED": "true"}).start()
    task = submit(daemon, GIVEN, command=["sh", "-c", 'echo "${TRACEPARENT-unset}"'])
    daemon.wait(task)
    assert daemon.output(task) == b"unset\n"
