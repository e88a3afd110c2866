"""`export`: all that is known of a task in one archive, against a real daemon."""

from __future__ import annotations

import io
import json
import os
import resource
import subprocess
import tarfile
from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from conftest import PATIENCE, ROOT, Daemon
from terminal import TASK_RUNNER

from task_runner.cli.main import cli

Cli = Callable[..., Result]
SECRET = "correct-horse-battery-staple"


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory):
    top = tmp_path_factory.mktemp("export")
    (top / "secrets").mkdir(mode=0o700)
    (top / "secrets/pass").write_text(SECRET)
    daemon = Daemon(top / "state", secrets_dir=str(top / "secrets"))
    try:
        yield daemon.start()
    finally:
        daemon.close()


@pytest.fixture
def tr(shared: Daemon, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Cli:
    """Run a verb in this process, which saves its start."""
    monkeypatch.chdir(tmp_path)

    def run(*arguments: str, **env: str) -> Result:
        return CliRunner().invoke(cli, arguments, env={**shared.env, **env}, prog_name="task-runner")

    return run


def opened(path: Path, task_id: str) -> dict[str, bytes]:
    """The members of an archive by their names in the task's directory."""
    with tarfile.open(path) as archive:
        assert all(each.isfile() and each.name.startswith(f"{task_id}/") for each in archive)
        return {
            each.name.removeprefix(f"{task_id}/"): archive.extractfile(each).read()  # type: ignore[union-attr]
            for each in archive
        }


def token(daemon: Daemon, *scopes: str) -> str:
    made = daemon.post("/v1/tokens", {"name": "-".join(scopes), "scopes": list(scopes)})
    assert made.status_code == 201, made.text
    return str(made.json()["token"])


def test_all_that_is_known_is_in_it(shared: Daemon, tr: Cli, tmp_path: Path):
    script = "echo try $TASK_RUNNER_ATTEMPT; echo $PASS; echo left > kept.txt; test $TASK_RUNNER_ATTEMPT = 2"
    task_id = shared.submit(
        "sh", "-c", script, retry={"count": 1, "delaySeconds": 0}, secrets=[{"name": "pass", "env": "PASS"}],
        maskSecrets=True, name="two tries",
    )
    shared.wait(task_id)
    done = tr("export", task_id)
    assert (done.exit_code, done.stdout) == (0, "")
    path = tmp_path / f"{task_id}.tar.gz"
    assert f"{path.name}: " in done.stderr
    assert os.listdir(tmp_path) == [path.name]
    assert path.stat().st_mode & 0o777 == 0o600
    found = opened(path, task_id)
    assert json.loads(found["task.json"]) == shared.task(task_id)
    assert [json.loads(found[f"attempts/{n}.json"])["attempt"] for n in (1, 2)] == [1, 2]
    assert found["output/1.log"].startswith(b"try 1\n")
    assert found["output/2.log"].startswith(b"try 2\n")
    events = [json.loads(line) for line in found["events.jsonl"].splitlines()]
    assert events[-1]["outcome"] == "succeeded"
    assert [each["id"] for each in events] == sorted(each["id"] for each in events)
    assert json.loads(found["explain.json"])["taskId"] == task_id
    assert [json.loads(line)["path"] for line in found["files.jsonl"].splitlines()] == ["kept.txt"]
    assert json.loads(found["node.json"])["version"]
    assert json.loads(found["notifications.json"]) == []
    readme = found["README.txt"].decode()
    for name in found:
        assert name in readme or name == "README.txt"
    assert "files.tar: --files puts" in readme
    assert SECRET.encode() not in b"".join(found.values())
    # what is there is not overwritten unless asked to
    assert tr("export", task_id).exit_code == 4
    again = tr("export", task_id, "--force", "--json")
    assert json.loads(again.stdout)["file"] == path.name


def test_the_files_come_where_asked_for(shared: Daemon, tr: Cli, tmp_path: Path):
    task_id = shared.submit("sh", "-c", "mkdir a; echo b > a/b")
    shared.wait(task_id)
    assert tr("export", task_id, "--files", "-o", "x.tgz").exit_code == 0
    found = opened(tmp_path / "x.tgz", task_id)
    with tarfile.open(fileobj=io.BytesIO(found["files.tar"])) as inner:
        assert any(name.endswith("a/b") for name in inner.getnames())


def test_streams_that_are_apart_stay_so_and_gaps_are_marked(shared: Daemon, tr: Cli, tmp_path: Path):
    script = "echo err >&2; yes 0123456789 | head -c 400000"
    task_id = shared.submit("sh", "-c", script, outputMode="separate", maxOutputBytes=65_536)
    shared.wait(task_id)
    assert tr("export", task_id).exit_code == 0
    found = opened(tmp_path / f"{task_id}.tar.gz", task_id)
    assert found["output/1.stderr.log"] == b"err\n"
    assert b"bytes not kept" in found["output/1.stdout.log"]


def test_a_task_that_goes_on_is_told_as_it_is_now(shared: Daemon, tr: Cli, tmp_path: Path):
    task_id = shared.submit("sh", "-c", "echo begun; sleep 600")
    shared.wait_state(task_id, "running")
    shared.wait_output(task_id, b"begun")
    done = tr("export", task_id)
    assert done.exit_code == 0
    assert "no contact" not in done.stderr
    assert "its end: the task is running" in done.stderr
    found = opened(tmp_path / f"{task_id}.tar.gz", task_id)
    assert found["output/1.log"] == b"begun\n"
    assert json.loads(found["events.jsonl"].splitlines()[-1])["state"] == "running"
    assert shared.post(f"/v1/tasks/{task_id}/stop").status_code == 200


def test_what_the_token_does_not_open_is_missing_and_named(shared: Daemon, tr: Cli, tmp_path: Path):
    task_id = shared.submit("echo", "unseen words")
    shared.wait(task_id)
    done = tr("export", task_id, TASK_RUNNER_TOKEN=token(shared, "read"))
    assert done.exit_code == 0
    found = opened(tmp_path / f"{task_id}.tar.gz", task_id)
    assert "output/1.log" not in found
    readme = found["README.txt"].decode()
    for text in (readme, done.stderr):
        assert "output/1.log: " in text
        assert "logs" in text
        assert "status 403" in text


def test_settings_are_those_of_a_daemon_on_this_machine(shared: Daemon, tr: Cli, tmp_path: Path):
    task_id = shared.submit("true")
    shared.wait(task_id)
    done = tr("export", task_id)
    assert "settings.json" not in done.stderr
    found = opened(tmp_path / f"{task_id}.tar.gz", task_id)
    settings = {each["name"]: each for each in json.loads(found["settings.json"])}
    assert settings["state_dir"]["value"]


def test_to_standard_output(shared: Daemon, tmp_path: Path):
    task_id = shared.submit("echo", "hello")
    shared.wait(task_id)
    done = subprocess.run(
        [*TASK_RUNNER, "export", task_id, "-o", "-"], env={**shared.env, "PYTHONPATH": str(ROOT)}, cwd=tmp_path,
        capture_output=True, timeout=PATIENCE, check=False,
    )
    assert done.returncode == 0
    (tmp_path / "x").write_bytes(done.stdout)
    assert opened(tmp_path / "x", task_id)["output/1.log"] == b"hello\n"


def test_a_daemon_that_goes_away_leaves_no_file(shared: Daemon, tr: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    from task_runner.cli import evidence
    from task_runner.client import ConnectionFailed

    task_id = shared.submit("true")
    shared.wait(task_id)

    def gone(*_arguments: object, **_options: object) -> None:
        raise ConnectionFailed("it is gone")

    monkeypatch.setattr(evidence.Evidence, "_settings", gone)  # the last one that is asked for
    done = tr("export", task_id)
    assert (done.exit_code, done.stdout) == (6, "")
    assert os.listdir(tmp_path) == []


def test_no_such_task(tr: Cli, tmp_path: Path):
    done = tr("export", "no-such-task")
    assert done.exit_code == 3
    assert os.listdir(tmp_path) == []


def test_a_long_output_is_not_held_in_memory(shared: Daemon, tmp_path: Path):
    length = 100_000_000
    task_id = shared.submit("sh", "-c", f"head -c {length} /dev/zero")
    shared.wait(task_id)
    # more than the output takes is not to be had; without it the address space of the same verb fits
    limit = 130_000_000
    done = subprocess.run(
        [*TASK_RUNNER, "export", task_id], env={**shared.env, "PYTHONPATH": str(ROOT)}, cwd=tmp_path, text=True,
        capture_output=True, timeout=PATIENCE, check=False,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_AS, (limit, limit)),
    )
    assert done.returncode == 0, done.stderr
    with tarfile.open(tmp_path / f"{task_id}.tar.gz") as archive:
        assert archive.getmember(f"{task_id}/output/1.log").size == length
