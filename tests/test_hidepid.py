"""A daemon that is not root, where /proc shows only the processes that one may trace (`hidepid=2`, `ProtectProc=invisible`)."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from conftest import PATIENCE, ROOT, Daemon, wait_for

pytestmark = pytest.mark.needs("root", "unshare", "mount", "setpriv")
USER = 4001
#: a Python that everybody can run; the one that runs the tests may lie in somebody's home
PYTHON = "/usr/bin/python3"


class House:
    def __init__(self) -> None:
        self.path = Path(tempfile.mkdtemp(prefix="task-runner-hidepid-", dir="/tmp"))
        os.chown(self.path, USER, USER)
        self.path.chmod(0o755)
        # a program that may be run and not read: who runs it may not look into it, as for one that changes its user
        self.secret = self.path / "secret-sleep"
        shutil.copy("/bin/sleep", self.secret)
        self.secret.chmod(0o711)
        self.daemon = Daemon(self.path / "state")
        # an instance of its own: to remount the one that is there would change it for everybody
        mount = "mount -t proc -o hidepid=2 proc /proc"
        become = f"setpriv --reuid={USER} --regid={USER} --clear-groups"
        self.prefix = "unshare", "-m", "sh", "-c", f'{mount} && shift && exec {become} -- {PYTHON} "$@"', "sh"

    def start(self) -> Daemon:
        return self.daemon.start(prefix=self.prefix, PYTHONPATH=os.pathsep.join([str(ROOT), *filter(None, sys.path)]))


@pytest.fixture
def house() -> Iterator[House]:
    made = House()
    yield made
    made.daemon.close()
    shutil.rmtree(made.path, ignore_errors=True)


HIDDEN = "trap 'exit 7' TERM; {0} 600 & while :; do sleep 0.1; done"


def left(house: House) -> list[int]:
    """Processes of the program that may not be read, as root sees them."""
    found = []
    for name in filter(str.isdigit, os.listdir("/proc")):
        try:
            if os.readlink(f"/proc/{name}/exe") == str(house.secret):
                found.append(int(name))
        except OSError:
            pass
    return found


def use(daemon: Daemon, task_id: str) -> dict[str, Any]:
    (found,) = [each for each in daemon.http.get("/v1/node/tasks").json()["tasks"] if each["taskId"] == task_id]
    return dict(found)


def test_what_is_hidden_is_unknown_and_a_stop_reaches_it(house: House):
    daemon = house.start()
    plain = daemon.submit("sh", "-c", "sleep 600 & wait")
    hiding = daemon.submit("sh", "-c", f"exec 2>&-; ls /proc/1; {HIDDEN.format(house.secret)}")
    silent = daemon.submit(
        command=["sh", "-c", f"{house.secret} 600 & wait"], stall={"afterSeconds": 1, "then": "stop"}
    )
    for each in (plain, hiding, silent):
        daemon.wait_state(each, "running")
    wait_for(lambda: len(left(house)) == 2, "they are there")
    assert not daemon.output(hiding)  # nothing of root's is shown
    # live use: known of one, whose shell may be just starting its child, and not too little of the other
    known = wait_for(lambda: (found := use(daemon, plain))["processes"] == 2 and found, "both processes are counted")
    assert known["rssBytes"] > 0
    assert (use(daemon, hiding)["processes"], use(daemon, hiding)["rssBytes"], use(daemon, hiding)["cpuSeconds"]) == (None, None, None)

    # adopted by the next daemon, and not called stalled
    daemon.kill()
    house.start()
    for each in (plain, hiding, silent):
        assert (daemon.task(each)["state"], daemon.task(each)["stalled"]) == ("running", None)

    # a stop: the polite signal and the kill reach who is hidden
    daemon.post(f"/v1/tasks/{hiding}/stop")
    ended = daemon.wait(hiding)
    assert (ended["outcome"], ended["exitCode"], ended["receipt"]["survivors"]) == ("cancelled", 7, [])
    assert ended["receipt"]["signalledCount"] >= 2
    assert daemon.task(silent)["state"] == "running"  # that it is idle is not known
    daemon.post(f"/v1/tasks/{silent}/stop", {"signal": "SIGKILL"})
    assert daemon.wait(silent)["receipt"]["survivors"] == []
    assert left(house) == []
    daemon.post(f"/v1/tasks/{plain}/stop")
    assert daemon.wait(plain)["receipt"]["survivors"] == []
    assert "Traceback" not in daemon.log.read_text()


def test_who_is_seen_and_then_hidden_has_no_children_and_is_no_error(tmp_path: Path):
    """As one that becomes another user's while it is looked at. With `hidepid=1` its directory is there, and closed."""
    tmp_path.chmod(0o755)
    code = "import os; from task_runner.lib.process import descendants, unseen; print(descendants(os.getppid()), unseen(1))"
    mount = "mount -t proc -o hidepid=1 proc /proc"
    become = f"setpriv --reuid={USER} --regid={USER} --clear-groups"
    shell = f'{mount} && {become} -- {PYTHON} -c "$0"; true'
    done = subprocess.run(
        ["unshare", "-m", "sh", "-c", shell, code],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        cwd="/",
        capture_output=True,
        text=True,
        timeout=PATIENCE,
    )
    assert (done.stdout, done.stderr) == ("[] []\n", "")
