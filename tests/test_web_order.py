"""What comes to the page late, or in another order than usual, takes nothing newer back."""

# ruff: noqa: F811  fixtures are imported where they are used
from __future__ import annotations

import pytest
from conftest import Daemon, wait_for
from playwright.sync_api import Locator, Page, Route, expect
from webpage import NO_CONTACT, REFUSED, Browse, Held, Watch, browse, chromium, eventually, page, watch  # noqa: F401

pytestmark = pytest.mark.needs("chromium")


def row(page: Page, task_id: str) -> Locator:
    return page.locator(f'tr[data-id="{task_id}"]')


def sign_in(page: Page, daemon: Daemon) -> None:
    page.get_by_label("Token").fill(daemon.token)
    page.get_by_role("button", name="Sign in").click()


def busy(route: Route) -> None:
    route.fulfill(status=503, json={"status": 503, "detail": "busy just now"})


def test_an_answer_to_a_control_hides_no_newer_state_and_no_newer_selection(page: Page, shared: Daemon) -> None:
    task, other = (shared.submit("sleep", "1000", entity=f"late {i}", tags={"late": "yes"}) for i in range(2))
    for each in (task, other):
        shared.wait_state(each, "running")
    page.goto("/ui/?tag=late%3Dyes")
    page.get_by_label(f"select {task}").check()
    held = Held(page, f"**/v1/tasks/{task}/pause")
    page.get_by_role("group", name="Selected tasks").get_by_role("button", name="Pause").click()
    page.get_by_role("dialog").get_by_role("button", name="Pause").click()
    answer = held.wait()
    expect(row(page, task).locator(".badge").first).to_have_text("paused")  # by its event
    page.get_by_label(f"select {other}").check()
    held.release({**answer, "state": "running"})  # as it was while the pause was under way
    expect(page.get_by_label(f"select {task}")).not_to_be_checked()
    expect(page.get_by_label(f"select {other}")).to_be_checked()
    expect(row(page, task).locator(".badge").first).to_have_text("paused")
    for each in (task, other):
        shared.post(f"/v1/tasks/{each}/stop")


def test_a_task_that_comes_back_into_the_filter_comes_back_into_the_list(page: Page, shared: Daemon) -> None:
    page.goto("/ui/?entity=comes+back&state=running")
    expect(page.get_by_text("No task fits")).to_be_visible()
    task = shared.submit("sleep", "1000", entity="comes back")
    for _ in range(2):
        expect(row(page, task)).to_be_visible()
        with page.expect_response("**/v1/tasks?*"):  # the list without it
            shared.post(f"/v1/tasks/{task}/pause")
            expect(row(page, task)).to_have_count(0)
        shared.post(f"/v1/tasks/{task}/resume")
    expect(row(page, task)).to_be_visible()
    shared.post(f"/v1/tasks/{task}/stop")


def test_a_list_that_was_asked_for_before_a_task_was_removed_does_not_show_it(page: Page, shared: Daemon) -> None:
    removed, left = (shared.submit("true", tags={"removed": "one"}, name=name) for name in ("removed", "left"))
    for each in (removed, left):
        shared.wait(each)
    page.goto("/ui/?tag=removed%3Done")
    expect(row(page, removed)).to_be_visible()
    held = Held(page, "**/v1/tasks?*")
    page.evaluate("document.dispatchEvent(new Event('visibilitychange'))")  # the page looks again
    answer = held.wait()
    assert {each["taskId"] for each in answer} == {removed, left}
    assert shared.http.delete(f"/v1/tasks/{removed}").is_success
    expect(row(page, removed)).to_have_count(0)
    for each in answer:
        each["name"] += " in the answer"
    held.release(answer)
    expect(row(page, left)).to_contain_text("left in the answer")
    assert row(page, removed).count() == 0


def test_who_has_gone_on_is_not_called_back_by_the_task_that_was_submitted(page: Page, shared: Daemon) -> None:
    page.goto("/ui/submit")
    page.get_by_label("Shell line").fill("true")
    page.get_by_label("Name").fill("submitted late")
    held = Held(page, "**/v1/tasks")
    page.get_by_role("button", name="Submit").click()
    task = held.wait()
    page.get_by_role("link", name="Batches").click()
    expect(page.get_by_role("heading", name="Batches")).to_be_visible()
    page.evaluate(
        "() => { window.said = []; const toast = document.querySelector('.toast');"
        " new MutationObserver(() => said.push(toast.textContent)).observe(toast, {childList: true, characterData: true, subtree: true}); }"
    )
    held.release()
    eventually(page, "said.includes('Task submitted late is accepted.') || location.pathname !== '/ui/batches'")
    assert page.url == f"{shared.url}/ui/batches"
    assert shared.wait(task["taskId"])["outcome"] == "succeeded"


def test_a_page_that_is_being_left_does_not_change_the_address_of_the_next(page: Page, shared: Daemon) -> None:
    page.goto("/ui/")
    search = page.get_by_label("Search", exact=True)
    search.fill("x")
    page.wait_for_url("**/ui/?q=x")
    next_page = Held(page, "**/ui/static/pages/batches.js")
    search.fill("xy")
    page.evaluate("document.querySelector('a[href=\"/ui/batches\"]').click()")
    # what is typed goes to the address after 250 ms: a longer time that begins later is over later
    page.evaluate("new Promise((over) => setTimeout(over, 300))")
    assert page.url == f"{shared.url}/ui/batches"
    next_page.wait()
    next_page.release()
    expect(page.get_by_role("heading", name="Batches")).to_be_visible()
    assert page.url == f"{shared.url}/ui/batches"


def test_who_signs_in_before_the_sign_out_was_answered_stays_signed_in(page: Page, watch: Watch, shared: Daemon) -> None:
    watch.expected += [REFUSED, NO_CONTACT]  # its streams are cut off
    page.add_init_script("window.asked = []; const real = fetch; window.fetch = (...given) => (asked.push(given[0]), real(...given));")
    page.goto("/ui/")
    held = Held(page, "**/ui/logout")
    page.get_by_role("button", name="Sign out").click()
    held.wait()
    sign_in(page, shared)
    expect(page.get_by_role("button", name="Sign in")).to_be_disabled()
    assert not page.evaluate("asked.includes('/ui/login')")  # the answer would take the new cookie away
    held.release()
    expect(page.get_by_role("button", name="Sign out")).to_be_visible()
    page.reload()
    expect(page.get_by_role("button", name="Sign out")).to_be_visible()


def test_a_refusal_of_what_was_asked_before_signs_nobody_out(page: Page, watch: Watch, shared: Daemon) -> None:
    watch.expected += [REFUSED, NO_CONTACT]
    task = shared.submit("true", name="refused late")
    page.goto("/ui/?q=refused+late")
    page.get_by_label("select refused late").check()
    held = Held(page, f"**/v1/tasks/{task}")
    page.get_by_role("group", name="Selected tasks").get_by_role("button", name="Delete").click()
    page.get_by_role("dialog").get_by_role("button", name="Delete").click()
    held.wait()
    page.get_by_role("button", name="Sign out").click()
    sign_in(page, shared)
    expect(page.get_by_role("button", name="Sign out")).to_be_visible()
    held.refuse()
    for name in ("Batches", "Templates"):
        page.get_by_role("link", name=name).click()
        expect(page.get_by_role("heading", name=name)).to_be_visible()


def test_who_has_gone_on_after_signing_in_is_not_called_back(page: Page, shared: Daemon) -> None:
    looks: list[Route] = []

    def second(route: Route) -> None:
        looks.append(route)
        if len(looks) != 2:
            route.continue_()

    page.route("**/ui/session", second)
    page.goto("/ui/login?next=/ui/node")
    wait_for(lambda: page.evaluate("true") and len(looks) == 2, "it is on its way to the next page")
    page.get_by_role("link", name="Batches").click()
    expect(page.get_by_role("heading", name="Batches")).to_be_visible()
    with page.expect_response("**/ui/session"):
        looks[1].continue_()
    page.get_by_role("link", name="Templates").click()
    expect(page.get_by_role("heading", name="Templates")).to_be_visible()
    assert page.url == f"{shared.url}/ui/templates"
    page.go_back()
    expect(page.get_by_role("heading", name="Batches")).to_be_visible()  # and no other was between


def test_a_new_session_does_not_begin_without_contact(page: Page, watch: Watch, shared: Daemon) -> None:
    watch.expected += [REFUSED, NO_CONTACT]
    page.goto("/ui/templates")
    sign_out = Held(page, "**/ui/logout")
    page.get_by_role("button", name="Sign out").click()
    sign_out.wait()
    expect(page.get_by_role("heading", name="Sign in")).to_be_visible()  # its stream is cut off, and then refused
    sign_out.release()
    stream = Held(page, "**/v1/events?*")
    sign_in(page, shared)
    stream.wait()
    expect(page.get_by_role("heading", name="Templates")).to_be_visible()
    assert page.get_by_text("No contact with the daemon").count() == 0
    stream.release()


def test_a_session_that_ends_elsewhere_is_noticed_without_a_click(browse: Browse, watch: Watch, shared: Daemon) -> None:
    watch.expected += [REFUSED, NO_CONTACT]
    secret = shared.post("/v1/tokens", {"name": "ends-elsewhere", "scopes": ["read"]}).json()["token"]
    page = browse(shared, "/ui/templates", token=secret)
    expect(page.get_by_text("No templates yet")).to_be_visible()  # all is there that it asks for
    assert shared.http.delete("/v1/tokens/ends-elsewhere").is_success
    expect(page.get_by_role("heading", name="Sign in")).to_be_visible()


def test_a_page_that_is_being_left_stays_as_it_is(page: Page, shared: Daemon) -> None:
    task = shared.submit("true")
    shared.wait(task)
    page.goto(f"/ui/tasks/{task}?tab=files")
    tab = page.get_by_role("tab", name="Files")
    expect(tab).to_have_attribute("aria-selected", "true")
    page.evaluate(
        "() => { window.seen = []; const look = () => seen.push(document.querySelector('[role=tab][aria-selected=true]')?.dataset.tab);"
        " new MutationObserver(look).observe(document.body, {attributes: true, childList: true, subtree: true}); }"
    )
    next_page = Held(page, "**/ui/static/pages/batches.js")
    page.get_by_role("link", name="Batches").click()
    next_page.wait()
    expect(page.get_by_role("navigation").get_by_role("link", name="Batches")).to_have_attribute("aria-current", "page")
    expect(tab).to_have_attribute("aria-selected", "true")
    next_page.release()
    expect(page.get_by_role("heading", name="Batches")).to_be_visible()
    assert set(page.evaluate("seen")) <= {"files", None}


def test_the_heading_keeps_the_focus_when_the_task_is_there(page: Page, shared: Daemon) -> None:
    task = shared.submit("true", name="has a heading")
    shared.wait(task)
    page.goto("/ui/?q=has+a+heading")
    expect(row(page, task)).to_be_visible()
    held = Held(page, f"**/v1/tasks/{task}")
    row(page, task).get_by_role("link", name="has a heading").click()
    held.wait()
    expect(page.get_by_role("heading", name=f"Task {task}")).to_be_focused()
    held.release()
    expect(page.get_by_role("heading", name="has a heading")).to_be_focused()


def test_a_batch_is_shown_though_much_happens_while_it_is_asked_for(page: Page, shared: Daemon) -> None:
    made = shared.post("/v1/batches", {"tasks": [{"command": ["true"], "executeAt": "2100-01-01T00:00:00Z"}] * 3}).json()
    page.goto(f"/ui/batches/{made['batchId']}")
    expect(page.get_by_role("heading", name=f"Batch {made['batchId']}")).to_be_visible()
    tasks = [each["taskId"] for each in shared.http.get("/v1/tasks", params={"batch": made["batchId"]}).json()]
    held = Held(page, f"**/v1/batches/{made['batchId']}")
    shared.post(f"/v1/tasks/{tasks[0]}/stop")
    held.wait()
    shared.post(f"/v1/tasks/{tasks[1]}/stop")
    # the next look would begin 700 ms after that was heard: a longer time that begins later is over later
    expect(row(page, tasks[1]).locator(".badge").first).to_have_text("cancelled")
    page.evaluate("new Promise((over) => setTimeout(over, 1000))")
    assert len(held.waiting) == 1  # the look before has not been given up
    held.release()
    expect(page.get_by_role("region", name="Summary")).to_contain_text("2 cancelled")


def test_a_history_that_was_refused_once_comes_all_the_same(page: Page, watch: Watch, shared: Daemon) -> None:
    watch.expected.append(REFUSED)
    task = shared.submit("true")
    shared.wait(task)
    page.route(f"**/v1/tasks/{task}/events*", busy, times=1)
    page.goto(f"/ui/tasks/{task}?tab=events")
    expect(page.locator("ol.history")).to_contain_text("succeeded")


def test_a_log_that_could_not_be_read_is_read_later(page: Page, watch: Watch, shared: Daemon) -> None:
    watch.expected.append(REFUSED)
    task = shared.submit("echo", "written")
    shared.wait(task)
    page.route(f"**/v1/tasks/{task}/output*", busy, times=1)
    page.goto(f"/ui/tasks/{task}")
    expect(page.get_by_role("alert")).to_contain_text("busy just now")
    expect(page.get_by_role("log")).to_contain_text("written")
    expect(page.get_by_role("alert")).to_have_count(0)
