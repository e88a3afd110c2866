"""Containers through a real daemon: what a client asks for, what it gets, what it is refused, and what is left."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from conftest import Daemon, verb, wait_for
from engines import Server
from imageregistry import Registry
from images import BUSYBOX_IMAGE, busybox

from task_runner.engines.find import open_engine

pytestmark = [pytest.mark.needs("root", "podman", "runc"), pytest.mark.slow]


def containers(server: Server, daemon: Daemon) -> list[str]:
    """Ids of what the engine has of a daemon's."""
    engine = open_engine(None, server.sockets)
    try:
        return [each.id for each in engine.find({"task-runner.daemon": os.path.realpath(daemon.state_dir)})]
    finally:
        engine.close()


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What the server lets containers mount: `open` to be written to, `closed` only to be read, `link` out of it."""
    directory = tmp_path_factory.mktemp("place")
    for name in ("open", "closed", "elsewhere"):
        (directory / name).mkdir()
        (directory / name / "file").write_text(f"in {name}\n")
    (directory / "open/link").symlink_to(directory / "elsewhere")
    return directory


@pytest.fixture(scope="module")
def dock(podman_server: Server, place: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Daemon]:
    """A daemon with Podman; nothing is left there at the end of the tests."""
    directory = tmp_path_factory.mktemp("dock")
    (directory / "secrets").mkdir(mode=0o700)
    (directory / "secrets/db").write_text("sesame")
    (directory / "secrets/pull").write_text("open sesame")
    daemon = Daemon(
        directory / "state",
        engines=podman_server.sockets,
        container_networks=["none", "host"],
        container_mounts=[f"{place}/open", f"{place}/closed:ro"],
        container_devices=["/dev/nul*", "/dev/full"],
        secrets_dir=str(directory / "secrets"),
        task_users={"*": ["4321"]},
    )
    try:
        yield daemon.start()
        wait_for(lambda: not containers(podman_server, daemon), "no container is left")
        assert podman_server.command("volume", "ls", "--quiet") == ""
        assert str(daemon.state_dir) not in Path("/proc/self/mountinfo").read_text()
    finally:
        daemon.close()


def spec(*args: str, task: dict[str, Any] | None = None, **parameters: Any) -> dict[str, Any]:
    wanted = {"image": BUSYBOX_IMAGE, **({"args": list(args)} if args else {}), **parameters}
    return {"actions": [{"machine": "container", "parameters": wanted}], **(task or {})}


def run(daemon: Daemon, *args: str, task: dict[str, Any] | None = None, **parameters: Any) -> dict[str, Any]:
    return daemon.wait(daemon.submit(**spec(*args, task=task, **parameters)))


def refused(daemon: Daemon, **parameters: Any) -> dict[str, str]:
    """The faults by field."""
    answer = daemon.post("/v1/tasks", spec("true", **parameters))
    assert answer.status_code == 400, answer.text
    return {each["field"]: each["message"] for each in answer.json()["errors"]}


# -- what it gets


def test_what_lies_in_the_working_directory_is_shown_where_it_is_wanted(dock: Daemon) -> None:
    script = "cat /etc/my.conf /opt/deep/own; echo more >> /etc/my.conf && echo x > /opt/deep/own || echo read-only; ls /work"
    task = run(
        dock,
        "sh", "-c", script,
        workAt=None,
        workMounts=[
            {"path": "conf", "target": "/etc/my.conf"},
            {"path": "a/b", "target": "/opt/deep/own", "readOnly": True},
        ],
        task={"files": [{"path": "conf", "text": "of the task\n"}, {"path": "a/b", "text": "deep\n"}]},
    )  # fmt: skip
    output = dock.output(task["taskId"]).decode()
    assert output.startswith("of the task\ndeep\n")
    assert "read-only\n" in output
    assert "ls: /work: No such file" in output
    assert (dock.work(task["taskId"]) / "conf").read_text() == "of the task\nmore\n"


def test_a_link_in_the_working_directory_leads_no_container_out_of_it(dock: Daemon, place: Path) -> None:
    link = {"machine": "process", "parameters": {"command": ["ln", "-s", f"{place}/elsewhere", "link"]}}
    parameters = {"image": BUSYBOX_IMAGE, "args": ["cat", "/a/file"], "workMounts": [{"path": "link", "target": "/a"}]}
    task = dock.wait(dock.submit(actions=[link, {"machine": "container", "parameters": parameters}]))
    assert task["outcome"] == "failed"
    assert task["error"].endswith("mount link: it leads out of the working directory")
    parameters["workMounts"] = [{"path": "none", "target": "/a"}]
    task = dock.wait(dock.submit(actions=[{"machine": "container", "parameters": parameters}]))
    assert task["outcome"] == "failed"
    assert task["error"].endswith("mount none: No such file or directory")


def test_a_container_has_what_was_asked_for(dock: Daemon, place: Path) -> None:
    script = """
        echo "$GREETING $1"; pwd; cat input; cat /data/file; echo more >> /data/file; echo made > output
        touch /closed/x 2>/dev/null || echo read-only; ls /dev/full /dev/other; ls /sys/class/net; grep -c . /proc/net/route
        ulimit -n; cat "$DB_FILE"; echo; exit 7
    """
    task = run(
        dock,
        "sh", "world",
        command=["sh", "-c", script],
        env={"GREETING": "hello"},
        mounts=[
            {"source": f"{place}/open", "target": "/data"},
            {"source": f"{place}/closed", "target": "/closed", "readOnly": True},
        ],
        devices=["/dev/full", {"path": "/dev/full", "target": "/dev/other"}],
        network="none",
        limits={"openFiles": 77, "pids": 50, "memoryMb": 64},
        task={
            "files": [{"path": "input", "text": "brought in\n"}],
            "secrets": [{"name": "db", "fileEnv": "DB_FILE"}],
        },
    )  # fmt: skip
    output = dock.output(task["taskId"]).decode().splitlines()
    assert output == [
        "hello world", "/work", "brought in", "in open", "read-only", "/dev/full", "/dev/other", "lo", "1", "77", "sesame",
    ]  # fmt: skip
    assert (task["outcome"], task["exitCode"], task["signal"]) == ("failed", 7, None)
    assert (place / "open/file").read_text() == "in open\nmore\n"
    assert not (place / "closed/x").exists()
    assert dock.http.get(f"/v1/tasks/{task['taskId']}/files/output").text == "made\n"
    container = task["actions"][0]["container"]
    assert container["name"] == f"task-runner-{task['taskId']}-1.0.1"
    assert {(each["limit"], each["by"]) for each in container["limits"]} == {
        ("openFiles", "podman"), ("pids", "podman"), ("memoryMb", "podman"),
    }  # fmt: skip
    assert container["imageId"]


def test_the_two_streams_are_kept_apart_where_the_task_wants_it(dock: Daemon) -> None:
    task = run(dock, "sh", "-c", "echo out; echo err >&2", task={"outputMode": "separate"})
    streams = [dock.http.get(f"/v1/tasks/{task['taskId']}/output", params={"stream": each}).text for each in ("stdout", "stderr")]
    assert streams == ["out\n", "err\n"]


def test_output_goes_through_the_filters_of_the_task(dock: Daemon) -> None:
    task = run(
        dock, "sh", "-c", "echo say sesame; echo again sesame >&2",
        task={"secrets": [{"name": "db", "env": "DB"}], "maskSecrets": True},
    )  # fmt: skip
    assert sorted(dock.output(task["taskId"]).decode().splitlines()) == ["again ******", "say ******"]


def test_a_container_of_a_task_with_a_user_runs_as_that_user(dock: Daemon) -> None:
    task = run(dock, "sh", "-c", "id -u; id -g; touch mine", task={"user": "4321"})
    assert task["outcome"] == "succeeded", task["error"]
    assert dock.output(task["taskId"]) == b"4321\n4321\n"
    assert (dock.state_dir / "tasks" / task["taskId"] / "work/mine").stat().st_uid == 4321


def test_the_working_directory_can_be_elsewhere_or_nowhere(dock: Daemon) -> None:
    body = spec("sh", "-c", "pwd; ls -d /srv/job", workAt="/srv/job", workingDirectory="/tmp")
    body["actions"] += spec("sh", "-c", "[ -e /work ] || pwd", workAt=None)["actions"]
    task = dock.wait(dock.submit(**body))
    assert dock.output(task["taskId"]) == b"/tmp\n/srv/job\n/\n"


def test_an_image_is_fetched_with_the_secret_of_the_server(
    dock: Daemon, make_registry: Callable[..., Registry], podman_server: Server
) -> None:
    registry = make_registry(login=("me", "open sesame"))
    image = registry.add("app", "1", busybox(command=["echo", "fetched"]))
    denied = run(dock, image=image)
    assert (denied["outcome"], denied["exitCode"]) == ("failed", None)
    assert "unauthorized" in denied["actions"][0]["error"].lower()
    login = {"username": "me", "passwordSecret": "pull"}
    task = run(dock, image=image, registry=login)
    assert dock.output(task["taskId"]) == b"fetched\n", task
    # it is here now, and only "always" asks again
    asked = len(registry.requests)
    assert run(dock, image=image, pull="never")["outcome"] == "succeeded"
    assert run(dock, image=image)["outcome"] == "succeeded"
    assert len(registry.requests) == asked
    assert run(dock, image=image, pull="always", registry=login)["outcome"] == "succeeded"
    assert len(registry.requests) > asked
    podman_server.command("rmi", image)


def test_a_task_that_fetches_its_image_is_provisioning_and_can_be_stopped(
    dock: Daemon, make_registry: Callable[..., Registry]
) -> None:
    registry = make_registry()
    registry.rest.clear()
    image = registry.add("slow", "1", busybox())
    task_id = dock.submit(**spec("true", image=image))
    dock.wait_state(task_id, "provisioning")
    wait_for(lambda: dock.task(task_id)["progress"], "it tells how far it is")
    dock.post(f"/v1/tasks/{task_id}/stop")
    task = dock.wait(task_id)
    assert (task["outcome"], task["exitCode"]) == ("cancelled", None)


def test_pause_resume_and_a_stop_with_grace(dock: Daemon) -> None:
    task_id = dock.submit(
        **spec("sh", "-c", "trap 'echo bye; exit 5' TERM; i=0; while :; do echo $i; i=$((i+1)); sleep 0.02; done")
    )
    wait_for(lambda: dock.output(task_id), "it writes")
    dock.post(f"/v1/tasks/{task_id}/pause")
    dock.wait_state(task_id, "paused")
    dock.post(f"/v1/tasks/{task_id}/resume")
    dock.wait_state(task_id, "running")
    dock.post(f"/v1/tasks/{task_id}/stop")
    task = dock.wait(task_id)
    assert (task["outcome"], task["exitCode"]) == ("cancelled", 5)
    assert dock.output(task_id).endswith(b"\nbye\n")


def test_a_container_that_ignores_the_polite_signal_is_killed_after_the_grace(dock: Daemon) -> None:
    task_id = dock.submit(**spec("sh", "-c", "trap '' TERM; echo up; sleep 1000", task={"graceSeconds": 0.3}))
    wait_for(lambda: dock.output(task_id), "it writes")
    dock.post(f"/v1/tasks/{task_id}/stop")
    task = dock.wait(task_id)
    assert (task["outcome"], task["exitCode"]) == ("cancelled", 137)


def test_each_try_of_an_action_has_a_container_of_its_own(dock: Daemon) -> None:
    body = spec("sh", "-c", "echo $TASK_RUNNER_CONTAINER; [ -e second ] || { touch second; exit 1; }")
    body["actions"][0]["retry"] = {"count": 1, "delaySeconds": 0}
    task = dock.wait(dock.submit(**body))
    assert task["outcome"] == "succeeded"
    name = f"task-runner-{task['taskId']}-1.0"
    assert dock.output(task["taskId"]).decode().split() == [f"{name}.1", f"{name}.2"]


def test_what_the_engine_refuses_is_the_tasks_error(dock: Daemon) -> None:
    task = run(dock, command=["/no/such/program"])
    assert (task["outcome"], task["exitCode"]) == ("failed", None)
    assert "/no/such/program" in task["actions"][0]["error"]


@pytest.mark.parametrize("other", ["docker", "cri"])
def test_other_engines_run_the_same_task(
    request: pytest.FixtureRequest, make_daemon: Callable[..., Daemon], other: str
) -> None:
    server: Server = request.getfixturevalue(f"{other}_server")
    daemon = make_daemon(engines=server.sockets, container_networks=["host", "none"]).start()
    task = run(daemon, "sh", "-c", "cat input; touch made; exit 9", task={"files": [{"path": "input", "text": "in\n"}]})
    assert (task["outcome"], task["exitCode"]) == ("failed", 9), task["error"]
    assert daemon.output(task["taskId"]) == b"in\n"
    assert (daemon.state_dir / "tasks" / task["taskId"] / "work/made").exists()
    assert task["actions"][0]["container"]["engine"] == other
    assert containers(server, daemon) == []


def test_the_command_line_runs_a_container(dock: Daemon, place: Path, tmp_path: Path) -> None:
    done = verb(
        dock, "run", "--image", BUSYBOX_IMAGE, "--mount", f"{place}/open:/data:ro", "-e", "WHO=me", "--network", "none",
        "--", "sh", "-c", "echo $WHO; touch /data/x 2>/dev/null || exit 4", cwd=tmp_path,
    )  # fmt: skip
    assert (done.returncode, done.stdout) == (4, "me\n"), done.stderr
    wrong = verb(dock, "run", "--pull", "never", "true")
    assert "--pull needs --image" in wrong.stderr


# -- what it is refused


@pytest.mark.parametrize(
    ("parameters", "field", "message"),
    [
        ({"mounts": [{"source": "/etc"}]}, "mounts.0.source", "container_mounts"),
        ({"mounts": [{"source": "PLACE/open/../elsewhere"}]}, "mounts.0.source", "container_mounts"),
        ({"mounts": [{"source": "PLACE/openly"}]}, "mounts.0.source", "container_mounts"),
        ({"mounts": [{"source": "PLACE/closed"}]}, "mounts.0.source", '"readOnly": true'),
        ({"mounts": [{"source": "PLACE/open", "target": "/work"}]}, "mounts.0", "/work is the place of workAt"),
        ({"mounts": [{"source": "PLACE/open", "target": "/run/task-runner/x"}]}, "mounts.0", "the place of"),
        ({"devices": ["/dev/sda"]}, "devices.0", "container_devices"),
        ({"devices": ["/dev/nul/../sda"]}, "devices.0", "container_devices"),
        ({"devices": [{"path": "/dev/sda", "target": "/dev/null"}]}, "devices.0", "container_devices"),
        ({"workMounts": [{"path": "../a", "target": "/a"}]}, "workMounts.0.path", ""),
        ({"workMounts": [{"path": "a", "target": "/work"}]}, "workMounts.0", "/work is the place of workAt"),
        ({"workMounts": [{"path": "a", "target": "/a"}, {"path": "b", "target": "/a/"}]}, "workMounts.1", "/a is the place of"),
        ({"network": "bridge"}, "network", "none, host"),
        ({"engine": "docker"}, "engine", "does not name docker"),
        ({"registry": {"username": "me", "passwordSecret": "nope"}}, "registry.passwordSecret", "no secret 'nope'"),
        ({"registry": {"username": "me", "passwordSecret": "pull"}, "pull": "never"}, "registry", "of no use"),
        ({"command": [""]}, "command.0", "no name"),
        ({"imagine": 1}, "imagine", "image"),
    ],
)
def test_what_the_server_does_not_allow_is_refused(
    dock: Daemon, place: Path, parameters: dict[str, Any], field: str, message: str
) -> None:
    parameters = json.loads(json.dumps(parameters).replace("PLACE", str(place)))
    faults = refused(dock, **parameters)
    (where,) = faults
    assert where == f"actions.0.parameters.{field}"
    assert message in faults[where]


def test_a_link_that_leads_out_of_what_is_allowed_is_seen_at_the_start(dock: Daemon, place: Path) -> None:
    task = run(dock, "cat", "/m/file", mounts=[{"source": f"{place}/open/link", "target": "/m"}])
    assert task["outcome"] == "failed"
    assert "container_mounts" in task["actions"][0]["error"]
    assert dock.output(task["taskId"]) == b""


def test_the_state_directory_is_never_mounted(
    make_daemon: Callable[..., Daemon], podman_server: Server, tmp_path: Path
) -> None:
    daemon = make_daemon(engines=podman_server.sockets, container_networks=["none"], container_mounts=["/"]).start()
    for source in (str(daemon.state_dir), f"{daemon.state_dir}/tasks", str(tmp_path), "/"):
        faults = refused(daemon, mounts=[{"source": source, "target": "/m"}])
        assert "the state directory" in faults["actions.0.parameters.mounts.0.source"]


def test_without_an_engine_a_container_is_refused_and_all_else_works(
    make_daemon: Callable[..., Daemon], tmp_path: Path
) -> None:
    daemon = make_daemon(engines={"podman": str(tmp_path / "none.sock")}).start()
    faults = refused(daemon)
    assert "systemctl enable --now podman.socket" in faults["actions.0.machine"]
    (engine,) = daemon.http.get("/v1/node").json()["engines"]
    assert (engine["name"], engine["version"]) == ("podman", None)
    assert "does not answer" in engine["problem"]
    assert daemon.wait(daemon.submit("true"))["outcome"] == "succeeded"


def test_the_node_tells_which_engines_there_are(dock: Daemon) -> None:
    def told() -> dict[str, Any]:
        (engine,) = dock.http.get("/v1/node").json()["engines"]
        return dict(engine)

    assert (told()["name"], told()["problem"]) == ("podman", None)
    wait_for(lambda: (told()["version"] or "?")[0].isdigit(), "the engine, which may be busy, says its version")
