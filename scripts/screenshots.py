"""The pictures in doc/images: every page of the web page, with tasks as a node has them.

    python scripts/screenshots.py [NAME …]

takes all, or those named, again; it needs Chromium and the extra `test`. It starts a daemon in a temporary
directory, with tasks that run for about a minute. Only the node's past hours are made up, since
nobody wants to wait for them.
"""

from __future__ import annotations

import math
import os
import random
import shutil
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from demo import Daemon
from playwright.sync_api import Browser, Page, sync_playwright

from task_runner.service.history import STEP, Ring

IMAGES = Path(__file__).parent.parent / "doc/images"
FLAGS = ["--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking"]
DESK, PHONE = {"width": 1280, "height": 800}, {"width": 390, "height": 800}
#: bytes of one picture
MOST = 200_000
GIB = 1024.0**3

TEST = r"""suite={suite}; seed={seed}
echo "collecting tests/$suite"
for n in $(seq 1 8); do
  sleep {pause}; printf 'tests/%s/test_%02d.py \033[32mPASSED\033[0m\n' $suite $n
done
[ $((seed % 6)) != 4 ] || {{
  printf '\033[31mFAILED\033[0m tests/%s/test_09.py: expected 3 rows, got 2\n' $suite; exit 1
}}
"""
SERVER = r"""echo "loading map {map}"; n=0
while :; do sleep 0.7; n=$((n + 1)); echo "tick $n: $((n % 9 + 3)) players on {map}"; done
"""
COMPILE = r"""for n in $(seq 1 60); do
  percent=$((n * 100 / 60))
  printf '[%3d%%] \033[32mBuilding CXX object\033[0m src/part_%02d.o\n' $percent $n
  [ $((n % 13)) != 0 ] ||
    printf '\033[1;35mwarning:\033[0m src/part_%02d.cc:%d: unused variable \033[1mresult\033[0m\n' $n $((n * 7))
  sleep 0.8
done
"""
FAILING = r"""echo "connecting to db.internal:5432"; sleep 2
printf '\033[33mWARNING\033[0m slow answer: 1.8 s\n'; sleep 1
printf '\033[31mERROR\033[0m relation "orders" does not exist\n'; exit 2
"""
TEMPLATES = {
    "build": {
        "description": "Builds a branch, and keeps what comes out",
        "parameters": {
            "branch": {"pattern": "[a-z0-9/-]+", "description": "which branch"},
            "mode": {"choices": ["debug", "release"], "default": "release"},
            "jobs": {"type": "integer", "default": 4, "minimum": 1, "maximum": 16},
        },
        "task": {"name": "build ${branch}", "shell": "make -j${jobs} MODE=${mode}", "tags": {"branch": "${branch}"}},
    },
    "restart-server": {
        "description": "Stops a game server and starts it on another map",
        "parameters": {"server": {"pattern": "gs-[0-9]+"}, "map": {"choices": ["dust", "harbour", "canyon"]}},
        "task": {"entity": "${server}", "shell": "./server --map ${map}"},
    },
}


def shell(script: str, **of: Any) -> dict[str, Any]:
    return {"machine": "process", "parameters": {"shell": script.format(**of) if of else script}}


class Scene:
    """A daemon with tasks."""

    def __init__(self, daemon: Daemon) -> None:
        self._http = daemon.http
        self.ids: dict[str, str] = {}
        self.batch = ""

    def submit(self, name: str, **spec: Any) -> None:
        answer = self._http.post("/v1/tasks", json={"name": name, **spec})
        self.ids[name] = answer.raise_for_status().json()["taskId"]

    def begin(self) -> None:
        for name, template in TEMPLATES.items():
            self._http.put(f"/v1/templates/{name}", json=template).raise_for_status()
        for n, place in enumerate(("dust", "harbour", "canyon"), 1):
            self.submit(f"game server {n}", actions=[shell(SERVER, map=place)], entity=f"gs-{n}", tags={"map": place})
        suites = ("api", "cli", "queue", "store", "page", "limits", "files", "tokens")
        tests = [
            {
                "name": f"test {suites[n % 8]} {n // 8 + 1}",
                "entity": f"runner-{n % 4 + 1}",
                "tags": {"suite": suites[n % 8]},
                "actions": [shell(TEST, suite=suites[n % 8], seed=n, pause=(3 + n * 5 % 7 * 2) / 10)],
            }
            for n in range(24)
        ]
        made = self._http.post("/v1/batches", json={"name": "nightly tests", "tasks": tests})
        self.batch = made.raise_for_status().json()["batchId"]
        steps = {"fetch": "echo 'HEAD is now at 4f1c2aa'; sleep 3", "compile": COMPILE, "package": "tar cf out.tar ."}
        self.submit(
            "build main",
            tags={"branch": "main"},
            entity="builder",
            actions=[{**shell(script), "name": name} for name, script in steps.items()],
        )
        self.submit("migrate orders", entity="database", tags={"branch": "main"}, actions=[shell(FAILING)])
        self.submit("nightly backup", executeAt="2100-01-01T03:00:00Z", actions=[shell("true")])

    def until_it_is_worth_a_picture(self) -> None:
        """The build has come far."""
        deadline = time.monotonic() + 180
        while time.monotonic() < deadline:
            if "[ 58%]" in self._http.get(f"/v1/tasks/{self.ids['build main']}/output").text:
                return
            time.sleep(0.5)

    def end(self) -> None:
        for task in self._http.get("/v1/tasks", params={"limit": 200}).json():
            self._http.delete(f"/v1/tasks/{task['taskId']}")


def past(path: Path) -> None:
    """Six hours of a machine that works in waves."""
    ring, now, chance = Ring(str(path)), time.time(), random.Random(7)  # noqa: S311  no secret
    ring.open(now)
    for back in range(6 * 3600, STEP, -STEP):
        wave = (math.sin(back / 2100) + 1) / 2 * (0.4 + 0.6 * math.sin(back / 390) ** 2)
        busy = min(1.0, 0.08 + 0.8 * wave + chance.random() * 0.08)
        queued = max(0, round(40 * (wave - 0.45)))
        sample: dict[str, float | None] = {
            "cpu": busy, "load": busy * 8.4, "memory": (3 + 9 * wave + chance.random() / 4) * GIB,
            "memoryTotal": 23.5 * GIB,
            "disk": (31 + (6 * 3600 - back) / 6000) * GIB, "diskTotal": 101 * GIB,
            "running": round(2 + 10 * wave), "stalled": 1 if wave > 0.93 else 0, "queued": queued,
        }  # fmt: skip
        ring.add(int(now - back), sample)
    ring.close()


@contextmanager
def scene() -> Iterator[tuple[Scene, Daemon]]:
    with tempfile.TemporaryDirectory(prefix="task-runner-screenshots-") as directory:
        state = Path(directory) / "state"
        state.mkdir(mode=0o700)
        past(state / "history")
        daemon = Daemon(state)
        made = Scene(daemon)
        try:
            daemon.start()
            made.begin()
            yield made, daemon
        finally:
            made.end()
            daemon.stop()


def shots(made: Scene) -> dict[str, tuple[str, str]]:
    """By file name: the address, and what is there when it can be taken."""
    ids = made.ids
    table, log = "table.tasks tbody tr", ".log .line"
    return {  # what changes first comes first
        "list": ("/ui/", table),
        "task": (f"/ui/tasks/{ids['build main']}", log),
        "list-dark": ("/ui/", table),
        "task-dark": (f"/ui/tasks/{ids['build main']}", log),
        "list-phone": ("/ui/", table),
        "task-phone": (f"/ui/tasks/{ids['build main']}", log),
        "task-failed": (f"/ui/tasks/{ids['migrate orders']}", log),
        "submit": ("/ui/submit?tab=template&template=build", "text=which branch"),
        "batch": (f"/ui/batches/{made.batch}", table),
        "batches": ("/ui/batches", "table tbody tr"),
        "timeline": ("/ui/timeline?span=90000&by=entity", "canvas.timeline"),
        "node": ("/ui/node", "figure canvas"),
        "templates": ("/ui/templates", "text=Builds a branch"),
        "docs": ("/docs", "h1"),
    }


def take(page: Page, name: str, address: str, ready: str) -> None:
    page.goto(address)
    page.locator(ready).first.wait_for()
    page.wait_for_timeout(1800)  # what follows live has come, too
    image = page.screenshot(path=IMAGES / f"{name}.png")
    print(f"{name}.png: {len(image) // 1000} kB")
    if len(image) > MOST:
        raise SystemExit(f"{name}.png is too large: {len(image)} bytes, at most {MOST}")


def main(names: list[str]) -> None:
    with scene() as (made, daemon), sync_playwright() as playwright:
        program = shutil.which("chromium-headless-shell") or shutil.which("chromium")
        browser = playwright.chromium.launch(executable_path=program, args=FLAGS)
        made.until_it_is_worth_a_picture()
        for name, (address, ready) in shots(made).items():
            if not names or name in names:
                take(opened(browser, daemon, name), name, address, ready)
        browser.close()


def opened(browser: Browser, daemon: Daemon, name: str) -> Page:
    scheme = "dark" if name.endswith("-dark") else "light"
    viewport = PHONE if name.endswith("-phone") else DESK
    context = browser.new_context(base_url=daemon.url, color_scheme=scheme, viewport=viewport, reduced_motion="reduce")  # type: ignore[arg-type]
    token = (daemon.state_dir / "token").read_text().strip()
    context.request.post("/ui/login", data={"token": token}, headers={"Origin": daemon.url})
    return context.new_page()


if __name__ == "__main__":
    os.umask(0o022)
    main(sys.argv[1:])
