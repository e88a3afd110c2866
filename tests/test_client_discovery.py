"""Where a client looks for the daemon, and whom it gives the token."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from task_runner.client import discovery
from task_runner.client.discovery import DEFAULT_URL, find, state_directory
from task_runner.errors import InvalidRequest


@pytest.fixture
def state(tmp_path: Path) -> Path:
    directory = tmp_path / "state"
    directory.mkdir()
    (directory / "token").write_text("local-token\n")
    (directory / "address.json").write_text(json.dumps({"url": "http://127.0.0.1:4711", "pid": 1}))
    return directory


def test_the_state_directory_tells(state: Path):
    found = find(env={"TASK_RUNNER_STATE_DIR": str(state)})
    assert (found.url, found.token, found.pid) == ("http://127.0.0.1:4711", "local-token", 1)
    assert "local-token" not in repr(found)


def test_the_environment_wins(state: Path):
    env = {
        "TASK_RUNNER_STATE_DIR": str(state),
        "TASK_RUNNER_URL": "https://far.example",
        "TASK_RUNNER_TOKEN": "far-token",
    }
    found = find(env=env)
    assert (found.url, found.token, found.pid) == ("https://far.example", "far-token", None)
    assert find("unix:///run/x", env=env).url == "unix:///run/x"


@pytest.mark.parametrize("url", ["http://far.example", "http://10.0.0.1:8000", "http://127.0.0.1.example"])
def test_a_token_of_this_machine_goes_to_no_other(state: Path, url: str):
    found = find(url, env={"TASK_RUNNER_STATE_DIR": str(state)})
    assert found.token is None
    assert "TASK_RUNNER_TOKEN" in str(found.hint)


@pytest.mark.parametrize("url", ["http://localhost:1", "http://[::1]:1", "unix:///run/x", "http://127.1.2.3"])
def test_an_address_of_this_machine_gets_it(state: Path, url: str):
    assert find(url, env={"TASK_RUNNER_STATE_DIR": str(state)}).token == "local-token"


@pytest.mark.parametrize("url", ["ftp://x", "127.0.0.1:8000", "unix://run/x", "unix:x", "http://", "http://h:x", ""])
def test_what_is_no_address_is_refused(url: str):
    with pytest.raises(InvalidRequest):
        discovery.split(url)


@pytest.mark.parametrize("content", ["", "{}", "[]", '{"url": 3}', '{"url": "ftp://x"}', "\udcff"])
def test_a_damaged_address_is_as_good_as_none(state: Path, content: str):
    (state / "address.json").write_bytes(content.encode(errors="surrogateescape"))
    assert find(env={"TASK_RUNNER_STATE_DIR": str(state)}).url == DEFAULT_URL


def test_no_token_is_explained(state: Path):
    (state / "token").unlink()
    found = find(env={"TASK_RUNNER_STATE_DIR": str(state)})
    assert found.token is None
    assert str(state) in str(found.hint)


def test_which_state_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    system = tmp_path / "system"
    monkeypatch.setattr(discovery, "SYSTEM_STATE_DIR", str(system))
    env = {"XDG_STATE_HOME": str(tmp_path / "xdg")}
    own = tmp_path / "xdg" / "task-runner"
    assert state_directory(env) == str(own)
    system.mkdir()
    assert state_directory(env) == str(system)
    own.mkdir(parents=True)
    assert state_directory(env) == str(own)
    (system / "token").touch()
    assert state_directory(env) == str(system)
    (own / "address.json").touch()
    assert state_directory(env) == str(own)
    assert state_directory({**env, "STATE_DIRECTORY": "/a:/b"}) == "/a"
    assert state_directory({**env, "STATE_DIRECTORY": "/a", "TASK_RUNNER_STATE_DIR": "/c"}) == "/c"


def test_root_looks_where_its_daemon_keeps_its_state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    system, home = tmp_path / "system", tmp_path / "home"
    monkeypatch.setattr(discovery, "SYSTEM_STATE_DIR", str(system))
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    monkeypatch.setenv("HOME", str(home))
    for directory in (system, home / ".local/state/task-runner"):
        directory.mkdir(parents=True)
        (directory / "address.json").touch()
    assert state_directory({}) == str(system)
