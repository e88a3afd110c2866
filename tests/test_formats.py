"""Old runners work with a new daemon (promise 11): every released format is frozen in tests/data and is read.

The files hold fields that no version has had yet, so that a newer runner's files are read too.
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from task_runner.errors import Damaged
from task_runner.lib import lock, statusfile
from task_runner.lib.taskdir import AttemptDirectory
from task_runner.model.codec import from_json, to_json
from task_runner.model.spec import Spec
from task_runner.model.state import Outcome, State
from task_runner.model.status import FORMAT, Status

DATA = Path(__file__).parent / "data"
#: of every format that was released, and of every set of fields that a release added; the newest last
FORMATS = ["format-1", "format-1-steps", "format-1-walls", "format-1-stages"]
TASK = "0123456789abcdef"


def directory(path: Path, frozen: str, status: str) -> AttemptDirectory:
    task = path / TASK
    task.mkdir(parents=True)
    shutil.copy(DATA / frozen / "spec.json", task)
    shutil.copy(DATA / frozen / "lock", task)
    shutil.copy(DATA / frozen / status, task / "status.json")
    for name in ("output.log", "stdout.log"):
        (task / name).write_bytes(b"hi\n")
    return AttemptDirectory(str(task), 1)


@pytest.mark.parametrize("frozen", FORMATS)
def test_a_frozen_status_is_read(tmp_path, frozen):
    status = statusfile.read(directory(tmp_path, frozen, "exited.json"))
    assert status is not None
    assert (status.state, status.outcome, status.exit_code) == (State.EXITED, Outcome.FAILED, 3)
    assert status.receipt is not None and status.receipt.signalled[0].command == "sleep"
    assert status.actions[0].process is not None
    assert status.gpus == ([] if frozen == "format-1" else [1])


@pytest.mark.parametrize("frozen", FORMATS)
def test_a_frozen_lock_is_read_and_its_runner_is_dead(tmp_path, frozen):
    probe = lock.probe(directory(tmp_path, frozen, "running.json"))
    assert (probe.claimed, probe.held, probe.void, probe.damage) == (True, False, False, None)
    assert probe.runner is not None and probe.runner.pid == 4194304
    assert probe.heartbeat is not None and probe.heartbeat.monotonic == 1827.644913


@pytest.mark.parametrize("frozen", FORMATS)
def test_a_frozen_spec_is_read(frozen):
    spec = from_json(Spec, json.loads((DATA / frozen / "spec.json").read_bytes()))
    assert spec.name == "frozen" and spec.tags == {"release": "0.1"}


@pytest.mark.parametrize("frozen", FORMATS)
@pytest.mark.parametrize(("status", "state", "outcome"), [("exited.json", "exited", "failed"), ("running.json", "lost", "lost")])
def test_a_new_daemon_takes_up_what_an_old_one_left(make_daemon, tmp_path, frozen, status, state, outcome):
    daemon = make_daemon(tmp_path / "state")
    daemon.state.create()
    directory(Path(daemon.state.tasks.path), frozen, status)
    (tmp_path / "state" / "tasks.db").write_bytes(b"not a database" * 100)  # so that all is taken from the files
    daemon.start()
    task = daemon.wait(TASK)
    assert (task["state"], task["outcome"]) == (state, outcome)
    assert daemon.output(TASK) == b"hi\n"
    if status == "running.json":
        assert "machine was restarted" in task["error"]


@pytest.mark.parametrize("version", [0, FORMAT + 1, "1", None, 1.0])
def test_another_format_is_refused_and_named(tmp_path, version):
    place = directory(tmp_path, FORMATS[-1], "exited.json")
    data = json.loads(Path(place.status).read_bytes())
    Path(place.status).write_text(json.dumps({**data, "format": version}))
    with pytest.raises(Damaged, match="format"):
        statusfile.read(place)


def test_what_this_version_writes_is_what_is_frozen():
    frozen = json.loads((DATA / FORMATS[-1] / "exited.json").read_bytes())
    frozen.pop("fromALaterVersion")
    frozen["actions"][0].pop("later")
    frozen["receipt"]["signalled"][0].pop("later")
    assert to_json(from_json(Status, frozen)) == frozen
