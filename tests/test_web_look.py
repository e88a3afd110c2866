"""How every page looks and is used: without violations of axe in light, dark and on a phone, nowhere wider than the
window, by keyboard alone, without an error and without a request to another host."""

# ruff: noqa: F811  fixtures are imported where they are used
from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlsplit

import pytest
from conftest import Daemon
from playwright.sync_api import Browser, BrowserContext, Page, expect
from webpage import PHONE, Browse, Watch, browse, chromium, eventually, sign_in, watch  # noqa: F401  fixtures

pytestmark = pytest.mark.needs("chromium")

VENDOR = Path(__file__).parent / "vendor"
AXE = VENDOR / "axe.min.js"
#: what axe calls best practices, too; `region`: the log and the dialogs are where they are
TAGS = ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice"]
MODES: dict[str, dict[str, Any]] = {
    "light": {"viewport": {"width": 1280, "height": 800}},
    "dark phone": {**PHONE, "color_scheme": "dark"},
}
TEMPLATE = {
    "description": "Builds a branch",
    "parameters": {
        "branch": {"pattern": "[a-z-]+"},
        "mode": {"choices": ["fast", "slow"]},
        "clean": {"type": "boolean", "default": False},
    },
    "task": {"shell": "echo ${branch} ${mode} ${clean}"},
}
LOUD = (
    r"printf 'plain\n\033[31mred\033[0m \033[42;30mon green\033[0m \033[1;34mblue\033[0m\n'; echo a-very-long-word-%s; "
    % ("x" * 300)
)


@pytest.fixture(scope="module")
def pages(shared: Daemon) -> dict[str, tuple[str, str, str]]:
    """By name, each page: its address, its heading, and what is there when it shows what it should."""
    tasks = shared.post(
        "/v1/batches", {"name": "nightly", "tasks": [{"command": ["true"]}, {"shell": "exit 3"}]}
    ).json()
    assert shared.http.put("/v1/templates/build", json=TEMPLATE).is_success
    running = shared.submit(
        shell=LOUD + "sleep 1000", name="game server 1", entity="gs-1", tags={"map": "de-dust", "region": "eu"}
    )
    failed = shared.submit(shell=LOUD + "exit 3", name="fails " + "at-length-" * 12, tags={"suite": "slow"})
    stopped = shared.submit("sleep", "1000", name="stopped")
    shared.submit("true", executeAt="2100-01-31T03:00:00Z", name="much later")
    shared.wait_state(stopped, "running")
    shared.post(f"/v1/tasks/{stopped}/stop")
    for task_id in (failed, stopped, *tasks["tasks"]):
        shared.wait(task_id)
    shared.wait_output(running, b"long-word")
    table, log, batch = "table.tasks tbody tr", ".log .line", f"/ui/batches/{tasks['batchId']}"
    return {
        "list": ("/ui/", "Tasks", table),
        "running": (f"/ui/tasks/{running}", "game server 1", log),
        "ended": (f"/ui/tasks/{failed}?tab=events", "fails at-length", log),
        "files": (f"/ui/tasks/{failed}?tab=files", "fails at-length", log),
        "receipt": (f"/ui/tasks/{stopped}?tab=receipt", "stopped", "text=Got the signal"),
        "spec": (f"/ui/tasks/{stopped}?tab=spec", "stopped", "[role=tabpanel]"),
        "command": ("/ui/submit", "New task", "text=Queue and resources"),
        "template": ("/ui/submit?tab=template&template=build", "New task", "text=branch"),
        "json": ("/ui/submit?tab=json", "New task", "textarea"),
        "batches": ("/ui/batches", "Batches", "table tbody tr"),
        "batch": (batch, "nightly", table),
        "timeline": ("/ui/timeline", "Timeline", "canvas.timeline"),
        "node": ("/ui/node", "Node", "figure canvas"),
        "templates": ("/ui/templates", "Templates", "text=Builds a branch"),
        "nothing": ("/ui/nothing", "Nothing here", "text=There is no page"),
    }


@pytest.fixture(scope="module")
def seen(chromium: Browser, shared: Daemon) -> Iterator[dict[str, BrowserContext]]:
    """A context for each mode, signed in, in which axe is there: the page's own policy is not tried here."""
    contexts = {}
    for mode, options in MODES.items():
        contexts[mode] = context = chromium.new_context(
            base_url=shared.url, bypass_csp=True, reduced_motion="reduce", **options
        )
        context.add_init_script(path=AXE)
    yield contexts
    for context in contexts.values():
        context.close()


def show(page: Page, address: str, ready: str) -> None:
    """Go there as a link of the page does, without loading anything anew."""
    page.evaluate("(to) => { history.pushState(null, '', to); dispatchEvent(new PopStateEvent('popstate')) }", address)
    page.locator(ready).first.wait_for()


def violations(page: Page) -> list[str]:
    """What axe has against a page: the rule, and where."""
    options = {"runOnly": {"type": "tag", "values": TAGS}, "resultTypes": ["violations"]}
    found = page.evaluate("async (options) => (await axe.run(document, options)).violations", options)
    return [
        f"{each['id']}: {node['target']} {node['html'][:160]} {node.get('failureSummary', '')[:300]}"
        for each in found
        for node in each["nodes"]
    ]


def too_wide(page: Page) -> list[str]:
    """What reaches over the right edge of the page, if one has to scroll it sideways."""
    return list(
        page.evaluate("""() => { const width = document.documentElement.clientWidth;
      if (document.documentElement.scrollWidth <= width) return [];
      return [...document.querySelectorAll('body *')].filter((each) => each.getBoundingClientRect().right > width + 1)
        .map((each) => `${each.tagName}.${each.className}`).slice(0, 8) }""")
    )


@pytest.mark.parametrize("mode", MODES)
def test_no_page_has_a_violation(
    seen: dict[str, BrowserContext],
    shared: Daemon,
    pages: dict[str, tuple[str, str, str]],
    watch: Watch,
    mode: str,
) -> None:
    context = seen[mode]
    watch.over(context)
    page = context.new_page()
    watch.expected.append("401")  # nobody is signed in yet
    page.goto("/ui/login")
    page.get_by_label("Token").wait_for()
    found = {"login": (violations(page), too_wide(page))}
    sign_in(context, shared, shared.token)
    page.goto("/ui/")
    titles = {}
    for name, (address, heading, ready) in pages.items():
        show(page, address, ready)
        expect(page.get_by_role("heading", level=1)).to_contain_text(heading)
        page.locator(ready).first.wait_for()  # on this page: the one before may have had the same
        titles[name] = page.title()
        wide = too_wide(page)
        if mode == "dark phone":
            page.set_viewport_size({"width": 320, "height": 700})
            wide += [f"at 320: {each}" for each in too_wide(page)]
            page.set_viewport_size(PHONE["viewport"])
        found[name] = (violations(page), wide)
    assert all(title.endswith(" · Task Runner") and pages[name][1] in title for name, title in titles.items()), titles
    show(page, pages["running"][0], pages["running"][2])
    page.keyboard.press("s")
    page.get_by_role("dialog").wait_for()
    found["dialog"] = (violations(page), too_wide(page))
    page.keyboard.press("Escape")
    expect(page.get_by_role("dialog")).to_have_count(0)
    page.keyboard.press("?")
    page.get_by_role("dialog", name="Keys").wait_for()
    found["keys"] = (violations(page), too_wide(page))
    watch.expected.append("404")  # a favicon.ico for /docs, whose own policy forbids it
    page.goto("/docs")
    # all of it takes axe long, and one operation is made as the next
    more = ("main > section:nth-of-type(n + 4)", "main article:nth-of-type(n + 3)", "nav > :is(h2, ul):nth-of-type(n + 4)")
    page.evaluate("(more) => document.querySelectorAll(more).forEach((each) => each.remove())", ", ".join(more))
    found["docs"] = (violations(page), too_wide(page))
    page.close()
    assert {name: each for name, each in found.items() if each != ([], [])} == {}


def focused(page: Page) -> str:
    """What has the focus, as it is called; it must be seen to have it."""
    return str(
        page.evaluate("""() => { const it = document.activeElement, style = getComputedStyle(it);
      const seen = it === document.body || it.tagName === 'H1' || it.tagName === 'MAIN'
        || (it.matches(':focus-visible') && style.outlineStyle !== 'none' && parseFloat(style.outlineWidth) > 0);
      return (seen ? '' : 'unseen: ') + (it.getAttribute('aria-label') || it.labels?.[0]?.textContent || it.textContent || it.tagName).trim() }""")
    )


def tab_to(page: Page, name: str, most: int = 60) -> None:
    for _ in range(most):
        page.keyboard.press("Tab")
        now = focused(page)
        assert not now.startswith("unseen"), now
        if re.match(name, now):
            return
    pytest.fail(f"no {name} within {most} tabs")


def test_by_keyboard_alone_from_the_login_to_a_task_that_is_stopped(
    browse: Browse,
    shared: Daemon,
    watch: Watch,
) -> None:
    watch.expected.append("401")  # nobody is signed in yet
    page = browse(shared, "/ui/", token=None)
    expect(page.get_by_label("Token")).to_be_focused()
    page.keyboard.type(shared.token)
    page.keyboard.press("Enter")
    expect(page.get_by_role("heading", level=1)).to_have_text("Tasks")
    tab_to(page, "New task")
    page.keyboard.press("Enter")
    expect(page.get_by_role("heading", level=1)).to_have_text("New task")
    expect(page.get_by_role("heading", level=1)).to_be_focused()  # or it would take the focus from what is tabbed to
    tab_to(page, r"(Line|Shell|Command|One line)")
    while page.evaluate("document.activeElement.matches('[role=tab], [type=radio]')"):
        tab_to(page, ".")
    page.keyboard.type("echo typed by hand; sleep 1000")
    tab_to(page, "Submit")
    page.keyboard.press("Enter")
    expect(page.locator(".log .line", has_text="typed by hand").last).to_be_visible()
    task_id = page.evaluate("location.pathname.split('/').pop()")
    page.keyboard.press("s")
    expect(page.get_by_role("dialog")).to_be_visible()
    tab_to(page, "Stop the task", 6)
    page.keyboard.press("Enter")
    assert shared.wait(task_id)["outcome"] == "cancelled"
    expect(page.locator(".heading .badge").first).to_have_text("cancelled")
    page.keyboard.press("3")
    expect(page.get_by_role("heading", level=1)).to_have_text("Timeline")
    expect(page.get_by_role("heading", level=1)).to_be_focused()  # a reader of screens hears where it is
    page.keyboard.press("Shift+Tab")
    page.keyboard.press("?")


def test_nothing_is_asked_of_another_host_and_nothing_goes_wrong(
    browse: Browse,
    shared: Daemon,
    pages: dict[str, tuple[str, str, str]],
) -> None:
    page = browse(shared, None)
    asked: set[str] = set()
    page.context.on("request", lambda request: asked.add(urlsplit(request.url).netloc))
    page.goto("/ui/")
    for address, _heading, ready in pages.values():
        show(page, address, ready)
    page.goto("/docs")
    assert asked == {urlsplit(shared.url).netloc}


def test_a_login_leads_nobody_to_another_host(browse: Browse, shared: Daemon, watch: Watch) -> None:
    watch.expected += ["404", "401"]
    page = browse(shared, None, token=None)
    asked: set[str] = set()
    page.on("request", lambda request: asked.add(urlsplit(request.url).netloc))
    for path in ("/.//evil.invalid/x", "//evil.invalid/x", "http://evil.invalid/", "\\\\evil.invalid/x"):
        page.context.clear_cookies()
        page.goto(f"/ui/login?next={quote(path)}")
        page.get_by_label("Token").fill(shared.token)
        page.get_by_role("button", name="Sign in").click()
        page.wait_for_url(lambda url: "/ui/login" not in url)
        assert asked == {urlsplit(shared.url).netloc}, path


def test_nothing_moves_for_who_wants_no_motion(browse: Browse, shared: Daemon) -> None:
    moving = "[...document.querySelectorAll('*')].filter((each) => parseFloat(getComputedStyle(each).transitionDuration) > 0).length"
    page = browse(shared, "/ui/")
    page.locator(".toast").wait_for(state="attached")
    assert page.evaluate(moving) == 0
    page.emulate_media(reduced_motion="no-preference")
    assert page.evaluate(moving) > 0


def test_the_ground_is_dark_where_one_wants_it_dark(browse: Browse, shared: Daemon) -> None:
    page = browse(shared, "/ui/")
    brightness = "getComputedStyle(document.body).backgroundColor.match(/\\d+/g).map(Number).reduce((sum, part) => sum + part / 3, 0)"
    assert page.evaluate(brightness) > 220
    page.emulate_media(color_scheme="dark")
    assert page.evaluate(brightness) < 40


def test_axe_is_the_file_that_is_listed() -> None:
    listed = json.loads((VENDOR / "VENDORED.json").read_text())[0]
    assert hashlib.sha256(AXE.read_bytes()).hexdigest() == listed["files"]["axe.min.js"]["sha256"]
    assert (VENDOR / listed["licenceFile"]).read_text().startswith("Mozilla Public License")
