"""`pass_environment`: what commands get of the daemon's environment, and what they never do."""

from __future__ import annotations

import json
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from conftest import Daemon
from engines import PodmanServer

from task_runner.errors import Refused
from task_runner.service.inherited import chosen
from task_runner.service.settings import load

#: what the daemon has; the values are looked for in everything that it says or writes
GIVEN = {
    "CONF_A": "passed-1",
    "CONF_ODD": "b\N{SNOWMAN}\n'\"",
    "CONF_BYTES": "\udcff",
    "OTHER": "not-passed",
    "TASK_RUNNER_SECRET_DB": "s3cret-of-the-server",
    "NOTIFY_SOCKET": "",
    "LC_TIME": "C",
}
PRINT = ["python3", "-c", "import json, os; print(json.dumps(dict(os.environ)))"]


@pytest.fixture(scope="module")
def everything() -> Iterator[Daemon]:
    """A daemon that passes all that it may."""
    base = Path(tempfile.mkdtemp(prefix="tr-pass-"))
    base.chmod(0o755)  # pytest's own directories let no other user through
    daemon = Daemon(base / "state", pass_environment=["*"], task_users={"*": ["*"]})
    try:
        yield daemon.start(**GIVEN)
    finally:
        daemon.close()
        shutil.rmtree(base)


def environment(daemon: Daemon, **more: object) -> dict[str, str]:
    """What a command finds."""
    task_id = daemon.submit(*PRINT, **more)
    assert daemon.wait(task_id)["outcome"] == "succeeded", daemon.output(task_id)
    return dict(json.loads(daemon.output(task_id)))


def test_names_and_patterns_choose() -> None:
    assert chosen(["CONF_*"], GIVEN).keys() == {"CONF_A", "CONF_ODD"}
    assert chosen(["CONF_A", "NONE"], GIVEN) == {"CONF_A": "passed-1"}
    assert chosen(["conf_a"], GIVEN) == {}
    assert chosen([], GIVEN) == {}


def test_its_own_the_basic_ones_and_those_of_systemd_are_never_chosen() -> None:
    never = [
        "TASK_RUNNER_TOKEN", "task_runner_secret_x", "Task_Runner_State_Dir", "TASK_RUNNER_", "PATH", "HOME", "USER",
        "LOGNAME", "SHELL", "LANG", "LANGUAGE", "LC_ALL", "TZ", "TMPDIR", "NOTIFY_SOCKET", "LISTEN_FDS", "LISTEN_PID",
        "LISTEN_FDNAMES", "WATCHDOG_USEC", "WATCHDOG_PID", "MAINPID",
    ]  # fmt: skip
    assert chosen(["*", *never], dict.fromkeys(never, "x")) == {}


@pytest.mark.parametrize("entry", ["", "A=b", "A\0"])
def test_a_pattern_that_can_name_nothing_is_refused(entry: str) -> None:
    with pytest.raises(Refused, match="pass_environment"):
        load(pass_environment=[entry])


def test_commands_find_them_below_what_their_spec_says(everything: Daemon) -> None:
    found = environment(everything)
    assert {name: found.get(name) for name in ("CONF_A", "CONF_ODD", "OTHER")} == {
        name: GIVEN[name] for name in ("CONF_A", "CONF_ODD", "OTHER")
    }
    assert environment(everything, env={"CONF_A": "mine"})["CONF_A"] == "mine"


def test_one_that_is_no_text_is_left_out_and_the_log_says_so(everything: Daemon) -> None:
    assert "CONF_BYTES" not in environment(everything)
    assert "pass_environment: 'CONF_BYTES' is not UTF-8" in everything.log.read_text()


def test_a_secret_never_passes_by_any_pattern(everything: Daemon) -> None:
    found = environment(everything)
    assert not any("s3cret" in value or everything.token in value for value in found.values())
    assert {name for name in found if name.startswith("TASK_RUNNER_")} == {
        "TASK_RUNNER_TASK_ID", "TASK_RUNNER_ATTEMPT", "TASK_RUNNER_ACTION",
    }  # fmt: skip
    assert "NOTIFY_SOCKET" not in found


def test_they_are_in_no_file_and_in_no_answer(everything: Daemon) -> None:
    task_id = everything.submit("true")
    everything.wait(task_id)
    for top, _directories, files in os.walk(everything.state_dir):
        for name in files:
            if top.endswith(f"/{task_id}") or name.startswith("tasks.db"):
                with open(f"{top}/{name}", "rb") as file:
                    assert b"not-passed" not in file.read(), name
    for path in (f"/v1/tasks/{task_id}", "/v1/node", f"/v1/tasks/{task_id}/explain"):
        assert "not-passed" not in everything.http.get(path).text


@pytest.mark.needs("root")
def test_another_user_gets_them_with_its_own_basics(everything: Daemon) -> None:
    task_id = everything.submit(shell="echo $CONF_A $HOME $USER ${TMPDIR-none}", user="games")
    everything.wait(task_id)
    assert everything.output(task_id) == b"passed-1 /usr/games games none\n"


def test_without_the_setting_nothing_is_passed(make_daemon: Callable[..., Daemon]) -> None:
    found = environment(make_daemon().start(**GIVEN))
    assert not {"CONF_A", "OTHER", "CONF_ODD"} & set(found)


@pytest.mark.needs("root", "podman")
def test_a_container_does_not_get_them(make_daemon: Callable[..., Daemon], podman_server: PodmanServer) -> None:
    daemon = make_daemon(pass_environment=["*"], engines=json.dumps(podman_server.sockets)).start(**GIVEN)
    parameters = {"image": "localhost/busybox:1", "command": ["env"]}
    task_id = daemon.submit(machine="container", parameters=parameters)
    assert daemon.wait(task_id)["outcome"] == "succeeded"
    found = daemon.output(task_id)
    assert f"TASK_RUNNER_TASK_ID={task_id}".encode() in found
    assert b"CONF_A" not in found
    assert b"passed" not in found
