"""Files that pass from action to action through the working directory."""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import os
import subprocess
import sys
import tarfile
from pathlib import Path
from typing import Any

import pytest
from conftest import PATIENCE, ROOT, Daemon
from machinery import Site


def packed() -> bytes:
    made = io.BytesIO()
    with tarfile.open(fileobj=made, mode="w") as archive:
        info = tarfile.TarInfo("tool-1.0/bin/hello")
        content = b"#!/bin/sh\necho hello from $(basename $0)\n"
        info.size, info.mode = len(content), 0o755
        archive.addfile(info, io.BytesIO(content))
    return gzip.compress(made.getvalue())


ARCHIVE = packed()


def chain(site: Site, **download: Any) -> dict[str, Any]:
    url = site.on("/tool-1.0.tar.gz", lambda request: request.reply(200, ARCHIVE))
    return {
        "actions": [
            {"machine": "download", "parameters": {"url": url, **download}},
            {"machine": "extract", "parameters": {"path": "tool-1.0.tar.gz", "into": "tool", "stripComponents": 1}},
            {"machine": "process", "parameters": {"command": ["tool/bin/hello"]}},
        ]
    }


def told(output: str) -> list[str]:
    return [line.split(",")[0] for line in output.splitlines()]


EXPECTED = [f"tool-1.0.tar.gz: {len(ARCHIVE)} bytes", "tool-1.0.tar.gz: 2 entries", "hello from hello"]


@pytest.mark.parametrize("good", [True, False])
def test_download_extract_run_without_a_daemon(site: Site, tmp_path: Path, good: bool):
    sha256 = hashlib.sha256(ARCHIVE).hexdigest() if good else "0" * 64
    (tmp_path / "spec.json").write_text(json.dumps(chain(site, sha256=sha256)))
    done = subprocess.run(
        [sys.executable, "-m", "task_runner.lib.runner", "spec.json"],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=False,
    )
    assert done.returncode == (0 if good else 1), done.stdout + done.stderr
    if good:
        assert told(done.stdout) == EXPECTED
    else:
        assert "sha256" in done.stdout
        assert os.listdir(tmp_path / "work") == []


def test_download_extract_run(site: Site, daemon: Daemon):
    task = daemon.wait(daemon.submit(**chain(site)))
    output = daemon.output(task["taskId"]).decode()
    assert task["outcome"] == "succeeded", output
    assert told(output) == EXPECTED
    assert [action["exitCode"] for action in task["actions"]] == [0, 0, 0]


def test_a_download_that_fails_ends_the_task(site: Site, daemon: Daemon):
    task = daemon.wait(daemon.submit(**chain(site, sha256="0" * 64)))
    assert (task["outcome"], task["exitCode"], task["currentActionIdx"]) == ("failed", 1, 0)
    assert b"was wanted" in daemon.output(task["taskId"])
