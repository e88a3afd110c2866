"""The page of one task, in a real browser. Its log: test_web_log.py."""

from __future__ import annotations

import json
import os
import re
import signal

import pytest
from conftest import Daemon, wait_for
from playwright.sync_api import Page, Route, expect
from webpage import REFUSED, Browse, Held, Watch, browse, chromium, page, watch  # noqa: F401  fixtures

pytestmark = pytest.mark.needs("chromium")

STUBBORN = "trap '' TERM; echo ready; while :; do sleep 0.05; done"


def show(page: Page, task_id: str, query: str = "") -> None:  # noqa: F811
    page.goto(f"/ui/tasks/{task_id}{query}")
    expect(page.locator(".heading .badge").first).to_be_visible()


def badge(page: Page, word: str) -> None:  # noqa: F811
    expect(page.locator(".heading .badge").first).to_have_text(word)


def press(page: Page, name: str) -> None:  # noqa: F811
    page.get_by_role("button", name=name, exact=True).click()


def fact(page: Page, name: str, value: str | re.Pattern[str]) -> None:  # noqa: F811
    term = page.locator(".facts > div").filter(has=page.locator("dt", has_text=re.compile(f"^{name}$")))
    expect(term.locator("dd").first).to_have_text(value)


def test_a_stop_asks_how_and_its_receipt_says_what_it_did(shared: Daemon, page: Page) -> None:  # noqa: F811
    task_id = shared.submit(shell=STUBBORN)
    shared.wait_output(task_id, b"ready")
    show(page, task_id)
    page.keyboard.press("s")
    page.get_by_role("button", name="Cancel", exact=True).click()
    expect(page.get_by_role("dialog")).to_have_count(0)
    assert shared.task(task_id)["state"] == "running"
    press(page, "Stop…")
    page.get_by_label("Signal").select_option("SIGTERM")
    page.get_by_label("Grace in seconds").fill("0.2")
    press(page, "Stop the task")
    badge(page, "cancelled")
    fact(page, "Ended", "ended by SIGKILL")
    page.get_by_role("tab", name="Receipt of the stop").click()
    panel = page.get_by_role("tabpanel")
    expect(panel).to_contain_text("Got the signal: ")
    expect(panel).to_contain_text("Killed: ")
    expect(panel).to_contain_text("Nothing of it is alive.")
    assert "tab=receipt" in page.url
    assert shared.task(task_id)["receipt"]["graceSeconds"] == 0.2


def test_a_task_is_paused_resumed_signalled_and_tried_again(shared: Daemon, page: Page) -> None:  # noqa: F811
    task_id = shared.submit(shell="trap 'echo got HUP; exit 4' HUP; echo ready; while :; do sleep 0.05; done")
    shared.wait_output(task_id, b"ready")
    show(page, task_id)
    press(page, "Pause")
    badge(page, "paused")
    press(page, "Resume")
    badge(page, "running")
    press(page, "Signal…")
    press(page, "Send")
    badge(page, "failed")
    fact(page, "Ended", "exit code 4")
    expect(page.locator(".log")).to_contain_text("got HUP")
    press(page, "Retry")
    badge(page, "running")
    expect(page.locator(".log .line")).to_have_text(["ready"])
    # the first attempt is still to be seen
    page.get_by_role("tab", name="Attempts").click()
    press(page, "Attempt 1")
    expect(page.locator(".log .line")).to_have_text(["ready", "got HUP"])
    expect(page.locator(".actions")).to_contain_text("exit code 4")
    assert "attempt=1" in page.url
    page.go_back()
    expect(page.locator(".log .line")).to_have_text(["ready"])


def test_a_task_is_deleted_after_a_question(shared: Daemon, page: Page) -> None:  # noqa: F811
    task_id = shared.submit("true")
    shared.wait(task_id)
    show(page, task_id)
    press(page, "Delete…")
    press(page, "Cancel")
    assert shared.task(task_id)["outcome"] == "succeeded"
    press(page, "Delete…")
    press(page, "Delete the task")
    page.wait_for_url("**/ui/")
    assert shared.http.get(f"/v1/tasks/{task_id}").status_code == 404


def test_a_deleted_task_is_not_asked_for_though_its_page_is_still_there(shared: Daemon, page: Page) -> None:  # noqa: F811
    """The news of it may come before the answer, and the next page takes a while to load."""
    task_id = shared.submit("true")
    shared.wait(task_id)
    show(page, task_id)
    deletion, next_page = Held(page, f"**/v1/tasks/{task_id}", "DELETE"), Held(page, "**/pages/tasks.js")
    press(page, "Delete…")
    press(page, "Delete the task")
    deletion.wait()
    expect(page.get_by_role("alert")).to_have_text("the task has been deleted")
    deletion.release()
    next_page.wait()
    next_page.release()
    expect(page.get_by_role("heading", level=1)).to_have_text("Tasks")


def test_a_late_answer_does_not_undo_what_is_known_since(shared: Daemon, page: Page) -> None:  # noqa: F811
    task_id = shared.submit(shell="trap '' TERM; echo ready; exec sleep 1000")
    shared.wait_output(task_id, b"ready")
    show(page, task_id)
    held = Held(page, "**/stop")
    press(page, "Stop…")
    press(page, "Stop the task")
    assert held.wait()["state"] == "stopping"
    [sleep] = shared.alive(task_id)
    os.kill(sleep.pid, signal.SIGKILL)
    badge(page, "cancelled")
    with page.expect_response(f"**/v1/tasks/{task_id}"):  # how it is after the answer
        held.release()
    badge(page, "cancelled")
    expect(page.get_by_role("button", name="Retry")).to_be_visible()


def test_who_may_only_read_is_offered_nothing_else(shared: Daemon, browse: Browse) -> None:  # noqa: F811
    task_id = shared.submit(shell="echo secret words")
    shared.wait(task_id)
    answer = shared.post("/v1/tokens", {"name": "reader", "scopes": ["read"]})
    page = browse(shared, None, token=answer.json()["token"])  # noqa: F811
    show(page, task_id)
    expect(page.get_by_role("tab", name="Explain")).to_be_visible()
    for name in ("Delete…", "Retry", "Stop…"):
        assert page.get_by_role("button", name=name).count() == 0
    assert page.get_by_role("tab", name="Files").count() == 0
    assert page.locator(".log").count() == 0
    assert "secret words" not in page.locator("main").inner_text().replace("echo secret words", "")


def test_the_page_is_live(shared: Daemon, page: Page) -> None:  # noqa: F811
    actions = [
        {"machine": "process", "parameters": {"shell": "until [ -e go ]; do sleep 0.05; done"}, "name": "waits"},
        {"machine": "process", "parameters": {"shell": "exit 3"}, "name": "fails"},
        {"machine": "process", "parameters": {"command": ["true"]}},
    ]
    task_id = shared.submit(actions=actions, name="a name", tags={"by": "hand"}, entity="gs-live")
    behind = shared.submit("true", entity="gs-live")
    show(page, task_id)
    expect(page.get_by_role("heading", level=1)).to_have_text("a name")
    badge(page, "running")
    fact(page, "Memory now", re.compile("MiB|KiB"))
    fact(page, "Tags", "by=hand")
    rows = page.locator(".actions li")
    expect(rows.nth(0)).to_contain_text("running")
    expect(rows.nth(1)).not_to_contain_text("exit code")
    (shared.work(task_id) / "go").touch()
    badge(page, "failed")
    expect(rows.nth(1)).to_contain_text("exit code 3")
    expect(rows.nth(0).locator(".bar span")).to_have_class("succeeded")
    fact(page, "Ended", "exit code 3")
    shared.wait(behind)


def test_a_rate_is_what_lies_between_two_looks_of_the_daemon(page: Page) -> None:  # noqa: F811
    """And unknown where there are none; 0 only where the daemon looked and found no change."""
    page.goto("/ui/")
    found = page.evaluate(
        """async () => {
          const { Uses } = await import("/ui/static/core/use.js");
          let now = 0;
          const uses = new Uses(() => now);
          const rates = [];
          const hear = (kind, data) => {
            uses.hear(kind, data);
            rates.push(["busy", "idle", "hidden"].map((id) => uses.of(id)?.cpus));
          };
          const look = (at, tasks) => hear("use", { monotonicSeconds: at, tasks });
          look(100, { busy: [10, 1, 1, 1], idle: [5, 1, 1, 1], hidden: [null, null, null, null] });
          look(102, { busy: [13, 1, 1, 1] });
          look(104, {});
          look(106, { busy: [14, 1, 1, 1], idle: [5, 2, 1, 1] });
          now = 5; rates.push([uses.of("idle").cpus]);
          now = 7; rates.push([uses.of("idle").cpus, uses.of("idle").rssBytes]);
          look(108, { busy: [2, 1, 1, 1] }); // another attempt
          hear("state", { taskId: "idle", state: "pending" });
          hear("gone", { tasks: ["hidden"] });
          look(110, { idle: [1, 1, 1, 1] });
          hear("stream", {});
          look(300, { busy: [50, 1, 1, 1] });
          return JSON.stringify(rates);
        }"""
    )
    nothing = [None, None, None]
    assert json.loads(found) == [
        nothing, [1.5, 0, None], [0, 0, None], [0.5, 0, None], [0], [None, 2],
        [None, 0, None], [None, None, None], [None, None, None], [0, None, None], nothing, nothing,
    ]  # fmt: skip


def test_long_words_do_not_stick_out(shared: Daemon, browse: Browse) -> None:  # noqa: F811
    tags = {"key" + "y" * 50: "v" * 100, "branch": "feature/" + "q" * 60}
    task_id = shared.submit("echo", "x" * 300, name="n" * 200, entity="e" * 120, tags=tags)
    shared.wait(task_id)
    page = browse(shared, None, viewport={"width": 390, "height": 800})  # noqa: F811
    for address in (f"/ui/tasks/{task_id}", "/ui/?entity=" + "e" * 120):
        page.goto(address)
        tag = page.locator(".tag", has_text="branch=")
        expect(tag).to_be_visible()
        box = tag.bounding_box()
        assert box is not None and box["x"] + box["width"] <= 390
        assert page.evaluate("document.documentElement.scrollWidth") <= 390


def test_what_a_task_waits_for_is_said_and_it_can_be_cancelled(shared: Daemon, page: Page) -> None:  # noqa: F811
    holder = shared.submit("sleep", "1000", entity="gs-busy")
    task_id = shared.submit("true", entity="gs-busy")
    show(page, task_id)
    badge(page, "pending")
    expect(page.locator(".note").first).to_contain_text("gs-busy")
    expect(page.get_by_role("tabpanel").get_by_role("link", name=holder)).to_be_visible()
    press(page, "Stop…")
    press(page, "Cancel the task")
    badge(page, "cancelled")
    shared.post(f"/v1/tasks/{holder}/stop", {"signal": "SIGKILL"})


def test_a_stalled_task_says_so_and_why(shared: Daemon, page: Page) -> None:  # noqa: F811
    task_id = shared.submit("sleep", "1000", stall={"afterSeconds": 0.3})
    show(page, task_id)
    expect(page.locator(".heading .badge.stalled")).to_be_visible()
    expect(page.locator(".note.warning")).to_contain_text("Stalled since")
    fact(page, "Processor now", "0.00 of a CPU")
    shared.post(f"/v1/tasks/{task_id}/stop", {"signal": "SIGKILL"})


def test_explain_is_shown_in_words(shared: Daemon, page: Page) -> None:  # noqa: F811
    task_id = shared.submit(shell="echo on; sleep 1000; true")
    shared.wait_output(task_id, b"on")
    show(page, task_id)
    panel = page.get_by_role("tabpanel")
    expect(panel.locator("table")).to_contain_text("sleep 1000")
    expect(panel.locator("table")).to_contain_text("(the runner)")
    fact(page, "At action", re.compile("^1 of 1"))
    shared.post(f"/v1/tasks/{task_id}/stop", {"signal": "SIGKILL"})
    badge(page, "cancelled")
    expect(panel.locator(".summary")).to_contain_text("It ended")
    expect(panel.locator("table")).to_have_count(0)


def test_files_are_listed_shown_and_fetched(shared: Daemon, page: Page) -> None:  # noqa: F811
    task_id = shared.submit(shell="mkdir 'a b'; echo '<b>text</b>' > 'a b/note.txt'; head -c 100 /dev/zero > binary; ln -s binary link")
    shared.wait(task_id)
    show(page, task_id, "?tab=files")
    panel = page.get_by_role("tabpanel")
    expect(panel).to_contain_text("link → binary")
    panel.get_by_role("button", name="binary", exact=True).click()
    expect(panel).to_contain_text("This file is not text.")
    panel.get_by_role("button", name="a b/").click()
    panel.get_by_role("button", name="note.txt", exact=True).click()
    expect(panel.locator("pre")).to_have_text("<b>text</b>\n")
    with page.expect_download() as download:
        panel.get_by_role("link", name="Download a b/note.txt").click()
    assert download.value.path().read_bytes() == b"<b>text</b>\n"
    assert download.value.suggested_filename == "note.txt"
    with page.expect_download() as archive:
        panel.get_by_role("link", name="zip").click()
    assert archive.value.path().read_bytes().startswith(b"PK")
    page.go_back()
    expect(panel.get_by_role("button", name="binary", exact=True)).to_be_visible()


def test_more_of_a_folder_does_not_come_into_another(shared: Daemon, page: Page) -> None:  # noqa: F811
    task_id = shared.submit(shell="mkdir 0; touch 0/inside; seq 600 | xargs touch")
    shared.wait(task_id)
    show(page, task_id, "?tab=files")
    panel = page.get_by_role("tabpanel")
    further = panel.locator("button", has_text=re.compile("^More$"))  # among so many, roles are slow to be found
    expect(panel.locator("tbody tr")).to_have_count(500)
    more: list[Route] = []
    page.route(re.compile(rf"/v1/tasks/{task_id}/files\?"), lambda route: more.append(route))
    further.click()
    wait_for(lambda: page.evaluate("1") and more, "more is asked for")
    panel.locator("button", has_text=re.compile("^0/$")).click()
    expect(panel.locator("tbody tr")).to_have_count(1)
    with page.expect_response(re.compile(r"/files\?")) as answered:
        more[0].continue_()
    answered.value.finished()
    page.evaluate("new Promise((drawn) => requestAnimationFrame(() => requestAnimationFrame(drawn)))")
    expect(panel.locator("tbody tr")).to_have_count(1)
    expect(panel.get_by_role("button", name="inside", exact=True)).to_be_visible()
    page.unroute_all()
    page.go_back()
    further.click()
    expect(panel.locator("tbody tr")).to_have_count(601)


def test_events_and_spec_are_shown_and_tabs_go_by_keyboard(shared: Daemon, page: Page) -> None:  # noqa: F811
    task_id = shared.submit(shell="exit 5", metadata={"ticket": 17})
    shared.wait(task_id)
    show(page, task_id)
    page.get_by_role("tab", name="Explain").focus()
    page.keyboard.press("ArrowLeft")
    panel = page.get_by_role("tabpanel")
    expect(panel.get_by_label("Spec as JSON")).to_contain_text("exit 5")
    expect(panel.get_by_label("Metadata as JSON")).to_contain_text("17")
    page.keyboard.press("ArrowLeft")
    expect(page.get_by_role("tab", name="Events")).to_be_focused()
    expect(panel.locator(".history li").last).to_contain_text("exit code 5")


def test_a_task_that_is_not_there_is_said_to_be_so(shared: Daemon, browse: Browse, watch: Watch) -> None:  # noqa: F811
    watch.expected += [REFUSED]
    page = browse(shared, "/ui/tasks/0123456789abcdef")  # noqa: F811
    expect(page.get_by_role("alert")).to_contain_text("there is no task")
