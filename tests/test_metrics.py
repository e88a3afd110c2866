"""/metrics: what a daemon counts is what happened, and said as Prometheus has it."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Callable, Iterator

import httpx
from conftest import ROOT, Daemon, wait_for
from prometheus_client.core import Metric
from prometheus_client.parser import text_string_to_metric_families

from task_runner.api import meters
from task_runner.api.meters import METERS, PROCESS

SETTINGS = {"dialects": ["drove", "i3d"], "max_running": 2}
DASHBOARD = ROOT / "doc/examples/grafana-dashboard.json"


def scraped(daemon: Daemon) -> dict[str, Metric]:
    response = daemon.http.get("/metrics")
    assert response.status_code == 200
    assert response.headers["content-type"].startswith("text/plain; version=")
    return {each.name: each for each in text_string_to_metric_families(response.text)}


def value(daemon: Daemon, sample: str, **labels: str) -> float:
    """The sum of the samples of this name with these labels, and others besides."""
    every = [one for each in scraped(daemon).values() for one in each.samples if one.name == f"task_runner_{sample}"]
    return sum(one.value for one in every if labels.items() <= one.labels.items())


class Difference:
    """What has been added to samples since a moment."""

    def __init__(self, daemon: Daemon) -> None:
        self._daemon = daemon
        self._before = self._samples()

    def _samples(self) -> dict[tuple[str, frozenset[tuple[str, str]]], float]:
        every = (one for each in scraped(self._daemon).values() for one in each.samples)
        return {(one.name, frozenset(one.labels.items())): one.value for one in every}

    def of(self, sample: str, **labels: str) -> float:
        return sum(
            now - self._before.get(key, 0.0)
            for key, now in self._samples().items()
            if key[0] == f"task_runner_{sample}" and labels.items() <= dict(key[1]).items()
        )


# -- the form


def lint(families: dict[str, Metric]) -> list[str]:
    """What `promtool check metrics` would say, by the same rules."""
    faults = []
    for name, family in families.items():
        if not family.documentation:
            faults.append(f"{name}: no help")
        if family.type == "unknown":
            faults.append(f"{name}: no type")
        for sample in family.samples:
            plain = re.sub(r"_(bucket|sum|count)$", "", sample.name) if family.type == "histogram" else sample.name
            counts = plain.endswith("_total")
            if counts != (family.type == "counter"):
                faults.append(f"{sample.name}: _total is for counters, and counters need it")
            if family.type != "histogram" and re.search(r"_(bucket|sum|count)$", plain):
                faults.append(f"{sample.name}: the ending is one of histograms")
            if re.search(r"_(milli|micro|nano)?seconds_|_(ms|minutes|hours|kb|mb|kilobytes|percent)\b|[A-Z]", plain) and not counts:
                faults.append(f"{sample.name}: not a base unit at the end, or capitals")
            if family.type in plain.split("_"):
                faults.append(f"{sample.name}: names its kind")
            wrong = {"le"} if family.type != "histogram" else set()
            bad = [label for label in sample.labels if label in wrong or not re.fullmatch(r"[a-z][a-z_]*", label)]
            faults += [f"{sample.name}: the label {label}" for label in bad]
    return faults


def test_the_text_is_as_promtool_wants_it(shared: Daemon):
    shared.wait(shared.submit("true"))
    families = scraped(shared)
    assert lint(families) == []
    for family in families.values():
        keys = [(one.name, tuple(sorted(one.labels.items()))) for one in family.samples]
        assert len(keys) == len(set(keys)), f"{family.name} says something twice"
    buckets = [one for one in families["task_runner_run_seconds"].samples if one.name.endswith("_bucket")]
    assert buckets[-1].labels["le"] == "+Inf"
    assert [one.value for one in buckets] == sorted(one.value for one in buckets)


def test_lint_finds_faults():
    def found(text: str) -> list[str]:
        return lint({each.name: each for each in text_string_to_metric_families(text)})

    good = '# HELP a_seconds x\n# TYPE a_seconds gauge\na_seconds{b="c"} 1\n'
    assert found(good) == []
    for bad in (good.replace("a_seconds", "a_total"), good.replace("a_seconds", "a_ms"), good.replace(" x", "")):
        assert found(bad), bad


def test_what_a_daemon_tells_is_what_the_documentation_lists(shared: Daemon):
    shared.wait(shared.submit("true"))
    told = {
        f"{name}_total" if family.type == "counter" else name: (family.type, {label for one in family.samples for label in one.labels} - {"le"})
        for name, family in scraped(shared).items()
    }
    known = {each.name: (each.kind, set(each.labels)) for each in METERS}
    assert set(told) == set(known) | set(PROCESS)
    for name, (kind, labels) in known.items():
        assert told[name][0] == kind, name
        assert told[name][1] in (labels, set()), name
    assert (ROOT / "doc/reference/metrics.md").read_text() == meters.table() + "\n"


def test_every_metric_that_the_dashboard_names_exists():
    dashboard = json.loads(DASHBOARD.read_text())
    panels = [panel for panel in dashboard["panels"] if panel["type"] != "row"]
    expressions = [target["expr"] for panel in panels for target in panel["targets"]]
    assert len(panels) >= 15
    named = {name for each in expressions for name in re.findall(r"\b(?:task_runner|process)_\w+", each)}
    plain = {each.name for each in METERS} | set(PROCESS)
    histograms = {f"{each.name}_{end}" for each in METERS if each.kind == "histogram" for end in ("bucket", "sum", "count")}
    assert named <= plain | histograms
    labels = {label for each in METERS for label in each.labels} | {"le", "job", "instance"}
    assert {one for each in expressions for part in re.findall(r"by \(([^)]*)\)", each) for one in part.split(", ")} <= labels
    missing = {each.name for each in METERS} - {re.sub(r"_(bucket|sum|count)$", "", name) for name in named} - named
    assert missing <= {"task_runner_up"}, "the dashboard shows everything"
    ids = [panel["id"] for panel in dashboard["panels"]]
    assert len(ids) == len(set(ids))


# -- tasks


def test_tasks_are_counted_from_acceptance_to_end(shared: Daemon):
    since = Difference(shared)
    shared.wait(shared.submit("true"))
    shared.wait(shared.submit("false"))
    shared.wait(shared.submit("sh", "-c", "printf 1234567"))
    assert since.of("tasks_accepted_total", origin="v1") == 3
    assert since.of("attempts_started_total", origin="v1") == 3
    assert since.of("tasks_ended_total", outcome="succeeded", origin="v1") == 2
    assert since.of("tasks_ended_total", outcome="failed", origin="v1") == 1
    assert since.of("start_latency_seconds_count") == 3
    assert 0 < since.of("start_latency_seconds_sum") < 60
    assert since.of("run_seconds_count", outcome="succeeded") == 2
    assert since.of("run_seconds_count", outcome="failed") == 1
    assert since.of("output_bytes_total") == 7
    assert since.of("output_gaps_total") == 0
    assert since.of("store_commit_seconds_count") >= 6


def test_a_batch_counts_as_its_tasks(shared: Daemon):
    since = Difference(shared)
    batch = shared.post("/v1/batches", {"tasks": [{"command": ["true"]}] * 20}).json()["batchId"]
    wait_for(lambda: shared.http.get(f"/v1/batches/{batch}").json()["finishedAt"], "the batch is over")
    assert since.of("tasks_accepted_total") == 20
    assert since.of("tasks_ended_total", outcome="succeeded") == 20
    assert since.of("start_latency_seconds_count") == 20


def test_a_refused_task_is_not_accepted(shared: Daemon):
    since = Difference(shared)
    shared.refusal(command=[])
    assert since.of("tasks_accepted_total") == 0
    assert since.of("http_requests_total", route="/v1/tasks", status="400") == 1


def test_retries_count_attempts_and_one_ending(shared: Daemon):
    since = Difference(shared)
    task = shared.submit("sh", "-c", "echo x; exit 1", retry={"count": 2, "delaySeconds": 0.01})
    shared.wait(task)
    assert since.of("attempts_repeated_total", by="spec") == 2
    assert since.of("attempts_started_total") == 3
    assert since.of("run_seconds_count", outcome="failed") == 3
    assert since.of("output_bytes_total") == 6
    assert since.of("tasks_ended_total") == 1
    assert since.of("start_latency_seconds_count") == 3
    shared.post(f"/v1/tasks/{task}/stop")  # it is over: this counts nothing
    assert shared.post(f"/v1/tasks/{task}/retry").status_code == 200
    wait_for(lambda: since.of("tasks_ended_total") == 2, "it has ended again")
    assert since.of("attempts_repeated_total", by="request") == 1


def test_a_task_that_never_started_has_no_run_time(shared: Daemon):
    since = Difference(shared)
    task = shared.submit("true", executeAt=time.time() + 3600)
    assert value(shared, "queue_tasks", reason="time") == 1
    shared.post(f"/v1/tasks/{task}/stop")
    shared.wait(task)
    assert since.of("tasks_ended_total", outcome="cancelled") == 1
    assert since.of("attempts_started_total") == since.of("run_seconds_count") == since.of("start_latency_seconds_count") == 0
    assert value(shared, "queue_tasks", reason="time") == 0


def test_the_middle_of_a_log_that_is_not_kept_is_counted(shared: Daemon):
    since = Difference(shared)
    task = shared.wait(shared.submit("sh", "-c", "head -c 3000000 /dev/zero", maxOutputBytes=200_000))
    gaps = task["output"]["gaps"]
    assert gaps
    assert since.of("output_bytes_total") == 3_000_000
    assert since.of("output_gaps_total") == len(gaps)
    assert since.of("output_gap_bytes_total") == sum(gap["bytes"] for gap in gaps)


def test_the_queue_tells_who_waits_for_what_and_since_when(shared: Daemon):
    running = [shared.submit("sleep", "600", entity="a"), shared.submit("sleep", "600")]
    for task in running:
        shared.wait_state(task, "running")
    waiting = [
        shared.submit("true", entity="a"),
        shared.submit("true"),
        shared.submit("true"),
        shared.submit("true", after=[{"task": running[1]}]),
    ]
    try:
        wait_for(lambda: value(shared, "queue_tasks", reason="room") == 2, "all are parked")
        assert value(shared, "queue_tasks", reason="entity") == 1
        assert value(shared, "queue_tasks", reason="after") == 1
        assert value(shared, "queue_tasks") == 4
        assert value(shared, "queue_oldest_seconds", reason="room") > 0
        assert value(shared, "queue_oldest_seconds", reason="time") == 0
        assert value(shared, "tasks", state="running") == 2
        assert value(shared, "tasks", state="pending") == 4
        wait_for(lambda: shared.post(f"/v1/tasks/{running[0]}/pause").json()["state"] == "paused", "it is paused")
        assert value(shared, "tasks", state="paused") == 1
    finally:
        for task in waiting + running:
            shared.post(f"/v1/tasks/{task}/stop", {"graceSeconds": 0})
    for task in waiting + running:
        shared.wait(task)
    assert value(shared, "queue_tasks") == 0


def test_a_launch_that_is_refused_is_counted(make_daemon: Callable[..., Daemon], tmp_path):
    secrets = tmp_path / "secrets"
    secrets.mkdir(mode=0o700)
    (secrets / "key").write_text("word")
    (secrets / "key").chmod(0o600)
    daemon = make_daemon(secrets_dir=str(secrets), max_running=1).start()
    first = daemon.submit("sleep", "600")
    daemon.wait_state(first, "running")
    second = daemon.submit("true", secrets=[{"name": "key", "env": "KEY"}])
    (secrets / "key").unlink()
    daemon.post(f"/v1/tasks/{first}/stop", {"graceSeconds": 0})
    wait_for(lambda: value(daemon, "launches_refused_total") >= 1, "the launch is refused")
    wait_for(lambda: value(daemon, "queue_tasks", reason="later") == 1, "it waits for its next try, between two of them")
    (secrets / "key").write_text("word")
    assert daemon.wait(second)["outcome"] == "succeeded"


# -- restarts


def test_after_a_restart_each_ending_is_counted_once_and_what_was_found_is_told(make_daemon: Callable[..., Daemon]):
    daemon = make_daemon().start()
    go = daemon.state_dir.parent / "go"
    over = daemon.submit("true")
    daemon.wait(over)
    short = [daemon.submit("sh", "-c", f"until [ -e {go} ]; do sleep 0.05; done") for _ in range(3)]
    long = daemon.submit("sleep", "600")
    for task in [*short, long]:
        daemon.wait_state(task, "running")
    assert value(daemon, "tasks_ended_total") == 1
    daemon.kill()
    go.touch()
    wait_for(lambda: not any(daemon.alive(task) for task in short), "they have ended")
    wait_for(lambda: all(_ended(daemon, task) for task in short), "and said so")
    daemon.start()
    wait_for(lambda: value(daemon, "ready") == 1, "all are examined")
    assert value(daemon, "endings_recovered") == 3
    assert value(daemon, "attempts_adopted") == 1
    assert value(daemon, "tasks_ended_total", outcome="succeeded") == 3  # not the one that was told before
    assert value(daemon, "attempts_started_total") == 0  # the earlier daemon counted them
    assert value(daemon, "tasks_accepted_total") == 0
    assert value(daemon, "run_seconds_count") == 3
    daemon.post(f"/v1/tasks/{long}/stop", {"graceSeconds": 0})
    daemon.wait(long)
    assert value(daemon, "tasks_ended_total", outcome="cancelled") == 1


def _ended(daemon: Daemon, task: str) -> bool:
    return json.loads((daemon.state_dir / "tasks" / task / "status.json").read_text())["state"] == "exited"


# -- requests


def requests(daemon: Daemon) -> Iterator[dict[str, str]]:
    return (one.labels for one in scraped(daemon)["task_runner_http_requests"].samples if one.name.endswith("_total"))


def test_requests_are_counted_by_route_and_never_by_path(shared: Daemon):
    since = Difference(shared)
    task = shared.submit("true")
    for number in range(5):
        shared.http.get(f"/v1/tasks/none{number}")
        shared.http.get(f"/nowhere/{number}")
        shared.http.get(f"/apis/v1/nowhere/{number}")
        shared.http.request("PROPFIND", f"/v1/tasks/{number}")
        shared.http.get("/v1/tasks", headers={"Authorization": f"Bearer no{number}"})
    shared.http.get(f"/v1/tasks/{task}")
    shared.http.delete("/v1/events")
    assert since.of("http_requests_total", route="/v1/tasks/{task_id}", method="GET", status="404") == 5
    assert since.of("http_requests_total", route="/v1/tasks/{task_id}", method="GET", status="200") >= 1
    assert since.of("http_requests_total", route="/v1/tasks", method="POST", status="201") == 1
    assert since.of("http_requests_total", surface="v1", route="unmatched", status="404") == 5
    assert since.of("http_requests_total", surface="drove", route="unmatched") == 5
    assert since.of("http_requests_total", method="other") == 5
    assert since.of("http_requests_total", route="refused", status="401") == 5
    assert since.of("http_requests_total", route="unmatched", method="DELETE", status="405") == 1
    assert since.of("http_request_seconds_count", surface="v1", route="unmatched") >= 6
    for labels in requests(shared):
        assert task not in labels["route"]
        assert "nowhere" not in labels["route"]


def test_the_requests_of_dialects_are_counted_with_theirs(shared: Daemon):
    since = Difference(shared)
    assert shared.http.get("/apis/v1/ping", headers={"Authorization": shared.token}).status_code == 200
    counted = {(labels["surface"], labels["route"]) for labels in requests(shared)}
    assert any(surface == "drove" for surface, _route in counted)
    assert since.of("http_requests_total", surface="drove") >= 1


def test_a_stream_is_measured_to_its_beginning_and_counted_while_it_is_open(shared: Daemon):
    task = shared.submit("sleep", "600")
    shared.wait_state(task, "running")
    since = Difference(shared)
    with httpx.stream("GET", f"{shared.url}/v1/tasks/{task}/output?follow=true", headers=dict(shared.http.headers), timeout=60):
        wait_for(lambda: value(shared, "streams") == 1, "the stream is open")
        assert since.of("http_request_seconds_count", route="/v1/tasks/{task_id}/output") == 1
    wait_for(lambda: value(shared, "streams") == 0, "the stream is closed")
    assert since.of("http_requests_total", route="/v1/tasks/{task_id}/output", status="200") == 1
    shared.post(f"/v1/tasks/{task}/stop", {"graceSeconds": 0})
    shared.wait(task)


def test_the_metrics_need_a_token(shared: Daemon):
    assert httpx.get(f"{shared.url}/metrics").status_code == 401


def test_the_lag_of_the_loop_is_measured(shared: Daemon):
    wait_for(lambda: value(shared, "event_loop_lag_seconds_count") >= 1, "a beat has been")
