"""What a runner loads: the standard library alone, so that a running task stays cheap."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest
from conftest import PATIENCE, ROOT

LOADED = "import sys, {module}; print(*sys.modules)"


@pytest.mark.parametrize("module", ["task_runner.lib.launcher", "task_runner.lib.runner", "task_runner.lib.foreground"])
def test_runner_and_launcher_load_the_standard_library_alone(module: str) -> None:
    shown = subprocess.run(
        [sys.executable, "-S", "-c", LOADED.format(module=module)],  # -S: what hooks of this venv load is not ours
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=PATIENCE,
    )
    assert shown.returncode == 0, shown.stderr
    loaded = {name.partition(".")[0] for name in shown.stdout.split()} - {"task_runner", "__main__"}
    assert loaded <= sys.stdlib_module_names
    assert not loaded & {"asyncio", "multiprocessing", "concurrent", "sqlite3", "ssl"}
