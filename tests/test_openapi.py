"""The description of the API: complete, valid, as it is kept in doc/reference, and as a page."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from html.parser import HTMLParser
from typing import Any

import httpx
import pytest
from conftest import PATIENCE, ROOT, Daemon
from jsonschema import Draft202012Validator
from openapi_spec_validator import validate

from task_runner.api import openapi, v1
from task_runner.api.description.page import render
from task_runner.api.description.words import in_words
from task_runner.api.params import Choices, Flag, Integer, Seconds
from task_runner.errors import InvalidRequest

#: to make it takes longer than to read it, in each process that looks for tests
DESCRIBED = json.loads((ROOT / "doc/reference/openapi.json").read_text())
OPERATIONS = {
    (method, path): operation for path, methods in DESCRIBED["paths"].items() for method, operation in methods.items()
}


def resolve(schema: dict[str, Any]) -> dict[str, Any]:
    return {**schema, "components": DESCRIBED["components"]}


def test_every_route_is_described():
    """Give `route(…, doc=…)` an Operation of api/contract; only pages, which programs do not ask for, go without."""
    missing = [route.path for route in v1.routes if route.doc is None]
    assert [path for path in missing if not re.match(r"/$|/ui$|/ui/(static/)?\{path|/docs/", path)] == []


def test_the_description_is_valid_openapi():
    validate(DESCRIBED)


def test_the_daemon_gives_the_description_of_its_routes(shared: Daemon):
    assert shared.http.get("/v1/openapi.json").json() == DESCRIBED


def test_every_call_says_what_it_takes_and_answers():
    ids = [operation["operationId"] for operation in OPERATIONS.values()]
    assert len(ids) == len(set(ids))
    for (method, path), operation in OPERATIONS.items():
        assert operation["summary"].endswith("."), path
        named = {each["name"] for each in operation.get("parameters", ()) if each["in"] == "path"}
        assert named == set(re.findall(r"\{(\w+)\}", path))
        assert all(each["description"] and each["schema"] for each in operation.get("parameters", ()))
        assert any(status.startswith("2") for status in operation["responses"])
        assert ("413" in operation["responses"]) == (method != "get")
        assert operation["security"] == [] or "401" in operation["responses"]
        for status, answer in operation["responses"].items():
            assert int(status) < 400 or answer["content"].keys() == {"application/problem+json"}


def test_the_examples_of_bodies_fit_their_schemas():
    found = 0
    for operation in OPERATIONS.values():
        for content in operation.get("requestBody", {}).get("content", {}).values():
            if "example" in content:
                Draft202012Validator(resolve(content["schema"])).validate(content["example"])
                found += 1
    assert found >= 10


@pytest.mark.parametrize(
    ("body", "fits"),
    [
        ({"command": ["true"], "timeoutSeconds": 1}, True),
        ({"shell": "true", "env": {"A": "b"}}, True),
        ({"machine": "echo", "parameters": "echo hello"}, True),
        ({"template": "build", "parameters": {"branch": "main"}, "priority": 1}, True),
        ({"actions": [{"machine": "process", "parameters": {"command": ["true"]}}]}, True),
        ({"command": []}, False),
        ({"env": {}}, False),
        ({"template": "build", "command": ["true"]}, False),
        ({"command": ["true"], "timeoutSecond": 1}, False),
    ],
)
def test_the_schema_of_a_new_task_knows_its_forms(body: dict[str, Any], fits: bool):
    new = resolve({"$ref": "#/components/schemas/NewTask"})
    assert Draft202012Validator(new).is_valid(body) == fits


def test_scopes_are_told():
    assert OPERATIONS["delete", "/v1/tasks/{task_id}"]["security"] == [{"token": ["control"]}, {"session": ["control"]}]
    assert OPERATIONS["get", "/health"]["security"] == []
    assert OPERATIONS["get", "/v1"]["security"] == [{"token": []}, {"session": []}]


@pytest.mark.parametrize(("arguments", "name"), [([], "openapi.json"), (["markdown"], "api.md")])
def test_what_is_kept_is_what_the_program_says(arguments: list[str], name: str):
    said = subprocess.run(
        [sys.executable, "-m", "task_runner.api.openapi", *arguments],
        cwd=ROOT, capture_output=True, text=True, check=True, timeout=PATIENCE,
    )
    assert (ROOT / "doc/reference" / name).read_text() == said.stdout


def test_every_link_of_the_generated_page_leads_somewhere():
    text = openapi.page()
    anchors = {re.sub(r"[^a-z0-9_-]", "", title.lower().replace(" ", "-")) for title in re.findall(r"(?m)^#+ (.*)", text)}
    assert set(re.findall(r"\(#([^)]+)\)", text)) <= anchors


# -- parameters


def test_a_parameter_is_checked_by_what_describes_it():
    limit = Integer(name="limit", meaning="", default=5, low=1, high=10)
    assert limit.schema() == {"type": "integer", "minimum": 1, "maximum": 10, "default": 5}
    assert (limit.number({}), limit.number({"limit": "7"})) == (5, 7)
    wait = Seconds(name="wait", meaning="", default=0.0, high=300)
    assert (wait.read({}), wait.read({"wait": "1.5"})) == (0.0, 1.5)
    states = Choices(name="state", meaning="", allowed=("running", "lost"))
    assert states.read({"state": "running,lost"}) == {"running", "lost"}
    stalled = Flag(name="stalled", meaning="", default=None)
    assert [stalled.read(given) for given in ({}, {"stalled": "1"}, {"stalled": "false"})] == [None, True, False]
    for parameter, text in ((limit, "0"), (limit, "11"), (limit, "+1"), (wait, "nan"), (states, "odd"), (stalled, "yes")):
        with pytest.raises(InvalidRequest):
            parameter.read({parameter.name: text})


def test_both_ways_to_resume_events_are_checked(shared: Daemon):
    for path in ("/v1/events", f"/v1/tasks/{shared.submit('true')}/events"):
        for headers, query in (({"Last-Event-ID": "1"}, "?after=x"), ({"Last-Event-ID": ""}, ""), ({}, "?after=-1")):
            assert shared.http.get(path + query, headers=headers).status_code == 400


def test_a_range_where_nothing_is_says_so(shared: Daemon):
    task_id = shared.wait(shared.submit("sh", "-c", "echo one > file"))["taskId"]
    for path, held in (("output", "*"), ("files/file", "4")):
        answer = shared.http.get(f"/v1/tasks/{task_id}/{path}", headers={"Range": "bytes=100-"})
        assert (answer.status_code, answer.headers["content-range"]) == (416, f"bytes */{held}")
        assert answer.headers["content-type"] == "application/problem+json"
        assert answer.json()["status"] == 416


# -- the page


class Page(HTMLParser):
    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.ids: list[str] = []
        self.links: list[str] = []
        self.inline: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        for name, value in attrs:
            if name == "id":
                self.ids.append(str(value))
            if name in ("href", "src"):
                self.links.append(str(value))
            if name == "style" or name.startswith("on"):
                self.inline.append(f"{tag} {name}")


def test_the_page_has_every_call_and_needs_nothing_from_elsewhere(shared: Daemon):
    answer = shared.http.get("/docs")
    assert answer.headers["content-type"] == "text/html; charset=utf-8"
    policy = answer.headers["content-security-policy"]
    assert policy.startswith("default-src 'none'")
    assert "unsafe" not in policy
    page = Page(answer.text)
    assert not {"script", "style", "iframe", "img"} & set(page.tags)
    assert page.inline == []
    assert len(page.ids) == len(set(page.ids))
    ids = {each["operationId"] for each in OPERATIONS.values() if not each["operationId"].endswith("Slash")}
    assert ids | DESCRIBED["components"]["schemas"].keys() <= set(page.ids)
    assert {link[1:] for link in page.links if link.startswith("#")} <= set(page.ids)
    assert {link for link in page.links if not link.startswith("#")} == {
        *("/docs/style.css", "/ui/", "/v1/openapi.json", "/v1/schema"),
    }
    style = shared.http.get("/docs/style.css")
    assert style.headers["content-type"].startswith("text/css")
    assert "url(" not in style.text
    assert "@import" not in style.text


def test_who_shows_no_token_is_sent_to_the_login(shared: Daemon):
    answer = httpx.get(f"{shared.url}/docs", headers={"Accept": "text/html"}, timeout=PATIENCE, verify=False)
    assert (answer.status_code, answer.headers["location"]) == (303, "/ui/login?next=/docs")
    wrong = {"Authorization": "Bearer " + "x" * 40}
    assert httpx.get(f"{shared.url}/docs", headers=wrong, timeout=PATIENCE, verify=False).status_code == 303


def test_what_a_description_says_is_text_on_the_page():
    described = json.loads(json.dumps(DESCRIBED).replace("Accept a task.", "<script>alert(1)</script>."))
    assert "<script>" not in render(described)


def test_schemas_in_words():
    assert in_words({"type": "integer", "minimum": 1, "default": 5}) == "integer, at least 1, by default `5`"
    assert in_words({"anyOf": [{"type": "string"}, {"type": "null"}]}) == "string or null"
    assert in_words({"type": "array", "items": {"$ref": "#/components/schemas/Task"}}) == "array of [Task](#Task)"
