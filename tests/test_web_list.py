"""The list of tasks in the page: filters that live in the address, changes as they happen, and what is done from it."""

# ruff: noqa: F811  fixtures are imported where they are used
from __future__ import annotations

import re
import time
from collections.abc import Callable

import pytest
from conftest import Daemon, wait_for
from playwright.sync_api import Page, Request, expect
from webpage import NO_CONTACT, PHONE, REFUSED, Browse, Held, Watch, browse, chromium, eventually, page, watch  # noqa: F401

pytestmark = pytest.mark.needs("chromium")


def rows(page: Page) -> list[str]:
    """The ids of the tasks shown, in one look: a row may go while it is asked."""
    return list(page.evaluate("[...document.querySelectorAll('table.tasks tbody tr')].map((row) => row.dataset.id)"))


def row(page: Page, task_id: str):
    return page.locator(f'tr[data-id="{task_id}"]')


def badge(page: Page, task_id: str):
    """Its state; one that is slow to say that it runs has a second badge for a while."""
    return row(page, task_id).locator(".badge").first


def test_filters_live_in_the_address(page: Page, shared: Daemon) -> None:
    wanted = shared.submit("sh", "-c", "exit 3", name="filtered", tags={"branch": "main"})
    others = [
        shared.submit("true", name="not filtered", tags={"branch": "main"}),
        shared.submit("sh", "-c", "exit 3", tags={"branch": "other"}),
    ]
    assert {shared.wait(each)["outcome"] for each in (wanted, *others)} == {"failed", "succeeded"}
    page.goto("/ui/")
    page.get_by_label("Outcome").select_option("failed")
    page.get_by_text("More filters").click()
    page.get_by_label("Tag", exact=True).fill("branch=main")
    page.get_by_role("button", name="Add").click()
    page.wait_for_url("**/ui/?outcome=failed&tag=branch%3Dmain")
    eventually(page, "document.querySelectorAll('table.tasks tbody tr').length === 1")
    assert rows(page) == [wanted]
    page.reload()
    expect(row(page, wanted)).to_be_visible()
    assert rows(page) == [wanted]
    expect(page.get_by_label("Outcome")).to_have_value("failed")
    page.get_by_label("remove tag: branch=main").click()
    page.wait_for_url("**/ui/?outcome=failed")
    page.get_by_role("button", name="Clear filters").click()
    page.wait_for_url(re.compile(r"/ui/$"))


def test_what_is_typed_is_searched_for(page: Page, shared: Daemon) -> None:
    wanted = shared.submit("echo", "needle-in-a-spec")
    page.goto("/ui/")
    expect(row(page, wanted)).to_be_visible()
    page.keyboard.press("/")
    page.keyboard.type("Needle-in")
    page.wait_for_url("**/ui/?q=Needle-in")
    eventually(page, "document.querySelectorAll('table.tasks tbody tr').length === 1")
    assert rows(page) == [wanted]
    page.go_back()  # typing makes no entries in the history
    assert "/ui/" not in page.url


def test_a_filter_that_the_daemon_refuses_is_told(page: Page, watch: Watch, shared: Daemon) -> None:
    watch.expected.append(REFUSED)
    page.goto("/ui/?state=runing")
    expect(page.get_by_role("alert")).to_contain_text("runing")


def test_new_tasks_and_changes_appear_by_themselves(page: Page, shared: Daemon) -> None:
    page.goto("/ui/?entity=live")
    expect(page.get_by_text("No task fits")).to_be_visible()
    task = shared.submit("sleep", "1000", entity="live", name="lives")
    waiting = shared.submit("true", entity="live")
    expect(badge(page, task)).to_have_text("running")
    expect(row(page, waiting)).to_contain_text("entity")  # why it waits
    expect(row(page, task).locator('[data-title="memory"]')).to_contain_text("MiB")
    expect(row(page, task).locator('[data-title="CPU"]')).to_have_text("0 %")
    shared.post(f"/v1/tasks/{task}/stop")
    expect(badge(page, task)).to_have_text("cancelled")
    expect(badge(page, waiting)).to_have_text("succeeded")
    assert rows(page) == [waiting, task]


def test_a_task_that_leaves_the_filter_leaves_the_list(page: Page, shared: Daemon) -> None:
    task = shared.submit("sleep", "1000", entity="leaves")
    shared.wait_state(task, "running")
    page.goto("/ui/?entity=leaves&state=running")
    expect(row(page, task)).to_be_visible()
    shared.post(f"/v1/tasks/{task}/stop")
    expect(row(page, task)).to_have_count(0)
    task = shared.submit("sleep", "1000", entity="leaves")
    expect(row(page, task)).to_be_visible()
    shared.post(f"/v1/tasks/{task}/stop")


def test_progress_is_shown(page: Page, shared: Daemon) -> None:
    task = shared.submit(shell='echo "40 half way" > $TASK_RUNNER_PROGRESS; sleep 1000', progress=True, name="gets on")
    page.goto("/ui/?q=gets+on")
    expect(row(page, task).get_by_text("40 %").last).to_be_visible()
    shared.post(f"/v1/tasks/{task}/stop")


def test_several_are_stopped_retried_and_deleted_from_the_list(page: Page, shared: Daemon) -> None:
    tasks = [shared.submit("sleep", "1000", tags={"several": "yes"}) for _ in range(2)]
    over = shared.submit("true", tags={"several": "yes"})
    shared.wait(over)
    [shared.wait_state(each, "running") for each in tasks]
    page.goto("/ui/?tag=several%3Dyes")
    page.get_by_label("select all shown").check()
    bar = page.get_by_role("group", name="Selected tasks")
    expect(bar).to_contain_text("3 tasks selected")
    bar.get_by_role("button", name="Stop").click()
    dialog = page.get_by_role("dialog")
    expect(dialog).to_contain_text("Stop 2 tasks?")
    expect(dialog).to_contain_text("1 selected task is left out")
    dialog.get_by_role("button", name="Cancel").click()
    assert {shared.task(each)["state"] for each in tasks} == {"running"}
    bar.get_by_role("button", name="Stop").click()
    dialog.get_by_role("button", name="Stop").click()
    for each in tasks:
        expect(badge(page, each)).to_have_text("cancelled")
        assert shared.task(each)["outcome"] == "cancelled"
    expect(bar).to_have_count(0)  # only now has the page had its answers: events may be faster
    page.get_by_label(f"select {over}").check()
    bar.get_by_role("button", name="Retry").click()
    dialog.get_by_role("button", name="Retry").click()
    wait_for(lambda: (t := shared.task(over))["attempt"] == 2 and t["outcome"], "it has run once more")
    expect(bar).to_have_count(0)
    page.get_by_label("select all shown").check()
    bar.get_by_role("button", name="Delete").click()
    dialog.get_by_role("button", name="Delete").click()
    expect(page.get_by_text("No task fits")).to_be_visible()
    assert shared.http.get(f"/v1/tasks/{over}").status_code == 404


def test_pause_and_resume_from_the_list(page: Page, shared: Daemon) -> None:
    task = shared.submit("sleep", "1000", name="is frozen")
    shared.wait_state(task, "running")
    page.goto("/ui/?q=is+frozen")
    bar = page.get_by_role("group", name="Selected tasks")
    for verb, word in (("Pause", "paused"), ("Resume", "running")):
        page.get_by_label("select is frozen").check()
        bar.get_by_role("button", name=verb).click()
        page.get_by_role("dialog").get_by_role("button", name=verb).click()
        expect(badge(page, task)).to_have_text(word)
        assert shared.task(task)["state"] == word
        expect(bar).to_have_count(0)
    shared.post(f"/v1/tasks/{task}/stop")


def test_by_keyboard_alone(page: Page, shared: Daemon) -> None:
    tasks = [shared.submit("true", tags={"by": "keys"}, name=f"key {i}") for i in range(3)][::-1]
    page.goto("/ui/?tag=by%3Dkeys")
    expect(row(page, tasks[0])).to_be_visible()
    page.keyboard.press("j")
    page.keyboard.press("ArrowDown")
    page.keyboard.press("x")
    expect(page.get_by_label("select key 1")).to_be_checked()
    page.keyboard.press("k")
    expect(page.get_by_role("link", name="key 2")).to_be_focused()
    page.keyboard.press("Escape")
    expect(page.get_by_label("select key 1")).not_to_be_checked()
    page.keyboard.press("?")
    expect(page.get_by_role("dialog", name="Keys")).to_contain_text("next task")
    page.keyboard.press("Escape")
    expect(page.get_by_role("dialog")).to_have_count(0)
    page.get_by_role("link", name="key 2").focus()
    page.keyboard.press("Enter")
    page.wait_for_url(f"**/ui/tasks/{tasks[0]}")
    page.keyboard.press("6")
    page.wait_for_url("**/ui/submit")


def test_who_may_only_look_is_offered_nothing_else(browse: Browse, shared: Daemon) -> None:
    made = shared.post("/v1/tokens", {"name": "looker", "scopes": ["read"]}).json()
    shared.submit("true")
    page = browse(shared, "/ui/", token=made["token"])
    expect(page.locator("table.tasks tbody tr").first).to_be_visible()
    assert page.locator("table.tasks input").count() == 0


def test_on_a_phone_rows_are_cards_and_nothing_sticks_out(browse: Browse, shared: Daemon) -> None:
    shared.submit("echo", "x" * 300, name="wide", tags={f"key{i}": "value" for i in range(6)}, entity="some-entity")
    page = browse(shared, "/ui/", **PHONE)
    expect(page.get_by_role("link", name="wide")).to_be_visible()
    assert page.evaluate("document.documentElement.scrollWidth") == 390
    assert page.evaluate("Math.max(...[...document.querySelectorAll('table.tasks td')].map((e) => e.getBoundingClientRect().right))") <= 390


def test_two_thousand_tasks_and_a_killed_daemon(browse: Browse, watch: Watch, make_daemon: Callable[..., Daemon]) -> None:
    daemon = make_daemon().start()
    daemon.post("/v1/node/drain")
    batch = daemon.post("/v1/batches", {"tasks": [{"command": ["true"]}] * 2000}).json()["batchId"]
    page = browse(daemon, "/ui/")
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    eventually(page, "document.querySelectorAll('table.tasks tbody tr').length === 100")
    first = rows(page)
    page.get_by_role("button", name="Older").click()
    page.wait_for_url("**/ui/?cursor=*")
    eventually(page, "(id) => document.querySelector('table.tasks tbody tr').dataset.id !== id", first[0])
    assert not set(rows(page)) & set(first)
    page.get_by_role("button", name="Newest").click()
    eventually(page, "(id) => document.querySelector('table.tasks tbody tr').dataset.id === id", first[0])
    # the daemon dies, and what happens until the next one is there, nobody tells
    watch.expected.append(NO_CONTACT)
    watch.expected.append(REFUSED)
    daemon.kill()
    expect(page.get_by_text("No contact with the daemon")).to_be_visible()
    daemon.restart()
    daemon.post(f"/v1/tasks/{first[0]}/stop")
    newest = daemon.submit("true", name="the newest")
    expect(row(page, newest)).to_be_visible()
    expect(badge(page, first[0])).to_have_text("cancelled")
    expect(page.get_by_text("No contact with the daemon")).to_have_count(0)
    # a storm of changes makes no storm of requests, however long it lasts here
    asked.clear()
    begun = time.monotonic()
    assert daemon.post(f"/v1/batches/{batch}/stop?wait=60").json()["numTasksCancelled"] == 2000
    eventually(page, "document.querySelectorAll('table.tasks .badge.cancelled').length === 99")
    listed = [each["taskId"] for each in daemon.http.get("/v1/tasks", params={"order": "desc", "limit": 100}).json()]
    wait_for(lambda: rows(page) == listed, "the list is that of the daemon")
    assert len(asked) < 20 + 2 * (time.monotonic() - begun), asked


def test_a_burst_of_strange_tasks_waits_while_somebody_reads(page: Page, shared: Daemon) -> None:
    task = shared.submit("true", entity="burst")
    unanswered: set[Request] = set()
    page.on("request", lambda request: "/v1/tasks?" in request.url and unanswered.add(request))
    for end in ("requestfinished", "requestfailed"):
        page.on(end, lambda request: unanswered.discard(request))
    page.goto("/ui/?entity=burst")
    page.get_by_label(f"select {task}").check()  # who has selected something shall keep what they see
    # when its stream begins, the page looks at everything once more, whoever reads: an event tells that it has begun
    shared.wait(task)
    retried = shared.post(f"/v1/tasks/{task}/retry")
    assert retried.is_success, retried.text
    expect(row(page, task)).to_contain_text("\u00d72")
    wait_for(lambda: page.evaluate("true") and not unanswered, "it has looked")
    shared.post("/v1/batches", {"tasks": [{"command": ["true"], "entity": "burst"}] * 30})
    expect(page.get_by_text("30 other tasks have changed")).to_be_visible()
    assert rows(page) == [task]
    page.get_by_role("button", name="Show").click()
    eventually(page, "document.querySelectorAll('table.tasks tbody tr').length === 31")
    assert rows(page)[-1] == task


@pytest.mark.parametrize("noticed", [False, True], ids=["the answer first", "noticed before the answer"])
def test_a_sign_out_that_could_not_be_stored_says_so(page: Page, watch: Watch, shared: Daemon, noticed: bool) -> None:
    watch.expected += [REFUSED, NO_CONTACT]  # its streams are cut off
    page.goto("/ui/")
    held = Held(page, "**/ui/logout")
    page.get_by_role("button", name="Sign out").click()
    held.wait()  # the session has ended all the same
    if noticed:  # its stream is refused: the page asks to sign in before it knows the answer
        expect(page.get_by_role("heading", name="Sign in")).to_be_visible()
    held.release({"status": 507, "detail": "signed out, but that could not be stored"}, status=507)
    expect(page.get_by_role("heading", name="Sign in")).to_be_visible()
    expect(page.get_by_role("alert")).to_contain_text("could not be stored")
    page.get_by_label("Token").fill(shared.token)
    page.get_by_role("button", name="Sign in").click()
    expect(page.get_by_role("button", name="Sign out")).to_be_visible()
    page.context.clear_cookies()
    # by script: the page may notice by itself just now, and then the link is gone; to a page that is not shown yet, since
    # the link of one that is asks for nothing
    page.evaluate("document.querySelector('a[href=\"/ui/node\"]')?.click()")
    expect(page.get_by_role("heading", name="Sign in")).to_be_visible()
    expect(page.get_by_role("alert")).to_have_count(0)  # that was another session
