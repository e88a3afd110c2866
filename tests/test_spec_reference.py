"""Every field of a task has an example in doc/reference/spec.md, and every example does what the page says.

A block marked `json → ENDING` is a task that ends so; `json batch → ENDING` is a batch all of whose tasks do. `(root)`,
`(bwrap)` or `(podman)` behind it: only where that is there. A `text` block after it is the output, as in tests/test_docs.py.
"""

from __future__ import annotations

import base64
import dataclasses
import io
import json
import re
import shutil
import tarfile
import tempfile
import threading
import types
import typing
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from conftest import ROOT, Daemon, wait_for
from engines import PodmanServer
from test_docs import same_text

from task_runner.errors import InvalidRequest
from task_runner.model.batch import BatchRequest
from task_runner.model.constraints import camel
from task_runner.model.machines import DownloadParameters, ExtractParameters, ProcessParameters
from task_runner.model.shortform import expand
from task_runner.model.spec import Action, Spec
from task_runner.model.walls import ContainerParameters
from task_runner.service import reference
from task_runner.service.validate import parse_spec

PAGE = (ROOT / "doc/reference/spec.md").read_text()
MACHINES = {
    "process": ProcessParameters,
    "container": ContainerParameters,
    "download": DownloadParameters,
    "extract": ExtractParameters,
}
PASSWORD, TOKEN = "s3same", "t0ken-of-the-test"

_BLOCK = re.compile(r"^```(json|text)(?: (batch))?(?: → (\w+)(?: (\d+))?(?: \((\w+)\))?)?\n(.*?)^```$", re.MULTILINE | re.DOTALL)


@dataclass
class Example:
    title: str
    batch: bool
    outcome: str
    exit_code: int | None
    need: str | None
    text: str
    output: str | None = None


def _examples() -> list[Example]:
    found: list[Example] = []
    for match in _BLOCK.finditer(PAGE):
        kind, batch, outcome, code, need, text = match.groups()
        if kind == "text":
            assert found and found[-1].output is None, f"whose output is this? {text}"
            found[-1].output = text
            continue
        assert outcome, f"how does it end? {text}"
        heading = re.findall(r"^##+ (.*)$", PAGE[: match.start()], re.MULTILINE)[-1]
        found.append(Example(heading, bool(batch), outcome, int(code) if code else None, need, text))
    return found


EXAMPLES = _examples()


# -- what the page says that the server has


class Web(BaseHTTPRequestHandler):
    """http://files.example and http://hooks.example of the page."""

    server: Any

    def do_GET(self) -> None:
        given = self.headers.get("Authorization", "")
        if self.path == "/basic":
            asks = base64.b64encode(f"ada:{PASSWORD}".encode()).decode()
            self._answer(given == f"Basic {asks}", f"{self.command} as ada, {self.headers['Accept']}\n".encode())
        elif self.path == "/bearer":
            self._answer(given == f"Bearer {TOKEN}", f"{self.command} with a token\n".encode())
        else:
            content = self.server.files.get(self.path)
            self._answer(content is not None, content or b"")

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        if self.path == "/done":
            self.server.told.append(json.loads(body))
            self._answer(True, b"")
        else:
            self.do_GET()

    def _answer(self, good: bool, content: bytes) -> None:
        self.send_response(200 if good else 403)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, *_args: Any) -> None:
        pass


def _tools() -> bytes:
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w:gz") as archive:
        content = b"#!/bin/sh\necho hello $1\n"
        member = tarfile.TarInfo("tools-1.0/bin/greet")
        member.mode, member.size = 0o755, len(content)
        archive.addfile(member, io.BytesIO(content))
    return packed.getvalue()


@dataclass
class Stage:
    daemon: Daemon
    web: Any
    host_files: Path
    latest: str = ""
    target: tuple[str, int, str] = ("game-17", 4711, "main")

    def real(self, text: str) -> str:
        """An example with the addresses of this test."""
        url = f"http://127.0.0.1:{self.web.server_address[1]}"
        for name in ("http://files.example", "http://hooks.example"):
            text = text.replace(name, url)
        name, pid, mark = self.target
        text = text.replace('"game-17"', f'"{name}"').replace("4711", str(pid)).replace("=main", f"={mark}")
        return text.replace("/srv/files", str(self.host_files)).replace('"ID"', f'"{self.latest}"')


@pytest.fixture(scope="module")
def bare_stage() -> Iterator[Stage]:
    base = Path(tempfile.mkdtemp(prefix="tr-reference-"))
    base.chmod(0o755)  # pytest's own directories let no other user through
    host_files = base / "host"
    host_files.mkdir()
    (host_files / "hello.txt").write_text("hello\n")
    web: Any = ThreadingHTTPServer(("127.0.0.1", 0), Web)
    web.files, web.told = {"/hello.txt": b"hello\n", "/tools.tar.gz": _tools()}, []
    thread = threading.Thread(target=web.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    daemon = Daemon(
        base / "state",
        cpus=4,
        memory_mb=4096,
        gpus=2,
        pools='{"licences": 2}',
        host_files=json.dumps([str(host_files)]),
        secret_web_password=PASSWORD,
        secret_web_token=TOKEN,
        task_users='{"*": ["*"]}',
        container_mounts=json.dumps([f"{host_files}:ro"]),
        container_devices='["/dev/null"]',
        container_networks='["none"]',
        sidecars=True,
    )
    try:
        yield Stage(daemon, web, host_files)
    finally:
        daemon.close()
        web.shutdown()
        thread.join()
        web.server_close()
        shutil.rmtree(base, ignore_errors=True)


@pytest.fixture(scope="module")
def stage(bare_stage: Stage) -> Stage:
    bare_stage.daemon.start()
    return bare_stage


@pytest.fixture(scope="module")
def podman_stage(bare_stage: Stage, podman_server: PodmanServer) -> Iterator[Stage]:
    """With an engine, and in it a container that somebody else has started."""
    daemon = bare_stage.daemon
    daemon.settings["engines"] = json.dumps(podman_server.sockets)
    name, mark = f"game-{uuid.uuid4().hex[:8]}", uuid.uuid4().hex
    run = ["run", "-d", "--name", name, "--uts", "private", "--hostname", "game-17", "--stop-signal", "KILL"]
    podman_server.command(*run, "-e", f"SANDBOX_MAIN_CONTAINER={mark}", "localhost/busybox:1", "sleep", "3600")
    try:
        pid = int(podman_server.command("inspect", "-f", "{{.State.Pid}}", name))
        bare_stage.target = (name, pid, mark)
        daemon.restart()
        yield bare_stage
    finally:
        podman_server.command("rm", "-f", name)


# -- the examples


def _run(stage: Stage, example: Example) -> dict[str, Any]:
    body = json.loads(stage.real(example.text))
    daemon = stage.daemon
    task_id = daemon.submit(**body)
    if body.get("openStdin"):
        daemon.wait_state(task_id, "running", "exited")
        content = {"Content-Type": "application/octet-stream"}
        sent = daemon.http.post(f"/v1/tasks/{task_id}/input?end=true", content=b"hello\n", headers=content)
        assert sent.status_code == 200, sent.text
    stage.latest = task_id
    return daemon.wait(task_id)


def _with_more_time(example: Example, factor: int) -> Example:
    longer = re.sub(r'(?<="timeoutSeconds": )[\d.]+', lambda found: f"{float(found[0]) * factor:g}", example.text)
    return dataclasses.replace(example, text=longer)


def _parameters() -> Iterator[Any]:
    for each in EXAMPLES:
        if not each.batch:
            needs = {None: (), "podman": ("root", "podman")}.get(each.need, (each.need,))
            yield pytest.param(each, marks=pytest.mark.needs(*needs), id=each.title)


@pytest.mark.parametrize("example", list(_parameters()))
def test_an_example_ends_as_the_page_says(request: pytest.FixtureRequest, example: Example):
    stage: Stage = request.getfixturevalue("podman_stage" if example.need == "podman" else "stage")
    if '"ID"' in example.text and not stage.latest:
        stage.latest = stage.daemon.submit("true")  # run alone
    for factor in (1, 10, 60):
        task = _run(stage, _with_more_time(example, factor))
        output = stage.daemon.output(task["taskId"]).decode()
        # a machine that stands still for a while may let a time limit pass before the command has said what it has to
        if example.outcome != "timed_out" or output.count("\n") >= (example.output or "").count("\n"):
            break
    assert task["outcome"] == example.outcome, (task["error"], output)
    if example.exit_code is not None:
        assert task["exitCode"] == example.exit_code
    if example.output is not None:
        same_text(example.output, output)
    if "notify" in example.text:
        wait_for(lambda: "succeeded" in {each["type"] for each in stage.web.told}, "the webhook is told")


@pytest.mark.parametrize("example", [each for each in EXAMPLES if each.batch], ids=lambda each: each.title)
def test_a_batch_ends_as_the_page_says(stage: Stage, example: Example):
    response = stage.daemon.post("/v1/batches", json.loads(stage.real(example.text)))
    assert response.status_code == 201, response.text
    outcomes = {stage.daemon.wait(task_id)["outcome"] for task_id in response.json()["tasks"]}
    assert outcomes == {example.outcome}


# -- nothing is left out


def _record(hint: Any) -> Any:
    """The record that a field holds, alone or in a list; None if it holds none."""
    if typing.get_origin(hint) in (typing.Annotated, list, types.UnionType, typing.Union):
        return next(filter(None, map(_record, typing.get_args(hint))), None)
    return hint if isinstance(hint, type) and dataclasses.is_dataclass(hint) else None


def _used(cls: Any, value: Any, seen: set[tuple[Any, str]]) -> None:
    hints = typing.get_type_hints(cls, include_extras=True)
    for field in dataclasses.fields(cls):
        inner = value.get(camel(field.name))
        if inner is None:
            continue
        seen.add((cls, field.name))
        record = MACHINES.get(value["machine"]) if cls is Action and field.name == "parameters" else _record(hints[field.name])
        for each in (inner if isinstance(inner, list) else [inner]) if record else ():
            if isinstance(each, dict):  # a record may have a short form, too
                _used(record, each, seen)


def test_every_field_has_an_example():
    seen: set[tuple[Any, str]] = set()
    for example in EXAMPLES:
        body = json.loads(example.text)
        if example.batch:
            _used(BatchRequest, body, seen)
        else:
            _used(Spec, expand(body), seen)
    shown_elsewhere = {"Template", "Parameter"}  # doc/howto/templates.md
    for cls in reference.RECORDS:
        if cls.__name__ not in shown_elsewhere:
            assert {field.name for field in dataclasses.fields(cls)} == {name for of, name in seen if of is cls}, cls


def test_every_record_that_a_spec_can_hold_has_its_table():
    found, left = set[Any](), [Spec, BatchRequest, *MACHINES.values()]
    while left:
        cls = left.pop()
        found.add(cls)
        records = filter(None, map(_record, typing.get_type_hints(cls, include_extras=True).values()))
        left += [record for record in records if record not in found]
    assert found <= set(reference.RECORDS)


def test_every_field_says_what_it_means():
    for cls in reference.RECORDS:
        meant = reference.meanings(cls)
        assert not [field.name for field in dataclasses.fields(cls) if not meant[field.name]], cls


# -- what is generated


@pytest.mark.parametrize(
    ("name", "generated"), [("fields.md", reference.fields_page), ("schema.json", reference.schema_text)]
)
def test_what_is_generated_is_up_to_date(name: str, generated: Any):
    assert (ROOT / "doc/reference" / name).read_text() == generated() + "\n", f"see the head of {reference.__name__}"


SCHEMA = json.loads((ROOT / "doc/reference/schema.json").read_text())


def _check(spec: dict[str, Any]) -> None:
    """Raises jsonschema.ValidationError."""
    jsonschema.Draft202012Validator(SCHEMA).validate(spec)  # whether the schema is one has been checked, once
    for action in [*spec["actions"], *spec.get("cleanup", [])]:
        wanted = {"x-machines": SCHEMA["x-machines"], "$ref": f"#/x-machines/{action['machine']}"}
        jsonschema.Draft202012Validator(wanted).validate(action["parameters"])


def test_the_schema_that_a_server_gives_is_that_of_the_page(stage: Stage):
    given = stage.daemon.http.get("/v1/schema").json()
    assert given.pop("/") == "api root"
    assert given == SCHEMA


def test_every_reference_within_the_openapi_leads_somewhere(stage: Stage):
    found = stage.daemon.http.get("/v1/openapi.json").json()
    targets = set(re.findall(r'"\$ref": "#/([^"]+)"', json.dumps(found)))
    assert "components/schemas/Retry" in targets
    for target in targets:
        place = found
        for part in target.split("/"):
            assert part in place, target
            place = place[part]


def test_the_schema_takes_every_example():
    jsonschema.Draft202012Validator.check_schema(SCHEMA)
    for example in EXAMPLES:
        body = json.loads(example.text)
        for each in body.get("tasks") or [body.get("task") or body]:
            _check(expand(each))
            parse_spec(each)


@pytest.mark.parametrize(
    "body",
    [
        {"command": ["true"], "timeoutSecond": 1},
        {"command": ["true"], "graceSeconds": -1},
        {"command": ["true"], "priority": "high"},
        {"command": ["true"], "stall": {"afterSeconds": 1, "then": "explode"}},
        {"command": ["true"], "tags": {"a=b": "c"}},
        {"command": ["true"], "maxOutputBytes": 1},
        {"command": ["true"], "notify": [{"url": "somewhere"}]},
        {"command": ["a\0b"]},
        {"shell": "true", "env": {"A": 1}},
        {"actions": []},
        {"machine": "download", "parameters": {"url": "http://a/b", "sha256": "short"}},
    ],
)
def test_the_schema_refuses_what_the_daemon_refuses(body: dict[str, Any]):
    with pytest.raises(InvalidRequest):
        parse_spec(body)
    with pytest.raises(jsonschema.ValidationError):
        _check(expand(body))
