"""The audit log: who did what is written down, once and for all, and nothing that must not be."""

from __future__ import annotations

import json
import os
import re
import stat
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import quote

import httpx
import pytest
from conftest import PATIENCE, Daemon, verb, wait_for
from test_gate_dialects import CREDENTIAL
from test_tokens import ask, make

from task_runner.errors import Refused
from task_runner.lib.clock import SystemClock, stamp
from task_runner.service.audit import MOST_WAITING, AuditLog, last_lines
from task_runner.service.refusals import MOST_KINDS, WINDOW, Refusals

SETTINGS = {"dialects": ["drove", "executor", "i3d"]}
FIELDS = {"at", "token", "from", "surface", "method", "route", "parameters", "tasks", "batch", "status"}


def lines(daemon: Daemon, limit: int = 10_000) -> list[dict[str, Any]]:
    """All that was noted, what was asked just before included."""
    return list(daemon.http.get("/v1/audit", params={"limit": limit}).json())


def last(daemon: Daemon) -> dict[str, Any]:
    return lines(daemon, 1)[0]


def open_log(path: Path, *, max_bytes: int = 10**9, keep: int = 4) -> AuditLog:
    log = AuditLog(str(path), max_bytes=max_bytes, keep=keep, clock=SystemClock())
    log.open()
    return log


def on_disk(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_bytes().splitlines()]


# -- what is noted


def test_a_change_is_noted_with_who_where_what_and_the_result(shared: Daemon):
    secret = make(shared, "submit", "control", name="builder")
    before = stamp(time.time())
    made = ask(shared, secret, "POST", "/v1/tasks", json={"command": ["true"], "env": {"KEY": "confidential"}})
    task_id = made.json()["taskId"]
    line = last(shared)
    assert set(line) == FIELDS
    assert before <= line.pop("at") <= stamp(time.time())
    assert line == {
        "token": "builder", "from": "127.0.0.1", "surface": "v1", "method": "POST", "route": "/v1/tasks",
        "parameters": {}, "tasks": [task_id], "batch": None, "status": 201,
    }  # fmt: skip
    shared.wait(task_id)
    ask(shared, secret, "POST", f"/v1/tasks/{task_id}/pause")
    line = last(shared)
    assert (line["route"], line["parameters"], line["status"]) == (
        "/v1/tasks/{task_id}/pause", {"task_id": task_id}, 409,
    )  # fmt: skip
    ask(shared, secret, "DELETE", f"/v1/tasks/{task_id}")
    assert [last(shared)[name] for name in ("method", "token", "status")] == ["DELETE", "builder", 200]


def test_every_change_of_other_things_is_noted(shared: Daemon):
    batch = shared.post("/v1/batches", {"tasks": [{"command": ["true"]}]}).json()["batchId"]
    assert last(shared)["batch"] == batch
    shared.post("/v1/tasks", {"command": []})
    assert (last(shared)["status"], last(shared)["tasks"]) == (400, [])
    shared.http.put("/v1/templates/noted", json={"task": {"command": ["true"]}})
    assert (last(shared)["method"], last(shared)["parameters"], last(shared)["status"]) == ("PUT", {"name": "noted"}, 201)
    shared.post("/v1/node/drain")
    assert last(shared)["route"] == "/v1/node/drain"
    shared.post("/v1/node/undrain")
    make(shared, "read", name="fresh")
    assert (last(shared)["route"], last(shared)["parameters"]) == ("/v1/tokens", {})
    shared.http.delete("/v1/tokens/fresh")
    assert last(shared)["parameters"] == {"name": "fresh"}


def test_a_request_that_is_too_large_or_of_another_kind_is_noted(shared: Daemon):
    headers = {"Content-Type": "text/plain"}
    assert shared.http.post("/v1/node/drain", content=b"{}", headers=headers).status_code == 415
    assert (last(shared)["route"], last(shared)["status"], last(shared)["token"]) == ("/v1/node/drain", 415, "admin")


def test_reading_is_not_noted(shared: Daemon):
    before = lines(shared)
    for path in ("/v1/tasks", "/v1/node", "/metrics", "/v1/nowhere", "/v1/tokens", "/health"):
        shared.http.get(path)
    shared.http.head("/v1/tasks")
    shared.http.post("/apis/v1/tasks/search", data={"x": "y"})
    shared.post("/v1/nowhere", {})
    assert lines(shared) == before


def test_the_dialects_note_their_changes_with_our_ids(shared: Daemon):
    def send(surface: str, method: str, path: str, **more: Any) -> dict[str, Any]:
        headers = CREDENTIAL[surface](shared.token)
        response = httpx.request(method, shared.url + path, headers=headers, timeout=PATIENCE, verify=False, **more)
        assert response.status_code < 300, response.text
        line = last(shared)
        assert (line["surface"], line["status"], line["token"]) == (surface, response.status_code, "admin")
        return line

    def by_alias(alias: str) -> str:
        return str(shared.http.get("/v1/tasks", params={"alias": alias}).json()[0]["taskId"])

    one = {"name": "one", "process": {"command": ["sleep", "1000"]}}
    line = send("executor", "POST", "/tasks", json=one)
    task_id = by_alias("executor:one")
    assert line["tasks"] == [task_id]
    line = send("executor", "POST", "/setTasks", json=[{"name": "two", "process": {"command": ["true"]}}])
    assert set(line["tasks"]) == {task_id, by_alias("executor:two")}
    line = send("executor", "DELETE", "/tasks/two")
    assert len(line["tasks"]) == 1

    shared.http.put("/v1/templates/start", json={"task": {"command": ["true"]}})
    line = send("i3d", "POST", "/v3/applicationInstance/12345/start", json={})
    assert (line["parameters"], len(line["tasks"])) == ({"instance": "12345"}, 1)
    shared.wait(line["tasks"][0])


# -- what is refused


def test_who_is_refused_is_noted(shared: Daemon):
    reader = make(shared, "read", name="reader")
    assert ask(shared, reader, "POST", "/v1/node/drain").status_code == 403
    line = last(shared)
    assert (line["token"], line["route"], line["status"]) == ("reader", "/v1/node/drain", 403)
    assert ask(shared, reader, "GET", "/v1/tokens").status_code == 403
    assert (last(shared)["route"], last(shared)["status"]) == ("/v1/tokens", 403)
    hosted = ask(shared, reader, "GET", "/v1/tasks/abc")
    assert hosted.status_code == 404
    evil = {"Authorization": f"Bearer {reader}", "Origin": "http://evil.example"}
    assert httpx.get(f"{shared.url}/v1/tasks", headers=evil, timeout=PATIENCE, verify=False).status_code == 403
    assert (last(shared)["token"], last(shared)["route"], last(shared)["status"]) == ("reader", "/v1/tasks", 403)


def test_strangers_are_noted_without_what_they_wrote_and_those_alike_are_counted(daemon: Daemon):
    secret = "trt_stolen-and-mistyped"
    for number in range(200):
        path = f"/v1/tasks/{secret}{number}\n{{'forged': 1}}"
        response = httpx.get(
            daemon.url + path.replace("\n", "%0A"), headers={"Authorization": f"Bearer {secret}"}, timeout=PATIENCE, verify=False
        )
        assert response.status_code == 401
    found = [line for line in lines(daemon) if line["status"] == 401]
    assert len(found) == 1
    assert (found[0]["token"], found[0]["from"], found[0]["parameters"], found[0]["route"]) == (
        None, "127.0.0.1", {}, "/v1/tasks/{task_id}",
    )  # fmt: skip
    assert secret.encode() not in (daemon.state_dir / "audit.log").read_bytes()
    daemon.terminate()  # what was counted is told at the end
    counted = on_disk(daemon.state_dir / "audit.log")[-1]
    assert (counted["status"], counted["repeated"], counted["since"]) == (401, 199, found[0]["at"])


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def count(self, refusals: Refusals, kind: object, **entry: Any) -> Any:
        return refusals.count(kind, self.now, lambda: {"at": stamp(self.now), **entry})


def test_refusals_alike_are_told_once_and_then_counted():
    clock, refusals = Clock(), Refusals()
    assert clock.count(refusals, "a", x=1) == {"at": stamp(1000), "x": 1}
    assert [clock.count(refusals, "a", x=2) for _ in range(5)] == [None] * 5
    assert clock.count(refusals, "b", x=3)["x"] == 3
    assert refusals.next_due() == 1000 + WINDOW
    assert refusals.due(1000 + WINDOW - 1, "now") == []
    clock.now += WINDOW
    assert refusals.due(clock.now, "now") == [{"at": "now", "x": 1, "since": stamp(1000), "repeated": 5}]
    assert refusals.next_due() is None
    assert clock.count(refusals, "a", x=4)["x"] == 4


def test_however_many_kinds_there_are_only_so_many_are_told():
    clock, refusals = Clock(), Refusals()
    told = [clock.count(refusals, number, x=number) for number in range(10_000)]
    there = [each for each in told if each is not None]
    assert len(there) == MOST_KINDS + 1
    assert there[-1]["x"] is None
    clock.now += WINDOW
    assert refusals.due(clock.now, "now") == [
        {"at": "now", "x": None, "since": stamp(1000), "repeated": 10_000 - MOST_KINDS - 1}
    ]


# -- what must not be in it


NASTY = ["\n{\"at\": \"forged\"}", "\r", "\x1b[2J", "\u2028", "\x00", "\N{SNOWMAN}", "\"}", "é" * 300]


def test_no_name_that_a_client_chooses_begins_a_line_or_steers_a_terminal(shared: Daemon):
    before = len(lines(shared))
    for name in NASTY:
        shared.http.delete(f"/v1/templates/x{quote(name, safe='')}")
    raw = (shared.state_dir / "audit.log").read_bytes()
    found = lines(shared)[before:]
    assert len(found) == len(NASTY)
    assert all(32 <= byte < 127 or byte == 10 for byte in raw)
    assert [line["parameters"]["name"][1:] for line in found] == [name[:99] for name in NASTY]
    shown = verb(shared, "audit").stdout
    assert "\x1b" not in shown
    assert "\nforged" not in shown


def test_neither_bodies_nor_queries_nor_headers_nor_tokens_are_in_it(shared: Daemon):
    secret = make(shared, "admin", name="careless")
    for send in (
        lambda: ask(shared, secret, "POST", "/v1/tasks?x=confidential", json={"command": ["echo", "confidential"]}),
        lambda: ask(shared, secret, "DELETE", f"/v1/tokens/{secret}"),
        lambda: ask(shared, secret, "POST", f"/v1/tasks/{shared.token}/stop", json={"signal": "confidential"}),
        lambda: shared.http.delete("/v1/tasks/x", headers={"User-Agent": "confidential", "Cookie": "confidential"}),
    ):
        send()
    assert "(a token)" in json.dumps(lines(shared, 3))
    raw = (shared.state_dir / "audit.log").read_bytes()
    for word in (secret, shared.token, "confidential"):
        assert word.encode() not in raw


def test_it_is_for_the_owner_alone_and_for_admins(shared: Daemon):
    assert stat.S_IMODE((shared.state_dir / "audit.log").stat().st_mode) == 0o600
    everything_else = make(shared, "read", "logs", "submit", "control")
    assert ask(shared, everything_else, "GET", "/v1/audit").status_code == 403


# -- that it stays


def test_what_was_written_survives_sigkill_and_the_log_goes_on(daemon: Daemon):
    for _ in range(20):
        daemon.post("/v1/node/undrain")
    path = daemon.state_dir / "audit.log"
    wait_for(lambda: path.read_bytes().count(b"\n") == 20, "all is written, without anybody asking for it")
    daemon.restart()
    assert len(lines(daemon)) == 20
    daemon.post("/v1/node/undrain")
    assert len(lines(daemon)) == 21


def test_a_line_that_a_kill_cut_off_spoils_no_other(tmp_path: Path):
    path = tmp_path / "audit.log"
    path.write_bytes(b'{"at":"1"}\n{"at":"2","tok')
    log = open_log(path)
    log.note({"at": "3"})
    assert log.tail(10) == [{"at": "1"}, {"at": None, "damaged": True}, {"at": "3"}]
    log.close()


def test_it_is_rotated_by_size_and_the_oldest_goes(tmp_path: Path):
    path = tmp_path / "audit.log"
    log = open_log(path, max_bytes=4096, keep=2)
    for number in range(1000):
        log.note({"at": str(number), "filler": "x" * 80})
    found = log.tail(10_000)
    assert sorted(os.listdir(tmp_path)) == ["audit.log", "audit.log.1", "audit.log.2"]
    assert all(each.stat().st_size <= 4096 for each in tmp_path.iterdir())
    numbers = [int(each["at"]) for each in found]
    assert numbers == list(range(numbers[0], 1000))
    assert 60 < len(numbers) < 150
    assert [int(each["at"]) for each in log.tail(50)] == numbers[-50:]
    assert stat.S_IMODE((tmp_path / "audit.log.1").stat().st_mode) == 0o600
    log.close()


def test_without_earlier_files_to_keep_there_is_one(tmp_path: Path):
    log = open_log(tmp_path / "audit.log", max_bytes=4096, keep=0)
    for number in range(200):
        log.note({"at": str(number), "filler": "x" * 80})
    assert log.tail(1)[0]["at"] == "199"
    assert os.listdir(tmp_path) == ["audit.log"]
    log.close()


def test_nothing_is_lost_where_many_threads_note_and_read(tmp_path: Path):
    log = open_log(tmp_path / "audit.log", max_bytes=20_000, keep=1000)

    def work(name: int) -> None:
        for number in range(300):
            log.note({"at": f"{name} {number}"})
            if number % 100 == 0:
                log.tail(5)

    threads = [threading.Thread(target=work, args=(name,)) for name in range(5)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    found = [each["at"] for each in log.tail(10_000)]
    log.close()
    assert sorted(found) == sorted(f"{name} {number}" for name in range(5) for number in range(300))


@pytest.mark.parametrize("kind", ["link", "FIFO"])
def test_what_is_no_file_in_its_place_keeps_the_daemon_from_starting(tmp_path: Path, kind: str):
    path = tmp_path / "audit.log"
    if kind == "link":
        path.symlink_to("elsewhere")
    else:
        os.mkfifo(path)
    with pytest.raises(Refused, match=r"audit\.log"):
        open_log(path)
    assert not (tmp_path / "elsewhere").exists()


def test_what_cannot_be_written_waits_and_what_waits_too_long_is_counted(tmp_path: Path):
    """A limit on the size of files stands for a full disk: write(2) fails with EFBIG instead of ENOSPC."""
    script = f"""
import resource, signal, sys
from task_runner.lib.clock import SystemClock
from task_runner.service.audit import AuditLog
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
log = AuditLog({str(tmp_path / "audit.log")!r}, max_bytes=10**9, keep=1, clock=SystemClock())
log.open()
log.note({{"at": "first"}})
assert log.tail(9) == [{{"at": "first"}}]
size = len('{{"at":"first"}}\\n')
resource.setrlimit(resource.RLIMIT_FSIZE, (size + 5, resource.RLIM_INFINITY))
for number in range({MOST_WAITING + 70}):
    log.note({{"at": str(number)}})
assert log.tail(9) == [{{"at": "first"}}], log.tail(9)  # no part of a line
log.note({{"at": "last"}})
resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
found = log.tail(100_000)
log.close()
assert found[0]["at"] == "first" and found[1]["at"] == "0"
dropped = [each["dropped"] for each in found if "dropped" in each]
print(len(found) - 1 - len(dropped) + sum(dropped))
"""
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, timeout=PATIENCE, check=False
    )
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) == MOST_WAITING + 71
    assert "cannot be written, and is tried again" in done.stderr


@pytest.mark.parametrize("count", [0, 1, 2, 5, 100])
def test_the_last_lines_of_a_file(tmp_path: Path, count: int):
    path = tmp_path / "log"
    every = [b"%d" % number * (number * 1000 + 1) for number in range(1, 30)]
    path.write_bytes(b"".join(line + b"\n" for line in every) + b"half a li")
    with path.open("rb") as file:
        assert last_lines(file.fileno(), count) == (every[-count:] if count else [])


# -- switched off, and seen by people


def test_it_can_be_switched_off(make_daemon: Callable[..., Daemon]):
    daemon = make_daemon(audit_log=False).start()
    daemon.post("/v1/node/undrain")
    response = daemon.http.get("/v1/audit")
    assert (response.status_code, "audit_log = false" in response.json()["detail"]) == (404, True)
    assert not (daemon.state_dir / "audit.log").exists()


def test_the_limit_is_checked(shared: Daemon):
    for wrong in ("0", "x", "10001"):
        assert shared.http.get("/v1/audit", params={"limit": wrong}).status_code == 400
    shared.post("/v1/node/undrain")
    shared.post("/v1/node/undrain")
    assert len(lines(shared, 2)) == 2


def test_the_command_line_shows_it(shared: Daemon):
    task_id = shared.submit("true")
    shared.wait(task_id)
    shown = verb(shared, "audit", "--limit", "1")
    assert re.search(rf"^20\S+Z +admin +127\.0\.0\.1 +201 +POST /v1/tasks +{task_id}$", shown.stdout, re.MULTILINE)
    found = json.loads(verb(shared, "audit", "--limit", "1", "--json").stdout)
    assert found[0]["tasks"] == [task_id]
