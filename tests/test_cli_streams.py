"""The command line where its standard streams are closed, full, or of another encoding, and where it meets another daemon."""

from __future__ import annotations

import json
import os
import signal
import stat
import subprocess
import sys
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from threading import Thread

import pytest
from conftest import PATIENCE, ROOT, Daemon
from screens import terminal
from terminal import TASK_RUNNER

from task_runner.cli.output import paint
from task_runner.cli.wholefile import place
from task_runner.client.errors import Alien, ApiError, NotFound
from task_runner.errors import Conflict, InvalidRequest


def shell(daemon: Daemon, line: str, *arguments: str, **env: str) -> subprocess.CompletedProcess[bytes]:
    """What /bin/sh makes of a line in which `tr` is the command."""
    run = " ".join(TASK_RUNNER)
    return subprocess.run(
        ["sh", "-c", line.replace("tr ", f"{run} "), "sh", *arguments], env={**daemon.env, "PYTHONPATH": str(ROOT), **env},
        stdin=subprocess.DEVNULL, capture_output=True, timeout=PATIENCE, check=False,
    )  # fmt: skip


@pytest.mark.parametrize(
    ("line", "code"),
    [("tr list >&-", 0), ("tr top --once >&-", 0), ("tr run -- echo hi >&-", 0), ("tr batch submit - <&-", 5),
     ("tr context add x http://h --with-token <&-", 5), ("tr show no-such-task 2>&-", 3), ("tr run -- true <&- >&- 2>&-", 0)],
)  # fmt: skip
def test_a_closed_stream_is_an_empty_one(shared: Daemon, tmp_path: Path, line: str, code: int):
    done = shell(shared, line, XDG_CONFIG_HOME=str(tmp_path))
    assert done.returncode == code, done.stderr
    assert b"Traceback" not in done.stderr


@pytest.mark.parametrize(
    ("line", "code"),
    [("tr node", 7), ("tr list", 7), ("tr list --json", 7), ("tr run -- echo hi", 125), ("tr --help", 7), ("tr --version", 7),
     ("tr list --help", 7), ("tr batch --help", 7), ("tr completion bash", 7)],
)  # fmt: skip
def test_output_that_finds_no_room_is_said_in_a_line(shared: Daemon, line: str, code: int):
    done = shell(shared, f"{line} > /dev/full")
    assert (done.returncode, done.stderr) == (code, b"task-runner: the output cannot be written: No space left on device\n")


@pytest.mark.parametrize("line", ["tr --help", "tr --version", "tr list --help"])
def test_help_that_nobody_reads_ends_as_any_output_does(shared: Daemon, line: str):
    reader, writer = os.pipe()
    os.close(reader)
    try:
        done = subprocess.run(
            [*TASK_RUNNER, *line.split()[1:]], env={**shared.env, "PYTHONPATH": str(ROOT)}, stdout=writer,
            stderr=subprocess.PIPE, timeout=PATIENCE, check=False,
        )  # fmt: skip
    finally:
        os.close(writer)
    assert (done.returncode, done.stderr) == (141, b"")


@pytest.mark.parametrize("encoding", ["latin-1", "koi8-r"])
def test_a_name_in_another_script_is_escaped(shared: Daemon, encoding: str):
    task_id = shared.submit("true", name="grün 東京 🎉")
    shared.wait(task_id)
    done = shell(shared, 'tr show "$1"', task_id, PYTHONIOENCODING=encoding)
    assert done.returncode == 0, done.stderr
    assert rb"\u6771\u4eac" in done.stdout
    done = shell(shared, 'tr show --json "$1"', task_id, PYTHONIOENCODING=encoding)
    assert json.loads(done.stdout.decode(encoding))["name"] == "grün 東京 🎉"


def test_a_screen_of_another_encoding(shared: Daemon, tmp_path: Path):
    task_id = shared.submit("true", name="grün 東京 🎉")
    for verb in (("list", "--watch"), ("top",)):
        with terminal(*verb, env={**shared.env, "PYTHONIOENCODING": "latin-1"}, cwd=tmp_path) as seen:
            seen.wait(lambda text: task_id in text or "sorted by" in text, "it is drawn")
            seen.child.send("q")
            assert seen.end() == 0


@pytest.mark.parametrize(("term", "no_color", "coloured"), [("xterm", "", True), ("dumb", "", False), ("xterm", "1", False)])
def test_colours_are_for_terminals_that_have_them(monkeypatch: pytest.MonkeyPatch, term: str, no_color: str, coloured: bool):
    monkeypatch.setenv("TERM", term)
    monkeypatch.setenv("NO_COLOR", no_color)
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    assert (paint("x", "red") != "x") is coloured


def test_who_is_interrupted_while_it_loads_sees_no_traceback(tmp_path: Path):
    """The first module of the command line that is loaded stops the process; what it meets there is SIGINT."""
    (tmp_path / "click.py").write_text("import os, signal\nos.kill(os.getpid(), signal.SIGINT)\n")
    done = subprocess.run(
        [sys.executable, "-m", "task_runner", "list"], env={**os.environ, "PYTHONPATH": f"{tmp_path}:{ROOT}"},
        capture_output=True, timeout=PATIENCE, check=False, cwd=tmp_path,
    )  # fmt: skip
    assert (done.returncode, done.stderr) == (-signal.SIGINT, b"")


# -- files that are made


def test_only_a_regular_file_is_replaced(tmp_path: Path):
    (tmp_path / "file").touch()
    (tmp_path / "link").symlink_to("file")
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(Conflict, match="--force"):
        place(str(tmp_path / "file"), "x", force=False)
    assert place(str(tmp_path / "file"), "x", force=True) == str(tmp_path / "file")
    for each in (tmp_path / "link", tmp_path / "pipe", Path("/dev/null"), Path("/dev/stdout")):
        for force in (False, True):
            with pytest.raises(InvalidRequest, match="not a regular file"):
                place(str(each), "x", force=force)
    assert stat.S_ISCHR(os.stat("/dev/null").st_mode)


def test_an_archive_that_is_not_whole_has_no_end(shared: Daemon):
    """Into a pipe, where what was written cannot be taken back."""
    task_id = shared.submit("true")
    shared.wait(task_id)
    code = (
        "from task_runner.cli import evidence, entry\n"
        "def gone(*_): raise KeyboardInterrupt\n"
        "evidence.Evidence._settings = gone\n"
        "entry.main()\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, "export", task_id, "-o", "-"], env={**shared.env, "PYTHONPATH": str(ROOT)},
        capture_output=True, timeout=PATIENCE, check=False,
    )  # fmt: skip
    assert (done.returncode, done.stderr) == (130, b"")
    tested = subprocess.run(["gzip", "-t"], input=done.stdout, capture_output=True, timeout=PATIENCE, check=False)
    assert tested.returncode != 0


# -- another daemon


def test_a_daemon_that_does_not_have_it_is_named_as_the_reason(tmp_path: Path):
    class Old(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            body = json.dumps({"status": 404, "detail": f"there is nothing at {self.path.partition('?')[0]}"}).encode()
            self.send_response(404)
            self.send_header("Content-Type", "application/problem+json")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_args: object) -> None:
            pass

    with HTTPServer(("127.0.0.1", 0), Old) as server:
        Thread(target=server.serve_forever, daemon=True).start()
        try:
            done = subprocess.run(
                [*TASK_RUNNER, "--url", f"http://127.0.0.1:{server.server_port}", "top", "--once"], text=True,
                env={**os.environ, "PYTHONPATH": str(ROOT), "HOME": str(tmp_path), "TASK_RUNNER_TOKEN": "x"},
                capture_output=True, timeout=PATIENCE, check=False,
            )  # fmt: skip
        finally:
            server.shutdown()
    assert done.returncode == 5
    assert "/v1/node/tasks: this daemon is older than that" in done.stderr


@pytest.mark.parametrize(
    ("detail", "kind"), [("there is nothing at /v1/audit", Alien), ("there is no task 'x'", NotFound), ("there is nothing at this place (yet)", NotFound)]
)
def test_no_such_route_is_not_no_such_task(detail: str, kind: type[ApiError]):
    assert type(ApiError.of(404, {"detail": detail})) is kind


# -- several logs


def test_logs_of_tasks_none_of_which_is_there(shared: Daemon):
    done = shell(shared, "tr logs no-such-task nor-this")
    assert done.returncode == 3
    assert done.stderr.count(b"there is no task") == 2
    assert b"Traceback" not in done.stderr

