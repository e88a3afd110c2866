"""The live verbs as a person meets them: `list --watch`, `top`, `logs` and `wait` of several, in a terminal and piped."""

from __future__ import annotations

import json
import re
import signal
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from conftest import ROOT, Daemon, Start, finish, verb, wait_for
from nursery import PIPE, Forked
from screens import terminal
from served import SERVE, Served

from task_runner.cli import follow, rates, top, watch
from task_runner.cli.main import cli
from task_runner.client import ConnectionFailed

pytestmark = pytest.mark.slow

SETTINGS = {"max_running": 12}
#: what an evil name and an evil line would do: clear the screen, set the title, colour the rest
EVIL = "\x1b[2J\x1b]0;owned\x07\x1b[41m"
LEFT = b"\x1b[?1049l"


@pytest.fixture
def daemon(shared: Daemon) -> Daemon:
    return shared


def gated(daemon: Daemon, tmp_path: Path, before: str, after: str = ":", **more: Any) -> str:
    """A task that does one thing, waits for the file `go`, and does another."""
    shell = f"{before}; while [ ! -e {tmp_path}/go ]; do sleep 0.05; done; {after}"
    return daemon.submit(shell=shell, **more)


# -- list --watch


def test_the_list_changes_while_somebody_watches(daemon: Daemon, tmp_path: Path):
    first = gated(daemon, tmp_path, "echo", entity="e1", tags={"of": "watch"}, name="[bold]first[/bold] 東京")
    with terminal("list", "--watch", "--tag", "of=watch", env=daemon.env, cwd=tmp_path) as seen:
        seen.wait(lambda text: re.search(rf"{first}  running .* \[bold\]first\[/bold\] 東\s?京", text), "it runs")
        second = daemon.submit("false", tags={"of": "watch"})
        seen.wait(lambda text: re.search(rf"{second}  failed +1 ", text), "the second one has failed")
        assert daemon.submit("true") not in seen.text
        (tmp_path / "go").touch()
        seen.wait(lambda text: re.search(rf"{first}  succeeded", text), "the first one is over")
        row = next(i for i, line in enumerate(seen.rows) if first in line)
        assert (seen.colour_at(row, 18), seen.rows[0].split()[0]) == ("green", "ID")
        daemon.http.delete(f"/v1/tasks/{second}")
        seen.wait(lambda text: second not in text, "what was removed has gone")
        seen.child.send("q")
        assert seen.end() == 0
        assert seen.written.endswith(LEFT)


def test_the_list_keeps_to_the_terminal_whatever_its_size(daemon: Daemon, tmp_path: Path):
    old = gated(daemon, tmp_path, "echo", name="old and running", tags={"many": "y"})
    daemon.wait_state(old, "running")
    tasks = [{"command": ["true"], "executeAt": "2100-01-01T00:00:00Z", "tags": {"many": "y"}}] * 300
    batch = daemon.post("/v1/batches", {"tasks": tasks}).json()
    newest = batch["tasks"][-1]
    with terminal("list", "-w", "-t", "many=y", "-n", "1000", env=daemon.env, cwd=tmp_path, columns=40, lines=10) as seen:
        seen.wait(lambda text: newest in text and "more" in text)
        assert [line.split()[0] for line in seen.rows[:2]] == ["ID", old], "what runs comes first, however old it is"
        assert seen.rows[-2].startswith(newest)
        assert all(len(line) <= 40 for line in seen.rows)
        seen.resize(120, 30)
        seen.wait(lambda text: text.count("scheduled") == 27 and "RUNTIME" in text, "it fills what there is")
        seen.resize(40, 6)
        seen.wait(lambda text: text.count("scheduled") == 3 and old in text and "q: quit" in text, "and keeps to less")
        seen.resize(20, 2)
        seen.wait(lambda text: "q: quit" in text)
        seen.child.kill(signal.SIGTERM)
        assert seen.end() == 128 + signal.SIGTERM
        assert LEFT in seen.written
    (tmp_path / "go").touch()
    daemon.post(f"/v1/batches/{batch['batchId']}/stop")


def test_who_watches_is_told_of_an_outage_and_misses_nothing(make_daemon: Callable[..., Daemon], tmp_path: Path):
    daemon = make_daemon().start()
    task_id = gated(daemon, tmp_path, "echo")
    with terminal("list", "--watch", env=daemon.env, cwd=tmp_path) as seen:
        seen.wait(lambda text: re.search(rf"{task_id}  running", text))
        daemon.kill()
        seen.wait(lambda text: "no contact with the daemon, trying again" in text and task_id in text)
        (tmp_path / "go").touch()
        daemon.start()
        seen.wait(lambda text: re.search(rf"{task_id}  succeeded", text) and "no contact" not in text)
        daemon.kill()
        seen.wait(lambda text: "no contact" in text)
        seen.child.sendintr()
        assert seen.end() == 130
        assert seen.written.endswith(LEFT)


@pytest.mark.parametrize(
    ("module", "kind", "looks"), [(watch, lambda: watch._Watch(None, {}, 9), "_look"), (top, lambda: top._Top(None, "cpu", 0.01), "_take")]
)
def test_an_outage_that_is_heard_of_when_a_look_has_its_answer_is_shown(
    module: Any, kind: Callable[[], Any], looks: str, monkeypatch: pytest.MonkeyPatch
):
    """The listening thread hears of it between the last answer and its use by the looking one; it is told once."""
    shown, ended, seen = kind(), threading.Event(), []
    for name in ("REFRESH", "BREATH"):  # of the list; top is told its interval
        monkeypatch.setattr(module, name, 0.01, raising=False)

    def look(*_given: Any) -> None:
        seen.append(shown._contact.there)
        if len(seen) == 1:
            shown._lose(ConnectionFailed("gone"))
        elif len(seen) == 3:
            ended.set()

    monkeypatch.setattr(shown, looks, look)
    shown._refresh(None, ended, *([None] if looks == "_take" else []))
    assert seen == [True, False, True], "and the next look finds out what is so"


def test_ctrl_z_gives_the_terminal_back_until_it_goes_on(daemon: Daemon, tmp_path: Path):
    with terminal("list", "--watch", env=daemon.env, cwd=tmp_path) as seen:
        seen.wait(lambda text: "q: quit" in text)
        seen.child.kill(signal.SIGTSTP)
        wait_for(lambda: " T " in Path(f"/proc/{seen.child.pid}/stat").read_text(), "it stands still")
        assert seen.text is not None
        assert LEFT in seen.written
        seen.child.kill(signal.SIGCONT)
        wait_for(lambda: seen.text and seen.written.count(b"\x1b[?1049h") == 2, "it is there again")
        seen.child.send("q")
        assert seen.end() == 0


def test_what_is_wrong_with_a_watch_is_said_before_there_is_a_screen(daemon: Daemon, tmp_path: Path):
    for verb_, url, code in ((["top"], "http://127.0.0.1:1", 6), (["list", "--watch"], daemon.url, 5)):
        env = {**daemon.env, "TASK_RUNNER_URL": url, "TASK_RUNNER_TOKEN": "wrong"}
        with terminal(*verb_, env=env, cwd=tmp_path) as seen:
            assert seen.end() == code
            assert b"1049h" not in seen.written
            assert b"task-runner: " in seen.written


def test_a_watch_that_is_no_terminal_prints_a_line_for_each_change(
    make_daemon: Callable[..., Daemon], tmp_path: Path, request: pytest.FixtureRequest
):
    daemon = make_daemon().start()
    begin: list[Any] = []
    for more in ([], ["--json"], ["--state", "exited", "-t", "k=v", "-q", "EXIT 3", "--origin", "v1"]):
        each = Forked("verb", "list", "--watch", *more, env=daemon.env, cwd=tmp_path, stdout=PIPE, stderr=PIPE)
        request.addfinalizer(each.close)
        begin.append(each)
    wait_for(lambda: _streams(daemon) >= 3, "all three listen")
    task_id = gated(daemon, tmp_path, "echo", "exit 3", tags={"k": "v"}, name="a [red]b", entity="e")
    lines = [begin[0].stdout.readline().decode()]
    events = [json.loads(begin[1].stdout.readline())]
    daemon.wait_state(task_id, "running")
    daemon.restart()
    (tmp_path / "go").touch()
    while "failed" not in lines[-1]:
        lines.append(begin[0].stdout.readline().decode())
    assert all(task_id in line for line in lines)
    assert lines[-1].endswith(f"  {task_id}  failed exit code 3 a [red]b (e)\n")
    assert len(lines) == len(set(lines))
    events += [json.loads(begin[1].stdout.readline()) for _ in lines[1:]]
    assert [event["state"] for event in events][-1] == "exited"
    assert sorted({event["id"] for event in events}) == [event["id"] for event in events]
    assert begin[2].stdout.readline().decode() == lines[-1], "and of the filtered ones the one that matches"
    for each in begin:
        each.send_signal(signal.SIGINT)
        assert each.wait(60) == 130


def _streams(daemon: Daemon) -> int:
    """Streams that the daemon has begun: of each watcher one. (A connection is open before it has heard of it.)"""
    told = re.search(r"^task_runner_streams (\d+)", daemon.http.get("/metrics").text, re.MULTILINE)
    return int(told[1]) if told else 0


# -- top


def test_top_shows_who_uses_what(daemon: Daemon, tmp_path: Path):
    busy = gated(daemon, tmp_path, f"while [ ! -e {tmp_path}/go ]; do :; done", name="busy [x]")
    loud = gated(daemon, tmp_path, f"while [ ! -e {tmp_path}/go ]; do seq 9999; sleep 0.1; done", name="loud")
    fat = daemon.submit(sys.executable, "-c", "x = bytearray(60 << 20); import time; time.sleep(600)", name="fat")
    with terminal("top", env=daemon.env, cwd=tmp_path) as seen:
        seen.wait(lambda text: re.search(rf"{busy}  running +\d+\.\d%", text), "a rate is known")
        seen.wait(lambda text: re.search(rf"{fat}  running .* \d\d(\.\d)? MiB", text), "and the memory")
        assert re.match(r"CPU (\d+%|-)  memory .* of .*  running \d+ of 12  waiting \d+", seen.rows[0])
        for key, first in (("m", fat), ("o", loud), ("c", busy), ("i", min(busy, loud, fat))):
            seen.child.send(key)
            seen.wait(lambda text, key=key, first=first: text.splitlines()[2].startswith(first), f"{key}: {first}")
        seen.resize(40, 6)
        seen.wait(lambda text: " busy" in text and "sorted by id" in text and "PROCS" not in text)
        seen.child.send("q")
        assert seen.end() == 0
    done = verb(daemon, "top", "--once", "--sort", "memory")
    assert [line.split()[0] for line in done.stdout.splitlines()][:3] == ["CPU", "ID", fat]

    def loudest() -> Any:
        found = json.loads(verb(daemon, "top", "--once", "--json", "-s", "output").stdout)
        return (first := found["tasks"][0])["taskId"] == loud and (first["outputRate"] or 0) > 1000 and found

    found = wait_for(loudest, "it writes between two looks, if it has its turn between them")
    assert found["node"]["mostRunning"] == 12
    (tmp_path / "go").touch()
    daemon.post(f"/v1/tasks/{fat}/stop", {"graceSeconds": 0})


def test_top_over_an_outage(make_daemon: Callable[..., Daemon], tmp_path: Path):
    daemon = make_daemon().start()
    task_id = daemon.submit("sleep", "600")
    with terminal("top", env=daemon.env, cwd=tmp_path) as seen:
        seen.wait(lambda text: task_id in text)
        daemon.kill()
        seen.wait(lambda text: "no contact with the daemon, trying again" in text)
        daemon.start()
        seen.wait(lambda text: "no contact" not in text and task_id in text)
        seen.child.sendintr()
        assert seen.end() == 130


def test_rates_lie_between_two_looks():
    def task(task_id: str, cpu: float | None, output: int | None) -> Any:
        return {"taskId": task_id, "cpuSeconds": cpu, "rssBytes": None, "processes": 1, "outputBytes": output}

    before: Any = {"at": "", "monotonicSeconds": 10.0, "tasks": [task("a", 1.0, 0), task("b", 5.0, 100), task("c", None, 0)]}
    now: Any = {"at": "", "monotonicSeconds": 12.0, "tasks": [task("a", 2.0, 9), task("b", 4.0, 300), task("c", None, 0), task("d", 1.0, 1)]}
    found = {each.task_id: (each.cpu_percent, each.output_rate) for each in rates.task_rates(before, now, "id")}
    assert found == {"a": (50.0, 4.5), "b": (0.0, 100.0), "c": (None, 0.0), "d": (None, None)}
    assert [each.task_id for each in rates.task_rates(before, now, "cpu")][:2] == ["a", "b"]
    assert [each.task_id for each in rates.task_rates(before, now, "output")][:2] == ["b", "a"]
    assert {each.cpu_percent for each in rates.task_rates(now, {**now, "monotonicSeconds": 3.0}, "id")} == {None}


# -- logs of several


def test_logs_of_several_lose_and_double_nothing_over_a_kill(make_daemon: Callable[..., Daemon], tmp_path: Path):
    daemon = make_daemon().start()
    count = 3000
    shell = f"seq {count // 2}; while [ ! -e {tmp_path}/go ]; do sleep 0.05; done; seq {count // 2 + 1} {count}; printf end"
    ids = [daemon.submit(shell=shell, name=f"job {n}") for n in range(4)]
    process = Forked("verb", "logs", "-f", *ids, env=daemon.env, cwd=tmp_path, stdout=PIPE, stderr=PIPE)
    try:
        begun = b""
        while begun.count(f"| {count // 2}\n".encode()) < 4:
            begun += process.stdout.read(1 << 16)
        daemon.restart()
        (tmp_path / "go").touch()
        code, out, err = finish(process, begun)
    finally:
        process.close()
    assert code == 0
    assert "no contact with the daemon, trying again" in err
    lines = out.decode().splitlines()
    for n in range(4):
        head = f"job {n} | "
        mine = [line.removeprefix(head) for line in lines if line.startswith(head)]
        assert mine == [*map(str, range(1, count + 1)), "end"]
    assert len(lines) == 4 * (count + 1)


def test_logs_of_several_in_their_forms(daemon: Daemon, tmp_path: Path):
    first = daemon.submit("printf", "one\\ntwo", name="first")
    second = daemon.submit("printf", "\\377\\n\\n")
    for each in (first, second):
        daemon.wait(each)
    heads = [f"{each[:6]} | " for each in (first, second)]
    shown = CliRunner().invoke(cli, ["logs", first, second], env=daemon.env)
    assert shown.stdout_bytes == f"{heads[0]}one\n{heads[0]}two\n{heads[1]}".encode() + b"\xff\n" + f"{heads[1]}\n".encode()
    shown = CliRunner().invoke(cli, ["logs", "--no-prefix", "-n", "1", first, second], env=daemon.env)
    assert (shown.exit_code, shown.stdout_bytes) == (0, b"two\n\n")
    shown = CliRunner().invoke(cli, ["logs", "--json", first, second, "nonesuch"], env=daemon.env)
    found = [json.loads(line) for line in shown.stdout.splitlines()]
    assert found[:2] == [{"taskId": first, "text": "one"}, {"taskId": first, "text": "two"}]
    assert found[2:] == [{"taskId": second, "base64": "/w=="}, {"taskId": second, "text": ""}]
    assert (shown.exit_code, "nonesuch: " in shown.stderr) == (3, True)
    assert CliRunner().invoke(cli, ["logs", first], env=daemon.env).stdout_bytes == b"one\ntwo", "of one: byte by byte"
    for wrong in (["logs"], ["logs", first, second, "--offset", "1"], ["logs", first, "--tail", "1", "--offset", "1"]):
        assert CliRunner().invoke(cli, wrong, env=daemon.env).exit_code == 2


def test_logs_of_a_batch_on_a_terminal_steer_nothing(daemon: Daemon, tmp_path: Path):
    evil = f"printf '{EVIL}boo\\r\\n\\033[32mgreen\\n'"
    body = {"tasks": [{"shell": evil, "name": "bad"}, {"shell": "echo plain", "name": "good"}]}
    batch = daemon.post("/v1/batches", body).json()
    with terminal("logs", "-f", "--batch", batch["batchId"], env=daemon.env, cwd=tmp_path) as seen:
        assert seen.end() == 0
        lines = sorted(line for line in seen.rows if line)
        assert lines == ["bad  | \\x1b[2J\\x1b]0;owned\\x07boo", "bad  | green", "good | plain"]
        row = next(i for i, line in enumerate(seen.rows) if "green" in line)
        assert seen.colour_at(row, 8) == "green"
        assert seen.colour_at(row, 0) != seen.colour_at(next(i for i, line in enumerate(seen.rows) if "plain" in line), 0)
        assert b"\x1b[2J" not in seen.written


def test_who_follows_several_can_be_interrupted_or_left(daemon: Daemon, start: Start):
    ids = [daemon.submit("sh", "-c", "echo ready; sleep 600", name=name) for name in ("x", "y")]
    process = start("logs", "-f", *ids)
    assert sorted(process.stdout.readline() for _ in ids) == [b"x | ready\n", b"y | ready\n"]
    process.send_signal(signal.SIGINT)
    assert finish(process) == (130, b"", "")
    for each in ids:
        daemon.post(f"/v1/tasks/{each}/stop", {"graceSeconds": 0})


@pytest.mark.parametrize(
    ("chunks", "lines"),
    [
        ([], []),
        ([b"a\nb\n"], [b"a\n", b"b\n"]),
        ([b"a", b"b", b"\nc"], [b"ab\n", b"c\n"]),
        ([b"\n", b"\n\n"], [b"\n", b"\n", b"\n"]),
        ([b"x" * (follow.LONGEST_LINE + 1), b"y\n"], [b"x" * (follow.LONGEST_LINE + 1) + b"\n", b"y\n"]),
    ],
)
def test_lines_come_whole(chunks: list[bytes], lines: list[bytes]):
    assert [line for found in follow.whole_lines(chunks) for line in found] == lines


def test_what_tells_tasks_apart():
    def labels(*tasks: tuple[str, str | None]) -> list[str]:
        found = follow.prefixes([{"taskId": task_id, "name": name} for task_id, name in tasks])  # type: ignore[typeddict-item]
        return [head.decode() for head in found.values()]

    assert labels(("a" * 16, "one"), ("b" * 16, "three")) == ["one   | ", "three | "]
    assert labels(("a" * 16, "one"), ("b" * 16, "one")) == ["aaaaaa | ", "bbbbbb | "]
    assert labels(("a" * 16, "one"), ("b" * 16, None)) == ["aaaaaa | ", "bbbbbb | "]
    assert labels(("a" * 15 + "1", None), ("a" * 15 + "2", None)) == ["a" * 15 + "1 | ", "a" * 15 + "2 | "]
    assert labels(("a" * 16, "x\x1b[2J"), ("b" * 16, "y")) == ["x\\x1b[2J | ", "y        | "]


def test_what_runs_is_shown_before_what_is_newer():
    def tasks(*states: str) -> Any:
        return [{"taskId": f"{i}-{state}", "state": state} for i, state in enumerate(states)]

    newest, older = tasks("pending", "running", "exited"), [{"taskId": "9-paused", "state": "paused"}]
    found = watch.choose(newest, [newest[1], *older], 3)
    assert [each["taskId"] for each in found] == ["9-paused", "1-running", "0-pending"]
    assert [each["taskId"] for each in watch.choose(newest, [newest[1], *older], 1)] == ["9-paused"]
    assert watch.choose(newest, [], 9) == newest[::-1]
    assert watch.choose(newest, [], 0) == []


# -- wait of several


def test_several_are_waited_for_with_a_picture(daemon: Daemon, tmp_path: Path):
    says = "echo '42 copying' > $TASK_RUNNER_PROGRESS"
    slow = gated(daemon, tmp_path, says, name="slow [b]one", progress=True)
    bad = gated(daemon, tmp_path, "echo", "exit 3")
    good = daemon.submit("true")
    with terminal("wait", slow, bad, good, env=daemon.env, cwd=tmp_path) as seen:
        seen.wait(lambda text: "1 of 3 over: 1 ok, 0 not" in text and re.search(r"slow \[b\]one [━╺╸ ]+ 42% 0:", text))
        (tmp_path / "go").touch()
        assert seen.end() == 1
        lines = [line for line in seen.rows if line]
        assert [line.split(" ", 1)[0] for line in lines] == [f"{slow}:", f"{bad}:", f"{good}:"], "the picture has gone"
        assert "failed with exit code 3" in lines[1]


def test_a_wait_goes_on_over_a_kill_and_tells_in_order(make_daemon: Callable[..., Daemon], tmp_path: Path):
    daemon = make_daemon().start()
    first, second = gated(daemon, tmp_path, "echo"), daemon.submit("false")
    batch = daemon.post("/v1/batches", {"tasks": [{"command": ["true"]}] * 30}).json()
    process = Forked("verb", "wait", first, second, "--batch", batch["batchId"], "--json", env=daemon.env, cwd=tmp_path, stdout=PIPE, stderr=PIPE)
    try:
        wait_for(lambda: _streams(daemon) >= 1)
        daemon.wait(second)
        daemon.restart()
        (tmp_path / "go").touch()
        code, out, _err = finish(process)
    finally:
        process.close()
    found = [json.loads(line) for line in out.splitlines()]
    assert [task["taskId"] for task in found] == [first, second, *batch["tasks"]]
    assert (code, {task["state"] for task in found}) == (1, {"exited"})


def test_one_of_several_is_enough(daemon: Daemon, start: Start, tmp_path: Path):
    slow = daemon.submit("sleep", "600")
    quick = gated(daemon, tmp_path, "echo", "exit 4")
    process = start("wait", "--any", "--exit-code", slow, quick)
    (tmp_path / "go").touch()
    code, out, _err = finish(process)
    assert (code, out.decode().split(" after")[0]) == (4, f"{quick}: failed with exit code 4")
    done = verb(daemon, "wait", "--any", slow, quick)
    assert (done.returncode, done.stdout.split(":")[0]) == (1, quick)
    daemon.wait_state(slow, "running")  # of two tasks the second may be the first to start
    done = verb(daemon, "wait", "--any", "--timeout", "0.3", slow, slow[:12])
    assert (done.returncode, done.stdout) == (124, f"{slow}: still running\n")
    done = verb(daemon, "wait", "--timeout", "0.3", slow, quick, "nonesuch")
    assert (done.returncode, done.stdout.count("\n")) == (3, 2)
    process = start("wait", slow, daemon.submit("sleep", "600", name="other"))
    daemon.http.delete(f"/v1/tasks/{slow}")
    daemon.post(f"/v1/tasks/{daemon.http.get('/v1/tasks', params={'q': 'other'}).json()[-1]['taskId']}/stop", {"graceSeconds": 0})
    code, out, _err = finish(process)
    assert (code, out.count(b"\n"), b"cancelled" in out) in {(3, 1, True), (1, 2, True)}
    for wrong in (["wait"], ["wait", slow, quick, "--exit-code"], ["wait", "-b", "x", "--exit-code"]):
        assert CliRunner().invoke(cli, wrong, env=daemon.env).exit_code == 2


# -- where the daemon is, and what it costs


def test_over_a_unix_socket(tmp_path: Path):
    served = Served()
    path = served.directory / "s"
    try:
        served.start(*SERVE, "--bind", f"unix:{path}")
        env = {"PATH": "/usr/bin:/bin", "TASK_RUNNER_URL": f"unix://{path}", "TASK_RUNNER_STATE_DIR": served.state.path}
        ids = [CliRunner().invoke(cli, ["run", "-d", "--name", name, "--", "echo", name], env=env).stdout.strip() for name in ("ann", "bob")]
        assert CliRunner().invoke(cli, ["wait", *ids], env=env).exit_code == 0
        found = CliRunner().invoke(cli, ["logs", "-f", *ids], env=env)
        assert (found.exit_code, sorted(found.stdout.splitlines())) == (0, ["ann | ann", "bob | bob"])
        with terminal("list", "-w", env=env, cwd=tmp_path) as seen:
            seen.wait(lambda text: "q: quit" in text)
            seen.child.send("q")
            assert seen.end() == 0
    finally:
        served.close()


def test_the_plain_list_loads_nothing_for_it(daemon: Daemon):
    code = "import sys; from task_runner.cli.main import cli\ntry: cli(['list'])\nexcept SystemExit: pass\nprint('rich' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], env={**daemon.env, "PYTHONPATH": str(ROOT)}, capture_output=True, text=True, check=True, timeout=60)
    assert done.stdout.endswith("False\n")
