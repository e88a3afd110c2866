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
from collections.abc import Callable
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


def test_files_are_there_before_the_first_action(site: Site, make_daemon: Callable[..., Daemon], tmp_path: Path):
    here = tmp_path / "here"
    here.mkdir()
    (here / "tool-1.0.tar.gz").write_bytes(ARCHIVE)
    daemon = make_daemon(host_files=json.dumps([str(here)])).start()
    url = site.on("/f", lambda request: request.reply(200, b"fetched\n"))
    files = [
        {"path": "run", "text": "#!/bin/sh\ncat d/f\n", "mode": "0755"},
        {"path": "d/f", "fetch": {"url": url}},
        {"path": "tool-1.0.tar.gz", "hostPath": f"{here}/tool-1.0.tar.gz"},
    ]
    actions = [{"machine": "process", "parameters": {"command": ["./run"]}}, *chain(site)["actions"][1:]]
    actions.append({"machine": "download", "parameters": {"url": f"file://{here}/tool-1.0.tar.gz", "path": "again"}})
    task = daemon.wait(daemon.submit(actions=actions, files=files))
    output = daemon.output(task["taskId"]).decode()
    assert task["outcome"] == "succeeded", task
    assert told(output) == ["fetched", *EXPECTED[1:], f"again: {len(ARCHIVE)} bytes"]


def test_a_file_that_cannot_be_placed_ends_the_task_before_any_action(site: Site, daemon: Daemon):
    task = daemon.wait(daemon.submit("true", files=[{"path": "f", "fetch": {"url": site.url("/missing?key=geheim")}}]))
    assert (task["outcome"], task["currentActionIdx"]) == ("failed", -1)
    assert "f: " in task["error"]
    assert "404 Not Found" in task["error"]
    assert "geheim" not in task["error"]


def test_a_download_that_fails_ends_the_task(site: Site, daemon: Daemon):
    task = daemon.wait(daemon.submit(**chain(site, sha256="0" * 64)))
    assert (task["outcome"], task["exitCode"], task["currentActionIdx"]) == ("failed", 1, 0)
    assert b"was wanted" in daemon.output(task["taskId"])


def test_the_daemons_proxy_is_for_what_fetches_and_not_for_commands(make_daemon: Callable[..., Daemon], site: Site):
    url = site.on("/through-a-proxy", lambda request: request.reply(200, b"x"))
    daemon = make_daemon().start(http_proxy="http://127.0.0.1:9", no_proxy="", NO_PROXY="")
    task = daemon.wait(daemon.submit(machine="download", parameters={"url": url}))
    assert (task["outcome"], "Connection refused" in daemon.output(task["taskId"]).decode()) == ("failed", True)
    assert b"proxy" not in daemon.output(daemon.wait(daemon.submit("env"))["taskId"]).lower()
