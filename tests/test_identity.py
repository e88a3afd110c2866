"""A pid is not an identity (promise 4): whoever gets a dead runner's pid is neither signalled nor believed alive."""

from __future__ import annotations

import subprocess
import sys

import pytest
from conftest import ROOT


@pytest.mark.needs("root", "unshare")
@pytest.mark.parametrize("case", ["processes", "environment", "held_by_another", "daemon"])
def test_a_pid_that_was_used_again(tmp_path, case):
    # the pids, and everything that has one, end with the namespace
    command = ["unshare", "--pid", "--fork", "--mount-proc", "--kill-child", sys.executable]
    script = ROOT / "tests/tools/pid_reuse.py"
    ended = subprocess.run(
        [*command, str(script), case, str(tmp_path / "state")],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        timeout=240,
        cwd=ROOT,
        check=False,
    )
    assert (ended.returncode, ended.stdout.decode().splitlines()[-1:]) == (0, ["fine"]), ended.stdout.decode()
