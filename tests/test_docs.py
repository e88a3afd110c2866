"""The documentation is true: its examples are executed, its tables are generated from the code. (Samples of other pages than
doc/api.md: tests/test_doc_samples.py.)

In doc/api.md a block marked `sh run` is executed by a shell, in order, and the block behind it is its answer: `json`
or `text`, and the HTTP status. JSON is compared by shape: the same fields, values of the same kind, where `null`
stands for any kind; a few fields must have the very value. `"…": "…"` allows further fields, and `…` in text anything.
"""

from __future__ import annotations

import json
import re
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from conftest import PATIENCE, ROOT, Daemon, wait_for

from task_runner.api import v1
from task_runner.api.contract.tasks import LISTED
from task_runner.api.surface import STATUS
from task_runner.model.state import State, diagram
from task_runner.service import settings, settingspage

API = (ROOT / "doc/api.md").read_text()
#: fields whose value is promised, not just its kind
EXACT = {
    "outcome",
    "exitCode",
    "signal",
    "status",
    "title",
    "success",
    "draining",
    "field",
    "message",
    "attempt",
    "openapi",
    "paused",
    "numTasks",
    "numTasksOk",
    "numTasksFailed",
    "numTasksCancelled",
}
_BLOCK = re.compile(r"^```(\w+) ?(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)


@dataclass
class Example:
    command: str
    kind: str
    status: int
    answer: str


def examples() -> list[Example]:
    blocks = _BLOCK.findall(API)
    found = []
    for (kind, mark, command), (answer_kind, status, answer) in zip(blocks[::2], blocks[1::2], strict=True):
        assert (kind, mark) == ("sh", "run"), f"an example is expected, found: {command}"
        assert answer_kind in ("json", "text"), f"the answer is missing of: {command}"
        found.append(Example(command, answer_kind, int(status), answer))
    return found


class Shell:
    """Runs the examples: curl says the status after the answer, and gives up in time."""

    def __init__(self, daemon: Daemon, home: Path) -> None:
        (home / ".curlrc").write_text('silent\nshow-error\nmax-time = 60\nwrite-out = "\\n%{http_code}"\n')
        self._env = {
            "PATH": "/usr/bin:/bin",
            "HOME": str(home),
            "CURL_HOME": str(home),
            "URL": daemon.url,
            "AUTH": f"Authorization: Bearer {daemon.token}",
        }
        self._daemon = daemon

    def run(self, command: str) -> tuple[int, str]:
        if (task_id := self._env.get("ID")) and self._daemon.http.get(f"/v1/tasks/{task_id}").status_code == 200:
            # a person takes longer than this to get from one example to the next
            task = self._daemon.wait_state(task_id, "scheduled", "running", "paused", "exited")
            if task["state"] == "running" and "trap" in json.dumps(task["spec"]):
                # its shell has come to the loop behind the trap; before that a signal would end it
                wait_for(lambda: len(self._daemon.alive(task_id)) > 1, "the loop has begun")
        done = subprocess.run(
            ["sh", "-c", command], env=self._env, capture_output=True, text=True, timeout=2 * PATIENCE, check=False
        )
        assert done.returncode in (0, 28), done.stderr  # 28: --max-time
        body, _, status = done.stdout.rpartition("\n")
        if status == "201":
            made = json.loads(body)
            names = {"ID": "taskId", "BATCH": "batchId"}
            self._env |= {name: made[field] for name, field in names.items() if field in made}
        return int(status), body


def same_shape(expected: Any, found: Any, where: str = "answer") -> None:
    name = where.rsplit(".", 1)[-1]
    if isinstance(expected, dict) and isinstance(found, dict):
        listed = set(expected) - {"…"}
        assert listed == set(found) or ("…" in expected and listed <= set(found)), where
        for key in listed:
            same_shape(expected[key], found[key], f"{where}.{key}")
    elif isinstance(expected, list) and isinstance(found, list):
        assert bool(expected) == bool(found), where
        pairs = zip(expected, found, strict=True) if len(expected) == len(found) else ((expected[0], f) for f in found)
        for wanted, each in pairs:
            same_shape(wanted, each, f"{where}[]")
    elif name in EXACT and expected != "…":
        assert found == expected, where
    elif name == "state":
        assert {State(expected), State(found)}, where
    elif expected is not None and found is not None:
        assert type(found) is type(expected), where


def same_text(expected: str, found: str) -> None:
    """`…` alone on a line stands for any number of lines."""
    lines = ["(?:.*\n)?" if line == "…" else _line(line) for line in expected.strip().split("\n")]
    pattern = "".join(lines)
    assert re.fullmatch(pattern, found.strip() + "\n", re.DOTALL), f"expected:\n{expected}\nfound:\n{found}"


def _line(line: str) -> str:
    return "[^\n]*".join(re.escape(part) for part in line.split("…")) + "\n"


@pytest.mark.needs("curl")
def test_the_examples_of_the_api_do_what_they_say(daemon: Daemon, tmp_path: Path):
    shell = Shell(daemon, tmp_path)
    for example in examples():
        status, body = shell.run(example.command)
        assert status == example.status, f"{example.command}\n{body}"
        if example.kind == "text":
            same_text(example.answer, body)
        else:
            try:
                same_shape(json.loads(example.answer), json.loads(body))
            except AssertionError as error:
                pytest.fail(f"{example.command}\n{error}\nfound: {body}")


def test_every_route_has_its_place_in_the_documentation():
    described = set(re.findall(r"^### `(\w+) (\S+)`$", API, re.MULTILINE))
    # what a browser asks for is the web page's own
    for route in (each for each in v1.routes if not re.match("/(ui|docs)(/|$)", each.path)):
        path = _described_path(route)
        for method in (route.methods or set()) - {"HEAD"}:
            slashless = path.rstrip("/") or "/"
            assert (method, slashless) in described, f"{method} {path}"
    assert described <= {(m, _described_path(r)) for r in v1.routes for m in r.methods or ()}


def _described_path(route: Any) -> str:
    """The path of a route as the documentation has it: a task and a batch have an {id}, an attempt is {n}."""
    return re.sub(r"\{(?:task_id|batch_id)\}", "{id}", route.path_format).replace("{attempt}", "{n}")


def test_every_field_and_filter_is_explained(daemon: Daemon):
    explained = set(re.findall(r"`(\w+)`", " ".join(re.findall(r"^\| (`[^|]*) \|", API, re.MULTILINE))))
    task = daemon.task(daemon.submit("true"))
    assert set(task) <= explained
    assert set(task["spec"]) <= explained
    assert {each.name for each in LISTED} <= explained


def test_every_status_of_an_error_is_explained():
    for _kind, status in STATUS:
        assert re.search(rf"^\|.*\b{status}\b", API, re.MULTILINE), status


@pytest.mark.parametrize(("name", "generated"), [("states", diagram), ("settings", settingspage.page)])
def test_what_is_generated_is_up_to_date(name: str, generated: Any):
    assert (ROOT / f"doc/{name}.md").read_text() == generated() + "\n"


def test_every_setting_is_described():
    for name, field in settings.Settings.model_fields.items():
        assert field.description, name


def test_links_between_pages_lead_somewhere():
    pages = [*(ROOT / "doc").rglob("*.md"), ROOT / "README.md"]
    for page in pages:
        for target in re.findall(r"\]\(([^)#\s]+)[^)]*\)", page.read_text()):
            if "://" not in target:
                assert (page.parent / target).exists(), f"{page.name}: {target}"


def test_every_test_that_a_promise_names_exists():
    named = re.findall(r"`(test_\w+\.py)(?:::(\w+))?`", (ROOT / "doc/promises.md").read_text())
    assert len(named) > 12
    for file, name in named:
        text = (ROOT / "tests" / file).read_text()
        assert not name or re.search(rf"^\s*(async )?def {name}\(", text, re.MULTILINE), f"{file}::{name}"


def test_the_sample_task_is_a_good_one(daemon: Daemon):
    body = json.loads((ROOT / "doc/sample_task.json").read_text())
    assert daemon.post("/v1/tasks", body).status_code == 201
