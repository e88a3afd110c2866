"""doc/examples/game-servers, used as its README says: builds fetched over HTTP, put into place, run, updated, stopped."""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import os
import shutil
import socket
import sys
import tarfile
import threading
import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from conftest import PATIENCE, ROOT, Daemon
from i3dclient import TASK, I3d
from machinery import Handler, Site

from task_runner.service.settings import Settings

EXAMPLE = ROOT / "doc/examples/game-servers"
INSTANCE = "/v3/applicationInstance"


class Game:
    """The example, set up in a directory of its own; and the site with its builds."""

    def __init__(self, make_daemon: Callable[..., Daemon], site: Site, home: Path) -> None:
        self._site = site
        self._home = home
        shutil.copytree(EXAMPLE / "templates", home / "templates")
        shutil.copy(EXAMPLE / "instance.py", home)
        (home / "secrets").mkdir(mode=0o700)
        self.daemon = make_daemon(
            dialects=["i3d"], templates_dir=str(home / "templates"), secrets_dir=str(home / "secrets")
        )
        os.symlink(self.daemon.state.token, home / "secrets/task-runner-token")
        python = home / "python"
        python.write_text(f'#!/bin/sh\nPYTHONPATH={ROOT} exec {sys.executable} "$@"\n')
        python.chmod(0o755)
        for template in (home / "templates").iterdir():
            text = template.read_text()
            for theirs, ours in (
                ("/opt/task-runner/bin/python", str(python)),
                ("http://127.0.0.1:8000", self.daemon.url),
                ("http://builds.example", site.url("")),
                ("/srv/game", str(home)),
            ):
                text = text.replace(theirs, ours)
            template.write_text(text)
        self.daemon.start()

    def build(self, version: str, *, spoilt: bool = False, gate: threading.Event | None = None) -> str:
        """Put a build on the site; returns its id. ``gate``: it is sent when this is set."""
        made = io.BytesIO()
        with tarfile.open(fileobj=made, mode="w") as archive:
            archive.add(EXAMPLE / "build/server", "./server")
            content = version.encode() + b"\n"
            info = tarfile.TarInfo("./VERSION")
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
        archive_bytes = gzip.compress(made.getvalue())
        build = hashlib.sha256(archive_bytes).hexdigest()
        sent = archive_bytes + b"x" if spoilt else archive_bytes

        def send(request: Handler) -> None:
            if gate is not None:
                gate.wait(PATIENCE)
            request.reply(200, sent)

        self._site.on(f"/{build}.tar.gz", send)
        return build

    def ask(self, instance: int) -> dict[str, Any] | None:
        """What the server of an instance says to a player; None where there is none."""
        port = self._home / "instances" / str(instance) / "port"
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as player:
            player.settimeout(30)
            player.connect(("127.0.0.1", json.loads(port.read_text())))
            try:
                player.send(b"info")
                return dict(json.loads(player.recv(1000)))
            except ConnectionRefusedError:
                return None

    def servers(self, instance: int) -> list[dict[str, Any]]:
        return list(self.daemon.http.get("/v1/tasks", params={"entity": f"{instance}/server"}).json())


@pytest.fixture
def game(make_daemon: Callable[..., Daemon], site: Site, tmp_path: Path) -> Game:
    home = tmp_path / "game"
    home.mkdir()
    return Game(make_daemon, site, home)


def saying(version: str, instance: int) -> dict[str, Any]:
    return {"instance": str(instance), "version": version, "players": 0}


@pytest.mark.slow
def test_a_server_is_deployed_updated_restarted_and_stopped(game: Game):
    i3d, servers = I3d(game.daemon), game.servers

    def ended(task: dict[str, Any]) -> tuple[int, str]:
        over = i3d.wait(task["id"])
        return over["resultCode"], over["resultText"]

    def deploy(build: str) -> dict[str, Any]:
        params = [{"paramName": "applicationBuildId", "paramValue": build}, {"paramName": "timeout", "paramValue": "60"}]
        return i3d.task(i3d.only(i3d.create("deploy", 77, taskActionParam=params)))

    # before there is anything to start
    nothing = "Start instance: exit code 1: nothing has been deployed to instance 77"
    assert ended(i3d.one("POST", f"{INSTANCE}/77/start")) == (126, nothing)
    first = i3d.one("POST", f"{INSTANCE}/77/deploy", {"applicationBuildId": game.build("1.0")})
    assert ended(first) == (127, "Done")
    assert game.ask(77) == saying("1.0", 77)

    # a build that is not what its id says: the server stays as it is
    code, text = ended(deploy(game.build("1.1", spoilt=True)))
    assert code == 126
    assert text.startswith("Download software build: exit code 1: download: ")
    assert "sha256" in text
    assert game.ask(77) == saying("1.0", 77)

    # a new version, under a daemon that is killed meanwhile
    killed = threading.Event()
    second = deploy(game.build("1.1", gate=killed))
    i3d.wait(second["id"], 1)
    game.daemon.kill()
    killed.set()
    game.daemon.restart()
    assert ended(second) == (127, "Done")
    assert game.ask(77) == saying("1.1", 77)

    assert ended(i3d.one("POST", f"{INSTANCE}/77/start")) == (127, "Done")  # it runs already
    assert len(servers(77)) == 2
    assert ended(i3d.one("POST", f"{INSTANCE}/77/restart", {"methodId": 1, "timeout": 5})) == (127, "Done")
    assert game.ask(77) == saying("1.1", 77)
    assert ended(i3d.one("POST", f"{INSTANCE}/77/stop", {})) == (127, "Done")
    assert game.ask(77) is None
    assert ended(i3d.one("POST", f"{INSTANCE}/77/stop", {})) == (127, "Done")  # it does not run
    ends = [(each["outcome"], each["signal"], each["exitCode"]) for each in servers(77)]
    assert ends == [("cancelled", None, 0), ("cancelled", "SIGKILL", None), ("cancelled", None, 0)]
    assert not any(game.daemon.alive(each["taskId"]) for each in servers(77))
    assert all(each["entityId"] == 77 for each in i3d.get(TASK).json())


def test_the_actions_are_those_of_the_documentation(game: Game):
    templates = {each["name"]: each for each in I3d(game.daemon).get(f"{TASK}/template").json()}
    assert set(templates) == {"deploy", "restart", "start", "stop"}
    assert [action["actionType"] for action in templates["deploy"]["actions"]] == [
        "Download software build",
        "Extract software build",
        "Stop instance",
        "Deploy software build to instance",
        "Start instance",
    ]
    build = {"applicationBuildId": "The ID of the build: the SHA-256 of its archive"}
    needed = [action["requiredParams"] for action in templates["deploy"]["actions"]]
    assert needed == [build, None, None, build, None]


def test_the_settings_are_good_ones():
    given = tomllib.loads((EXAMPLE / "settings.toml").read_text())
    assert set(given) <= set(Settings.model_fields)
    assert Settings(**given).dialects == ["i3d"]
