"""Secrets: known by name, handed to tasks, and shown by nothing."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import pytest
from conftest import PATIENCE, Daemon, verb, wait_for

from task_runner.errors import NotFound, Refused
from task_runner.service import secrets as module
from task_runner.service.secrets import Secrets, named
from task_runner.service.validate import parse_spec

VALUE = "Zq7-unmistakable-Zq7"


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    made = tmp_path / "secrets"
    made.mkdir(mode=0o700)
    return made


def keep(directory: Path, name: str, value: bytes | str, mode: int = 0o600) -> None:
    path = directory / name
    path.write_bytes(value.encode() if isinstance(value, str) else value)
    path.chmod(mode)


# -- where they come from


def test_a_secret_is_a_file_and_one_line_feed_at_its_end_is_not_of_it(directory):
    keep(directory, "token", f"{VALUE}\n")
    keep(directory, "lines", "first\nsecond\n\n")
    secrets = Secrets(str(directory), {})
    assert secrets.value("token") == VALUE
    assert secrets.value("lines") == "first\nsecond\n"


def test_a_secret_is_a_variable_of_the_daemon_and_a_file_comes_before_it(directory):
    secrets = Secrets(str(directory), {"TASK_RUNNER_SECRET_DB_PASSWORD": "old", "TASK_RUNNER_SECRETS_DIR": "x", "A": "b"})
    assert secrets.names() == {"db-password": "environment"}
    assert secrets.value("db-password") == "old"
    keep(directory, "db-password", "new")
    assert secrets.value("db-password") == "new"
    assert secrets.names() == {"db-password": "file"}


def test_a_value_is_read_anew_each_time(directory):
    keep(directory, "token", "one")
    secrets = Secrets(str(directory), {})
    assert secrets.value("token") == "one"
    keep(directory, "token", "two")
    assert secrets.value("token") == "two"
    (directory / "token").unlink()
    with pytest.raises(NotFound, match="'token'"):
        secrets.value("token")


def test_files_may_be_links_as_container_platforms_mount_them(directory):
    (directory / "..2026_01").mkdir()
    keep(directory / "..2026_01", "token", VALUE)
    (directory / "..data").symlink_to("..2026_01")
    (directory / "token").symlink_to("..data/token")
    (directory / ".hidden").write_text("no")
    (directory / "below").mkdir()
    secrets = Secrets(str(directory), {})
    assert secrets.names() == {"token": "file"}
    assert secrets.value("token") == VALUE


def test_a_secret_is_found_by_its_value(directory):
    keep(directory, "token", f"{VALUE}\n")
    keep(directory, "unusable", b"\xff")
    secrets = Secrets(str(directory), {"TASK_RUNNER_SECRET_OTHER": "value of a variable"})
    assert secrets.name_of(VALUE) == "token"
    assert secrets.name_of("value of a variable") == "other"
    assert [secrets.name_of(value) for value in ("", VALUE[:-1], f"{VALUE}\n")] == [None, None, None]


@pytest.mark.parametrize("name", ["../outside", "..", ".", "", "a/b", "/etc/hostname", "a\0b"])
def test_a_name_leads_nowhere_else(directory, name):
    (directory.parent / "outside").write_text(VALUE)
    with pytest.raises(NotFound):
        Secrets(str(directory), {}).value(name)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "empty"),
        (b"\n", "empty"),
        (b"\xff\xfe" + VALUE.encode(), "UTF-8"),
        (b"a\0" + VALUE.encode(), "NUL"),
        (VALUE.encode() * 4000, "65536 bytes"),
    ],
)
def test_a_value_that_no_variable_could_hold_is_not_used_and_not_told(directory, content, words):
    keep(directory, "token", content)
    secrets = Secrets(str(directory), {"TASK_RUNNER_SECRET_SAME": os.fsdecode(content.replace(b"\0", b""))})
    with pytest.raises(NotFound, match=words) as error:
        secrets.value("token")
    assert VALUE not in str(error.value)
    if words != "NUL":
        with pytest.raises(NotFound, match=words):
            secrets.value("same")


def test_the_longest_value_is_taken(directory):
    keep(directory, "token", b"x" * module.MOST_BYTES + b"\n")
    assert len(Secrets(str(directory), {}).value("token")) == module.MOST_BYTES


def test_what_is_no_file_is_not_waited_for(directory):
    os.mkfifo(directory / "pipe")
    with pytest.raises(NotFound, match="not a regular file"):
        Secrets(str(directory), {}).value("pipe")
    assert Secrets(str(directory), {}).names() == {}


def test_a_directory_that_is_not_there_keeps_the_daemon_from_starting(tmp_path):
    with pytest.raises(Refused, match="secrets_dir"):
        Secrets(str(tmp_path / "none"), {})


def test_a_file_that_others_can_read_is_warned_of(directory, caplog):
    keep(directory, "mine", VALUE)
    keep(directory, "open", VALUE, 0o640)
    Secrets(str(directory), {})
    (record,) = caplog.records
    assert "open can be read by others (mode 640): chmod 600" in record.getMessage()
    assert VALUE not in caplog.text


# -- what a spec names

SPEC: dict[str, Any] = {
    "actions": [
        {"machine": "process", "parameters": {"command": ["true"]}},
        {"machine": "download", "parameters": {"url": "https://a.example/f", "bearerSecret": "d"}},
    ],
    "cleanup": [{"machine": "download", "parameters": {"url": "https://a.example/f", "bearerSecret": "c"}}],
    "secrets": [{"name": "a", "env": "A"}, {"name": "b", "fileEnv": "B"}],
    "files": [
        {"path": "x", "text": "x"},
        {"path": "y", "fetch": {"url": "https://a.example/", "username": "u", "passwordSecret": "p"}},
        {"path": "z", "fetch": {"url": "https://a.example/", "bearerSecret": "t", "headerSecrets": {"X-Key": "h"}}},
    ],
    "notify": [{"url": "https://a.example/"}, {"url": "https://a.example/", "secret": "n"}],
}
NAMED = {
    "secrets.0.name": "a",
    "secrets.1.name": "b",
    "files.1.fetch.passwordSecret": "p",
    "files.2.fetch.bearerSecret": "t",
    "files.2.fetch.headerSecrets.X-Key": "h",
    "actions.1.parameters.bearerSecret": "d",
    "cleanup.0.parameters.bearerSecret": "c",
    "notify.1.secret": "n",
}


def test_every_secret_that_a_spec_names_is_found_with_its_field():
    assert dict(named(parse_spec(SPEC))) == NAMED


def test_a_runner_gets_what_it_needs_and_not_what_webhooks_are_signed_with(directory):
    for name in NAMED.values():
        keep(directory, name, f"value of {name}")
    secrets = Secrets(str(directory), {})
    spec = parse_spec(SPEC)
    assert secrets.check(spec) == []
    assert secrets.grant(spec) == {name: f"value of {name}" for name in "abpthdc"}
    (directory / "p").unlink()
    with pytest.raises(NotFound, match="'p'"):
        secrets.grant(spec)


def test_an_unknown_secret_is_refused_by_field_and_only_the_nearest_is_named(directory):
    keep(directory, "db-password", VALUE)
    keep(directory, "signing-key", VALUE)
    spec = parse_spec({"command": ["true"], "secrets": [{"name": "db-pasword", "env": "A"}, {"name": "x", "env": "B"}]})
    first, second = Secrets(str(directory), {}).check(spec)
    assert (first.field, second.field) == ("secrets.0.name", "secrets.1.name")
    assert "did you mean 'db-password'?" in first.message
    assert "signing-key" not in first.message + second.message


def test_a_value_too_short_to_be_masked_is_refused_where_it_is_to_be_masked(directory):
    keep(directory, "pin", "123\n")
    keep(directory, "long", "1234")
    secrets = Secrets(str(directory), {})
    body = {"command": ["true"], "secrets": [{"name": "pin", "env": "A"}, {"name": "long", "env": "B"}]}
    hook = {"notify": [{"url": "https://a.example/", "secret": "pin"}]}
    assert secrets.check(parse_spec({**body, **hook})) == []
    (fault,) = secrets.check(parse_spec({**body, **hook, "maskSecrets": True}))
    assert fault.field == "secrets.0.name"
    assert "maskSecrets" in fault.message
    assert "123" not in fault.message


# -- with a daemon


@pytest.fixture
def keeper(make_daemon: Callable[..., Daemon], directory: Path) -> Daemon:
    """A daemon that knows `token` by a file and `env-token` by its environment."""
    keep(directory, "token", f"{VALUE}\n")
    return make_daemon(secrets_dir=directory).start(TASK_RUNNER_SECRET_ENV_TOKEN=VALUE[::-1])


def test_names_are_listed_and_values_are_not(keeper: Daemon, directory: Path):
    keep(directory, "another", VALUE)
    answer = keeper.http.get("/v1/secrets")
    assert answer.json() == [
        {"name": "another", "source": "file"},
        {"name": "env-token", "source": "environment"},
        {"name": "token", "source": "file"},
    ]
    done = verb(keeper, "secrets")
    assert [line.split() for line in done.stdout.splitlines()[1:]] == [
        ["another", "file"],
        ["env-token", "environment"],
        ["token", "file"],
    ]
    assert keeper.http.get("/v1/secrets", headers={"Authorization": "Bearer no"}).status_code == 401


@pytest.mark.usefixtures("executed_launchers")
def test_a_task_finds_none_of_the_daemons_secrets_in_its_surroundings(keeper: Daemon):
    # the command's own environment, its parents' down to the launcher, and theirs
    command = 'tr "\\0" "\\n" < /proc/self/environ; tr "\\0" "\\n" < /proc/$PPID/environ; env'
    task_id = keeper.submit("sh", "-c", command)
    assert keeper.wait(task_id)["outcome"] == "succeeded"
    output = keeper.output(task_id).decode()
    assert "PATH=" in output
    assert VALUE[::-1] not in output
    assert "TASK_RUNNER_SECRET_" not in output
    assert keeper.launcher_pid is not None
    assert VALUE[::-1].encode() not in Path(f"/proc/{keeper.launcher_pid}/environ").read_bytes()


def test_a_spec_with_a_secret_that_the_server_does_not_know_is_refused(keeper: Daemon):
    body = {"command": ["true"], "secrets": [{"name": "tokem", "env": "TOKEN"}]}
    answer = keeper.post("/v1/tasks", body)
    assert answer.status_code == 400
    (fault,) = answer.json()["errors"]
    assert fault["field"] == "secrets.0.name"
    assert "did you mean 'token'?" in fault["message"]
    assert keeper.http.get("/v1/tasks").json() == []


def test_a_task_gets_a_secret_as_a_variable_and_as_a_file_of_its_own(keeper: Daemon):
    command = 'printf %s "$A" | sha256sum; sha256sum < "$B"; stat -c %a "$B"; printf %s "$C" | sha256sum'
    task_id = keeper.submit(
        "sh",
        "-c",
        command,
        secrets=[{"name": "token", "env": "A", "fileEnv": "B"}, {"name": "env-token", "env": "C"}],
    )
    task = keeper.wait(task_id)
    assert task["outcome"] == "succeeded", keeper.output(task_id)
    by_variable, by_file, mode, reverse = keeper.output(task_id).decode().splitlines()
    assert by_variable.split()[0] == by_file.split()[0] == _sha256(VALUE)
    assert int(mode, 8) & 0o077 == 0
    assert reverse.split()[0] == _sha256(VALUE[::-1])


def _sha256(text: str) -> str:
    done = subprocess.run(["sha256sum"], input=text.encode(), capture_output=True, timeout=PATIENCE, check=True)
    return done.stdout.decode().split()[0]


def test_the_next_task_gets_the_new_value(keeper: Daemon, directory: Path):
    body = {"command": ["sh", "-c", 'printf %s "$A"'], "secrets": [{"name": "token", "env": "A"}]}
    first = keeper.post("/v1/tasks", body).json()["taskId"]
    keeper.wait(first)
    keep(directory, "token", "rotated")
    second = keeper.post("/v1/tasks", body).json()["taskId"]
    keeper.wait(second)
    assert (keeper.output(first), keeper.output(second)) == (VALUE.encode(), b"rotated")


def test_a_task_whose_secret_is_gone_waits_for_it_and_says_so(keeper: Daemon, directory: Path):
    assert keeper.post("/v1/node/drain").status_code == 200
    task_id = keeper.submit("sh", "-c", 'printf %s "$A"', secrets=[{"name": "token", "env": "A"}])
    (directory / "token").unlink()
    assert keeper.post("/v1/node/undrain").status_code == 200
    wait_for(lambda: "'token'" in (keeper.task(task_id)["pendingReason"] or ""), "it says what it waits for")
    assert keeper.task(task_id)["state"] == "pending"
    keep(directory, "token", "back")
    assert keeper.wait(task_id)["outcome"] == "succeeded"
    assert keeper.output(task_id) == b"back"


def test_a_killed_runner_leaves_no_secret_behind(keeper: Daemon):
    use = [{"name": "token", "fileEnv": "B"}]
    task_id = keeper.submit("sh", "-c", 'cat "$B" > /dev/null && echo ready && sleep 1000', secrets=use)
    wait_for(lambda: keeper.output(task_id), "it has its secret")
    os.kill(keeper.runner_pid(task_id), signal.SIGKILL)
    assert keeper.wait(task_id)["outcome"] == "lost"
    assert [name for name, data in _everything_that_is_kept(keeper).items() if VALUE.encode() in data] == []


@pytest.fixture
def refusing_receiver(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """A web server that refuses everything, with the request in its answer."""
    monkeypatch.setenv("NO_PROXY", "*")

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            self.send_response(500)
            self.end_headers()
            self.wfile.write(str(self.headers).encode() + body)

        def log_message(self, *_args: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = Thread(target=server.serve_forever, args=(0.05,), daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{server.server_address[1]}/"
    server.shutdown()
    server.server_close()
    thread.join()


def test_nothing_shows_a_secret(keeper: Daemon, refusing_receiver: str, tmp_path: Path):
    secrets = [{"name": "token", "env": "A", "fileEnv": "B"}, {"name": "env-token", "env": "C"}]
    hook = {"notify": [{"url": refusing_receiver, "on": ["pending", "running", "succeeded", "failed"], "secret": "token"}]}
    show = 'printf "%s\\n" "$A" "$C"; cat "$B"; printf %s "$A" >&2'
    halves = 'printf %s "${A%??????}"; sleep 0.2; printf %s "${A#"${A%??????}"}"; exit 3'
    bodies = [
        {"command": ["sh", "-c", show], "maskSecrets": True},
        {"command": ["sh", "-c", show], "maskSecrets": True, "outputMode": "separate", "outputTimestamps": True},
        {"command": ["sh", "-c", halves], "maskSecrets": True, "retry": {"count": 1, "delaySeconds": 0}},
        {"command": ["sh", "-c", 'test -n "$A" && test -s "$B" && sleep 1000']},
        {"command": ["/nonexistent/command"]},
    ]
    ids = []
    for body in bodies:
        answer = keeper.post("/v1/tasks", {**body, **hook, "secrets": secrets})
        assert answer.status_code == 201, answer.text
        ids.append(answer.json()["taskId"])
    refused = [
        keeper.post("/v1/tasks", {"command": ["true"], "secrets": [{"name": VALUE[:-1] + "x", "env": "A"}]}),
        keeper.post("/v1/tasks", {"command": ["true"], "secrets": [{"name": "token", "env": "A", "value": "?"}]}),
    ]
    assert [each.status_code for each in refused] == [400, 400]
    stopped = ids[3]
    for task_id in ids:
        if task_id != stopped:
            keeper.wait(task_id)
    keeper.wait_state(stopped, "running")
    keeper.restart(TASK_RUNNER_SECRET_ENV_TOKEN=VALUE[::-1])

    answers = _everything_that_is_told(keeper, ids)
    files = _everything_that_is_kept(keeper)
    keeper.post(f"/v1/tasks/{stopped}/stop?wait=30")
    keeper.wait(stopped)
    answers |= {f"{name} later": data for name, data in _everything_that_is_told(keeper, ids).items()}
    files |= {f"{name} later": data for name, data in _everything_that_is_kept(keeper).items()}
    masked = answers[f"/v1/tasks/{ids[0]}/output"]
    assert masked.count(b"*") >= 4 * len(VALUE), masked
    # a command that runs has its secrets in files of its own while it runs, and nowhere else
    own = {name for name in files if name.startswith(f"tasks/{stopped}/secrets/") and not name.endswith(" later")}
    assert own
    shown = {name for name, data in (answers | files).items() for each in _spellings() if each in data}
    assert shown == own


def _spellings() -> list[bytes]:
    return [VALUE.encode(), VALUE[::-1].encode()]


def _everything_that_is_told(daemon: Daemon, ids: list[str]) -> dict[str, bytes]:
    paths = ["/v1/tasks", "/v1/secrets", "/v1/openapi.json", "/v1/schema", "/v1/node", "/metrics", "/ready"]
    for task_id in ids:
        below = ("", "/notifications", "/output", "/output?stream=stderr", "/explain", "/files", "/attempts/1")
        paths += [f"/v1/tasks/{task_id}{each}" for each in below]
    found = {path: daemon.http.get(path).content for path in paths}
    for task_id in ids:
        found[f"events {task_id}"] = _events(daemon, f"/v1/tasks/{task_id}/events")
    for words in (["list"], ["show", ids[0]], ["notifications", ids[0]], ["secrets"]):
        done = verb(daemon, *words)
        assert done.returncode == 0, done.stderr
        found[" ".join(words)] = (done.stdout + done.stderr).encode()
    return found


def _events(daemon: Daemon, path: str) -> bytes:
    """All events so far: up to the last one that the task's state can be read from."""
    data = b""
    with daemon.http.stream("GET", path, headers={"Last-Event-ID": "0"}) as response:
        for chunk in response.iter_raw():
            data += chunk
            whole = data.split(b"\n")[:-1]  # behind the last end of a line there is the beginning of another
            states = [json.loads(line[5:])["state"] for line in whole if line.startswith(b"data:") and line.endswith(b"}")]
            if states and states[-1] in ("exited", "lost", "running"):
                return data
    return data


def _everything_that_is_kept(daemon: Daemon) -> dict[str, bytes]:
    found = {"the daemon's log": daemon.log.read_bytes()}
    for directory, _names, files in os.walk(daemon.state_dir):
        for name in files:
            path = Path(directory) / name
            with contextlib.suppress(FileNotFoundError):  # it was a temporary one, and is gone
                if path.is_file():
                    found[str(path.relative_to(daemon.state_dir))] = path.read_bytes()
    assert "tasks.db-wal" in found
    return found
