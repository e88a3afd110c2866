"""The running daemon against its own description: what is drawn from the one is sent to the other (schemathesis).

What is sent runs commands, so every command is put in the place of one that does nothing (`tame`), nothing is waited for
that does not come, and the daemon has a state directory of its own. FUZZ_EXAMPLES and FUZZ_SEED make it longer, and other.

Checks that are left out, and why:
- positive_data_acceptance, where a body is a task, a batch or a template: that `after` makes no circle, that a template or
  a secret is there, that "stdin" and "openStdin" exclude each other is said in words, not in a schema.
- use_after_free, ensure_resource_availability, object_level_authorization: of stateful runs; what follows upon what is
  the subject of the other tests of the API.
- allow_header_conformance and unsupported_method: one test of tests/test_api.py asks every path for every method.
"""

from __future__ import annotations

import copy
import importlib
import itertools
import json
import os
from collections.abc import Iterator
from typing import Any

import hypothesis
import pytest
import requests
from conftest import ROOT, Daemon, wait_for
from hypothesis import strategies as st

EXAMPLES, SEED = int(os.environ.get("FUZZ_EXAMPLES", "4")), os.environ.get("FUZZ_SEED")
SETTINGS = {"max_running": 4, "engines": {}, "max_streams": 1000}
#: what ends the daemon's willingness to work; and whose answer to a wrong token takes a second: each has tests of its own
LEFT_OUT = {"drainNode", "logIn"}
#: where a rule stands between fields, or the value must be that of something there
IN_WORDS = {
    *("createTask", "createBatch", "putTemplate"),
    *("stopTask", "stopBatch", "signalTask"),  # a signal is text
    *("getAttempt", "getOutput", "rescheduleTask", "listFiles", "getFile", "createToken", "getTimeline"),
}
#: fields of a task that reach beyond its directory
DANGEROUS = ("sandbox", "sidecar", "notify", "logging", "user", "group", "files", "limits", "workingDirectory")


def closed(described: dict[str, Any]) -> dict[str, Any]:
    """The description, with answers that have no field beyond those described: none is there that nobody tells of; and
    with tasks that can do no harm. Drawing from all forms of a task takes long: unless asked to, not from the longest."""
    described = copy.deepcopy(described)
    schemas = described["components"]["schemas"]
    for schema in schemas.values():
        if "required" in schema and "properties" in schema and "anyOf" not in schema:
            schema.setdefault("additionalProperties", False)
    schemas["LongTask"] = copy.deepcopy({name: each for name, each in schemas["Spec"].items() if name[:2] != "x-"})
    forms = ["CommandTask", "TemplateTask", *(("LongTask", "MachineTask") if "FUZZ_EXAMPLES" in os.environ else ())]
    schemas["NewTask"]["anyOf"] = [{"$ref": f"#/components/schemas/{name}"} for name in forms]
    if "FUZZ_EXAMPLES" not in os.environ:
        small = {"command": {"type": "array", "items": {"type": "string"}, "minItems": 1}, "name": {"type": "string"}}
        schemas["NewBatch"]["properties"]["tasks"]["anyOf"][0]["items"] = {"type": "object", "properties": small}
    for name, field in itertools.product(forms, DANGEROUS):
        schemas[name]["properties"].pop(field, None)
    return described


#: as the daemon gives it (tests/test_openapi.py); to make it takes longer than to read it, in each process that looks for tests
DESCRIBED = closed(json.loads((ROOT / "doc/reference/openapi.json").read_text()))
OPERATIONS = {each["operationId"]: each for methods in DESCRIBED["paths"].values() for each in methods.values()}
CASES = [
    (name, mode)
    for name, operation in sorted(OPERATIONS.items())
    for mode in ("positive", "negative")
    if name not in LEFT_OUT and not name.endswith("Slash")
    # what takes nothing can be given nothing wrong
    if mode == "positive" or operation.keys() & {"parameters", "requestBody"}
]


@pytest.fixture(scope="module")
def operations() -> dict[str, Any]:
    schemathesis = importlib.import_module("schemathesis")  # takes seconds: not for who only looks for tests
    loaded = [each.ok() for each in schemathesis.openapi.from_dict(DESCRIBED).get_all_operations()]
    return {each.definition.raw["operationId"]: each for each in loaded}


class Known:
    """What there is at the daemon."""

    def __init__(self, daemon: Daemon) -> None:
        self.done = daemon.submit("sh", "-c", "echo one; mkdir d; echo two > d/f", name="done")
        self.failed = daemon.submit("sh", "-c", "exit 3", tags={"a": "b"})
        self.waiting = daemon.submit("true", executeAt="2100-01-01T00:00:00Z", alias="later")
        self.apart = daemon.submit("sh", "-c", "echo out; echo err >&2", outputMode="separate")
        self.noted = daemon.submit("true", notify=[{"url": "http://127.0.0.1:9/", "on": ["pending"]}])
        made = daemon.post("/v1/batches", {"tasks": [{"command": ["true"]}, {"command": ["false"]}]})
        self.batch = made.json()["batchId"]
        daemon.http.put("/v1/templates/greet", json={"parameters": {"who": {}}, "task": {"shell": "echo ${who}"}})
        daemon.post("/v1/tokens", {"name": "ci", "scopes": ["read"]})
        for task_id in (self.done, self.failed, self.apart, self.noted):
            daemon.wait(task_id)
        wait_for(lambda: daemon.http.get(f"/v1/batches/{self.batch}").json()["finishedAt"], "the batch is over")

    def value(self, name: str, operation: str) -> st.SearchStrategy[Any]:
        tasks = [self.done, self.failed, self.waiting, self.apart, self.noted]
        kept = operation.startswith(("delete", "revoke"))
        there = {
            "task_id": tasks,
            "batch_id": [self.batch],
            "name": ["greet"] if "Template" in operation else ["ci"],
            "path": ["d", "d/f", "nothing"],
            "attempt": [1],
            "n": [1],
        }[name]
        return st.sampled_from([None] if kept else [None, *there, *there])


@pytest.fixture(scope="module")
def known(shared: Daemon) -> Known:
    return Known(shared)


@pytest.fixture(scope="module")
def session(shared: Daemon) -> Iterator[requests.Session]:
    with requests.Session() as session:
        session.mount("http://", Hasty())
        session.headers["Authorization"] = f"Bearer {shared.token}"
        yield session


class Hasty(requests.adapters.HTTPAdapter):
    """Reads no more of a stream of events than its beginning."""

    def send(self, request: requests.PreparedRequest, *args: Any, **options: Any) -> requests.Response:
        response = super().send(request, *args, **{**options, "stream": True})
        if response.headers.get("content-type", "").startswith("text/event-stream"):
            response._content = response.raw.read1(1000)
            response._content_consumed = True
            response.raw.close()
        return response


def tame(value: Any, key: str = "") -> Any:
    """The same, with commands that do nothing, nobody's network, and no more than a moment to wait."""
    if key == "command" and isinstance(value, list) and value and all(isinstance(each, str) for each in value):
        return ["true"] if value[0] else value
    if key == "shell" and isinstance(value, str) and value and "\0" not in value:
        return "true"
    if key in DANGEROUS and value:
        return None
    if isinstance(value, dict):
        return {name: tame(each, name) for name, each in value.items()}
    if isinstance(value, list):
        return [tame(each, key if isinstance(each, (dict, list)) else "") for each in value]
    return value


@pytest.mark.parametrize(("name", "mode"), CASES)
def test_the_daemon_keeps_to_its_description(
    shared: Daemon, known: Known, session: requests.Session, operations: dict[str, Any], name: str, mode: str
):
    from schemathesis.generation import GenerationMode
    from schemathesis.specs.openapi import checks

    strategy = operations[name].as_strategy(generation_mode=GenerationMode(mode))
    excluded = [checks.unsupported_method, checks.allow_header_conformance, checks.use_after_free]
    excluded += [checks.ensure_resource_availability, checks.object_level_authorization]
    if name in IN_WORDS:
        excluded.append(checks.positive_data_acceptance)

    @hypothesis.settings(
        max_examples=EXAMPLES,
        derandomize=SEED is None,
        database=None,
        deadline=None,
        suppress_health_check=list(hypothesis.HealthCheck),
        phases=[hypothesis.Phase.generate],
    )
    @hypothesis.given(case=strategy, data=st.data())
    def ask(case: Any, data: st.DataObject) -> None:
        for parameter in case.path_parameters or ():
            if mode == "negative" and parameter in ("attempt", "n"):
                continue  # no number, perhaps
            if (there := data.draw(known.value(parameter, name))) is not None:
                case.path_parameters[parameter] = there
        query = case.query or {}
        if isinstance(query.get("wait"), (int, float)) and 0 < query["wait"] <= 300:
            query["wait"] = 0.01
        if str(query.get("follow")).lower() in ("true", "1"):
            query["follow"] = "false"
        if isinstance(case.body, (dict, list)):
            case.body = tame(case.body)
        case.call_and_validate(base_url=shared.url, session=session, excluded_checks=excluded, timeout=30)

    if SEED is not None:
        ask = hypothesis.seed(int(SEED))(ask)
    ask()
