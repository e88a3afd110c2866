"""The form for new tasks in the page."""

# ruff: noqa: F811  fixtures are imported where they are used
from __future__ import annotations

import json
import re

import pytest
from conftest import Daemon, wait_for
from playwright.sync_api import Page, Route, expect
from webpage import NO_CONTACT, REFUSED, Browse, Watch, browse, chromium, page, watch  # noqa: F401

pytestmark = pytest.mark.needs("chromium")
TASK = re.compile(r"/ui/tasks/([0-9a-f]{16})")
TEMPLATE = {
    "description": "builds a branch",
    "parameters": {
        "branch": {"pattern": "[a-z0-9-]+", "description": "which one"},
        "jobs": {"type": "integer", "default": 2, "minimum": 1, "maximum": 16},
        "mode": {"choices": ["fast", "slow"]},
        "clean": {"type": "boolean", "default": False},
    },
    "task": {"shell": "echo ${branch} ${jobs} ${mode} ${clean}"},
}


def submit(page: Page) -> None:
    page.get_by_role("button", name="Submit").click()


def made(page: Page, daemon: Daemon) -> dict:
    """The task whose page is shown after a form was sent."""
    page.wait_for_url(TASK)
    return daemon.task(TASK.search(page.url)[1])


def count(daemon: Daemon, tag: str) -> int:
    return len(daemon.http.get("/v1/tasks", params={"tag": tag}).json())


def test_a_command_with_its_fields(page: Page, shared: Daemon) -> None:
    page.goto("/ui/submit")
    page.get_by_label("a program with arguments").check()
    page.get_by_label("Program and arguments").fill("sh\n-c\necho $GREETING from $(pwd)")
    page.get_by_label("Name").fill("greets")
    page.get_by_label("Environment").fill("GREETING=hello = world\n")
    page.get_by_label("Tags").fill("made=by form\nbranch=main")
    page.get_by_label("Time limit").fill("60")
    page.get_by_label("Working directory").fill("/tmp")
    page.get_by_label("Entity").fill("gs-1")
    page.get_by_text("Queue and resources").click()
    page.get_by_label("Priority").fill("-3")
    page.get_by_label("CPUs").fill("0.5")
    submit(page)
    task = made(page, shared)
    assert task["spec"] == {
        "actions": [{"machine": "process", "parameters": {
            "command": ["sh", "-c", "echo $GREETING from $(pwd)"], "env": {"GREETING": "hello = world"}, "workingDirectory": "/tmp"}}],
        "name": "greets", "timeoutSeconds": 60.0, "entity": "gs-1", "priority": -3,
        "resources": {"cpus": 0.5}, "tags": {"made": "by form", "branch": "main"},
    }
    shared.wait(task["taskId"])
    assert shared.output(task["taskId"]) == b"hello = world from /tmp\n"


def test_refusals_stand_at_their_fields(page: Page, watch: Watch, shared: Daemon) -> None:
    watch.expected.append(REFUSED)
    page.goto("/ui/submit")
    submit(page)
    expect(page.get_by_label("Shell line")).to_have_accessible_description(re.compile("what shall be run"))
    expect(page.get_by_label("Shell line")).to_be_focused()
    page.get_by_label("Shell line").fill("true")
    page.get_by_label("Environment").fill("A=1\nnonsense")
    submit(page)
    expect(page.get_by_label("Environment")).to_have_accessible_description(re.compile("line 2: expected name=value"))
    expect(page.get_by_label("Environment")).to_be_focused()  # before anything is typed elsewhere
    page.get_by_label("Environment").fill("")
    page.get_by_label("Time limit").fill("soon")
    page.get_by_text("Queue and resources").click()
    page.get_by_label("Priority").fill("5000")
    page.get_by_label("Memory").fill("-1")
    submit(page)
    expect(page.get_by_label("Time limit")).to_have_accessible_description(re.compile("valid number"))
    expect(page.get_by_label("Time limit")).to_be_focused()
    expect(page.get_by_label("Priority")).to_have_accessible_description(re.compile("less than or equal to 1000"))
    expect(page.get_by_label("Memory")).to_have_accessible_description(re.compile("greater than or equal to 0"))
    expect(page.get_by_label("Name")).not_to_have_attribute("aria-invalid", "true")


def test_a_double_click_makes_one_task(page: Page, shared: Daemon) -> None:
    page.goto("/ui/submit")
    page.get_by_label("Shell line").fill("true")
    page.get_by_label("Tags").fill("click=double")
    page.get_by_role("button", name="Submit").dblclick()
    page.wait_for_url(TASK)
    assert count(shared, "click=double") == 1


def test_what_is_sent_again_after_a_lost_answer_makes_no_second_task(page: Page, watch: Watch, shared: Daemon) -> None:
    watch.expected.append(NO_CONTACT)

    def lose(route: Route) -> None:
        route.fetch()  # the daemon has it, and its answer is lost
        route.abort()

    page.goto("/ui/submit")
    page.get_by_label("Shell line").fill("true")
    page.get_by_label("Tags").fill("answer=lost")
    page.route("**/v1/tasks", lose)
    submit(page)
    expect(page.get_by_role("alert")).to_contain_text("no second one is made")
    assert count(shared, "answer=lost") == 1
    page.unroute("**/v1/tasks")
    submit(page)
    made(page, shared)
    assert count(shared, "answer=lost") == 1


def test_a_template_with_its_parameters(page: Page, watch: Watch, shared: Daemon) -> None:
    watch.expected.append(REFUSED)
    assert shared.http.put("/v1/templates/build", json=TEMPLATE).is_success
    page.goto("/ui/templates")
    page.get_by_label("use build").click()
    page.wait_for_url("**/ui/submit?template=build")
    expect(page.get_by_label("jobs")).to_have_value("2")
    expect(page.get_by_label("branch")).to_have_accessible_description(re.compile("which one"))
    page.get_by_label("branch").fill("Not Good")
    page.get_by_label("jobs").fill("99")
    submit(page)
    expect(page.get_by_label("branch")).to_have_accessible_description(re.compile("does not match"))
    expect(page.get_by_label("jobs")).to_have_accessible_description(re.compile("16 or less"))
    expect(page.get_by_label("mode")).to_have_accessible_description(re.compile("required"))
    expect(page.get_by_label("branch")).to_be_focused()  # before anything is typed elsewhere
    page.get_by_label("branch").fill("main")
    page.get_by_label("jobs").fill("4")
    page.get_by_label("mode").select_option("slow")
    page.get_by_label("clean").check()
    submit(page)
    task = made(page, shared)
    shared.wait(task["taskId"])
    assert task["template"] == "build"
    assert shared.output(task["taskId"]) == b"main 4 slow true\n"


def test_json_with_its_faults_and_its_fields(page: Page, watch: Watch, shared: Daemon) -> None:
    watch.expected.append(REFUSED)
    page.goto("/ui/submit?tab=json")
    text = page.get_by_label("Task", exact=True)
    text.fill('{\n  "command": ["true"],\n  nonsense\n}')
    expect(text).to_have_accessible_description(re.compile("line 3, column 3"))
    text.fill('{"command": ["true"], "timeoutSecond": 5}')
    submit(page)
    expect(page.get_by_role("alert")).to_contain_text("timeoutSecond: no such field; did you mean 'timeoutSeconds'?")
    page.get_by_label("Filter fields").fill("polite")
    fields = page.get_by_label("Fields and their meaning")
    expect(fields).to_contain_text("stopSignal")
    expect(fields).to_contain_text("the polite signal of a stop")
    expect(fields).not_to_contain_text("timeoutSeconds")
    text.fill(json.dumps({"actions": [{"machine": "echo", "parameters": ["echo done"]}]}))
    submit(page)
    assert made(page, shared)["spec"]["actions"] == [{"machine": "echo", "parameters": ["echo done"]}]


def test_an_earlier_task_run_again_as_new(page: Page, shared: Daemon) -> None:
    plain = shared.submit("echo", "once more", name="earlier", tags={"a": "b"}, alias="taken", priority=2)
    odd = shared.submit(machine="echo", parameters=["echo odd"], stall={"afterSeconds": 60})
    page.goto(f"/ui/submit?again={plain}")
    expect(page.get_by_label("Program and arguments")).to_have_value("echo\nonce more")
    submit(page)
    task = made(page, shared)
    before = shared.task(plain)
    assert task["taskId"] != plain
    assert task["spec"] == {name: value for name, value in before["spec"].items() if name != "alias"}
    page.goto(f"/ui/submit?again={odd}")
    expect(page.get_by_label("Task", exact=True)).to_have_value(re.compile("echo odd"))  # the fields could not say it
    submit(page)
    assert made(page, shared)["spec"] == shared.task(odd)["spec"]


def test_tabs_by_keyboard_and_from_fields_to_json(page: Page, shared: Daemon) -> None:
    page.goto("/ui/submit")
    page.get_by_label("Shell line").fill("true")
    page.get_by_role("tab", name="Command").focus()
    page.keyboard.press("ArrowRight")
    expect(page.get_by_role("tab", name="Template")).to_be_focused()
    page.keyboard.press("ArrowRight")
    page.wait_for_url("**/ui/submit?*tab=json*")
    page.keyboard.press("Home")
    page.get_by_role("button", name="As JSON").press("Enter")
    expect(page.get_by_label("Task", exact=True)).to_have_value('{\n  "shell": "true"\n}')


def test_who_may_only_use_templates_sees_only_these(browse: Browse, shared: Daemon) -> None:
    assert shared.http.put("/v1/templates/build", json=TEMPLATE).is_success
    token = shared.post("/v1/tokens", {"name": "user", "scopes": ["read", "submit-template"]}).json()["token"]
    page = browse(shared, "/ui/submit", token=token)
    expect(page.get_by_role("tab")).to_have_text(["Template"])
    page.goto("/ui/templates")
    expect(page.get_by_label("use build")).to_be_visible()
    assert page.get_by_role("button", name=re.compile("template|change|delete", re.IGNORECASE)).count() == 0


def test_a_template_is_made_changed_and_deleted(page: Page, watch: Watch, shared: Daemon) -> None:
    watch.expected.append(REFUSED)
    page.goto("/ui/templates")
    page.get_by_role("button", name="New template").click()
    page.get_by_label("Name", exact=True).fill("says")
    text = page.get_by_label("Template, as JSON")
    text.fill('{"parameters": {"word": {}}, "task": {"shell": "echo \\"${word}\\""}}')
    page.get_by_role("button", name="Keep").click()
    expect(page.get_by_role("alert")).to_contain_text("task.shell")  # a placeholder inside quotes
    text.fill('{"parameters": {"word": {}}, "task": {"command": ["echo", "${word}"]}}')
    page.get_by_role("button", name="Keep").click()
    expect(page.locator('tr[data-name="says"]')).to_contain_text("word")
    page.get_by_label("change says").click()
    expect(text).to_have_value(re.compile("word"))
    text.fill('{"description": "changed", "task": {"command": ["true"]}}')
    page.get_by_role("button", name="Keep").click()
    page.get_by_role("dialog").get_by_role("button", name="Replace").click()
    expect(page.locator('tr[data-name="says"]')).to_contain_text("changed")
    page.get_by_label("delete says").click()
    page.get_by_role("dialog").get_by_role("button", name="Delete").click()
    expect(page.locator('tr[data-name="says"]')).to_have_count(0)
    wait_for(lambda: shared.http.get("/v1/templates/says").status_code == 404, "it is gone")
