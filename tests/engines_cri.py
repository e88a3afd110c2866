"""A real containerd with CRI for tests, in directories of its own, and ended with all it started."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from engines import DATA, Server, Service, end_processes, run, serve, wait_until
from images import busybox

from task_runner.errors import EngineFailed

#: what a sandbox keeps its namespaces with; busybox does for that
PAUSE_IMAGE = "localhost/pause:1"


class CriServer(Server):
    name = "cri"

    def __init__(self) -> None:
        super().__init__()
        at = self.directory
        (at / "containerd.toml").write_text((DATA / "cri.toml").read_text().replace("@DIR@", str(at)))
        self.service = Service(at, ["containerd", "-c", f"{at}/containerd.toml"], {})

    def start(self) -> None:
        self.socket.unlink(missing_ok=True)
        self.service.start()
        self.service.wait_ready(lambda: self.asked(lambda engine: engine.describe()))

    def asked(self, what: Callable[[Any], Any]) -> Any:
        """What a new connection answers; none: nothing yet."""
        from task_runner.engines.cri import CriEngine  # a large library, for those who use it

        engine = CriEngine(str(self.socket))
        try:
            return what(engine)
        except EngineFailed:
            return None
        finally:
            engine.close()

    def kill(self) -> None:
        self.service.kill()

    def kill_shims(self) -> None:
        """SIGKILL for the helper processes of all containers, with the sockets that they leave in a common place."""
        sockets = [each.read_text().removeprefix("unix://") for each in self.directory.glob("state/*/k8s.io/*/address")]
        end_processes(self.directory)
        for each in sockets:
            Path(each).unlink(missing_ok=True)

    def stop(self) -> None:
        self.service.terminate()

    def load(self, archive: Path) -> None:
        words = self.command("images", "import", str(archive)).split()
        name = words[words.index("unpacking") + 1]
        # the CRI is told of images, and takes its time
        wait_until(lambda: self.asked(lambda engine: engine.image_id(name)), f"the CRI knows {name}")

    def command(self, *arguments: str) -> str:
        return run(["ctr", "--address", str(self.socket), "--namespace", "k8s.io", *arguments], self.service.env)

    def remove_containers(self) -> None:
        self.asked(lambda engine: [engine.remove(each.id) for each in engine.find({})])


@pytest.fixture(scope="session")
def cri_server(busybox_archive: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[CriServer]:
    """containerd, with the busybox image. A test that kills it starts it again."""
    server = CriServer()
    pause = busybox(command=["sleep", "1000000000"]).save(tmp_path_factory.mktemp("pause") / "pause.tar", PAUSE_IMAGE)
    for each in serve(server, busybox_archive):
        server.load(pause)
        yield each
