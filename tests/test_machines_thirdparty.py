"""Machines that other packages bring, by the entry point group task_runner.machines."""

from __future__ import annotations

import os
import shutil
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from conftest import Daemon, wait_for

EXAMPLE = Path(__file__).parent / "example_machine"
BROKEN = {
    "crash": "import os, signal\ndef check(p): pass\ndef run(p, c): os.kill(os.getpid(), signal.SIGSEGV)\n",
    "fails": "def check(p): pass\ndef run(p, c): raise OSError('run failed')\n",
    "exits": "import sys\ndef check(p): pass\ndef run(p, c): sys.exit(9)\n",
    "unimportable": "import no_such_module_anywhere\n",
    "unfinished": "",
}


def install(package: Path, site: Path) -> None:
    """What an installer does with a package of plain modules: copy them, and write down its entry points."""
    described = tomllib.loads((package / "pyproject.toml").read_text())
    project = described["project"]
    for module in described["tool"]["setuptools"]["py-modules"]:
        shutil.copy(package / f"{module}.py", site)
    info = site / f"{project['name'].replace('-', '_')}-{project['version']}.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {project['name']}\nVersion: {project['version']}\n")
    groups = project["entry-points"].items()
    lines = [
        f"[{group}]\n" + "".join(f"{name} = {value}\n" for name, value in found.items()) for group, found in groups
    ]
    (info / "entry_points.txt").write_text("\n".join(lines))


def write_package(directory: Path, name: str, source: str) -> Path:
    directory.mkdir()
    (directory / f"machine_{name}.py").write_text(source)
    (directory / "pyproject.toml").write_text(
        f'[project]\nname = "machine-{name}"\nversion = "1"\n[project.entry-points."task_runner.machines"]\n'
        f'{name} = "machine_{name}"\n[tool.setuptools]\npy-modules = ["machine_{name}"]\n'
    )
    return directory


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Daemon]:
    """A daemon beside which the example and some broken machines are installed."""
    directory = tmp_path_factory.mktemp("thirdparty")
    site = directory / "site"
    site.mkdir()
    install(EXAMPLE, site)
    for name, source in BROKEN.items():
        install(write_package(directory / name, name, source), site)
    daemon = Daemon(directory / "state")
    try:
        yield daemon.start(PYTHONPATH=os.pathsep.join(filter(None, [str(site), os.environ.get("PYTHONPATH")])))
    finally:
        daemon.close()


def refused(daemon: Daemon, body: dict[str, Any]) -> dict[str, str]:
    response = daemon.post("/v1/tasks", body)
    assert response.status_code == 400, response.text
    return {fault["field"]: fault["message"] for fault in response.json()["errors"]}


def test_a_machine_of_another_package_carries_an_action_out(shared: Daemon):
    task = shared.wait(shared.submit(machine="countdown", parameters={"from": 3, "code": 4}))
    assert (task["outcome"], task["exitCode"]) == ("failed", 4)
    assert shared.output(task["taskId"]).decode() == f"3\n2\n1\n{task['taskId']}: lift-off\n"


def test_it_stands_among_other_actions(shared: Daemon):
    actions = [{"machine": "echo", "parameters": "echo ready"}, {"machine": "countdown", "parameters": {"from": 1}}]
    task = shared.wait(shared.submit(actions=actions))
    assert [action["machine"] for action in task["actions"]] == ["echo", "countdown"]
    assert task["outcome"] == "succeeded"
    assert shared.output(task["taskId"]).startswith(b"ready\n1\n")


def test_it_is_stopped_like_any_other(shared: Daemon):
    task_id = shared.submit(machine="countdown", parameters={"from": 2, "pause": 1000})
    wait_for(lambda: shared.output(task_id) == b"2\n", "it counts")
    shared.post(f"/v1/tasks/{task_id}/stop")
    task = shared.wait(task_id)
    assert (task["outcome"], task["signal"]) == ("cancelled", "SIGTERM")


def test_its_check_names_the_field_at_fault(shared: Daemon):
    assert set(refused(shared, {"machine": "countdown", "parameters": {"from": 101}})) == {"parameters.from"}
    assert set(refused(shared, {"machine": "countdown"})) == {"parameters"}
    long = {"actions": [{"machine": "countdown", "parameters": {"from": "x"}}]}
    assert set(refused(shared, long)) == {"actions.0.parameters.from"}


def test_an_error_in_its_check_refuses_the_task_and_harms_nobody(shared: Daemon):
    said = refused(shared, {"machine": "countdown", "parameters": {}})
    assert "KeyError" in said["parameters"]
    assert shared.http.get("/ready").status_code == 200


@pytest.mark.parametrize("name", ["unimportable", "unfinished"])
def test_a_machine_that_cannot_be_loaded_is_refused(shared: Daemon, name: str):
    assert name in refused(shared, {"machine": name})["parameters"]
    assert shared.http.get("/ready").status_code == 200


@pytest.mark.parametrize(
    ("name", "code", "number"), [("crash", None, "SIGSEGV"), ("fails", 1, None), ("exits", 9, None)]
)
def test_a_machine_that_breaks_fails_its_task_alone(shared: Daemon, name: str, code: int | None, number: str | None):
    task = shared.wait(shared.submit(machine=name))
    assert (task["state"], task["outcome"], task["exitCode"], task["signal"]) == ("exited", "failed", code, number)
    if name == "fails":
        assert b"OSError: run failed" in shared.output(task["taskId"])
    assert shared.wait(shared.submit("true"))["outcome"] == "succeeded"


def test_an_unknown_machine_is_refused_with_the_names_of_the_others(shared: Daemon):
    said = refused(shared, {"machine": "countup"})["machine"]
    for name in ("process", "echo", "countdown"):
        assert name in said
