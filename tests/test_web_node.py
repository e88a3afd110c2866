"""The node page: charts said in words, draining, limits, and what a token that only reads does not see."""

from __future__ import annotations

import re

import pytest
from conftest import Daemon, wait_for
from playwright.sync_api import Page, Route, expect
from webpage import NO_CONTACT, REFUSED, Browse, Watch, browse, chromium, page, watch  # noqa: F401  fixtures

pytestmark = pytest.mark.needs("chromium")

CHARTS = ["Processors", "Memory", "Running tasks and slots", "Queue", "Load", "Disk of the state directory"]


@pytest.fixture
def node(page: Page) -> Page:  # noqa: F811
    page.goto("/ui/node")
    expect(page.locator("figure")).to_have_count(len(CHARTS))
    return page


def words(page: Page, chart: str):  # noqa: F811
    return page.locator("figure", has=page.get_by_role("heading", name=chart, exact=True)).locator("figcaption p")


def test_charts_are_said_in_words(node: Page) -> None:
    assert node.locator("figure h2").all_text_contents() == CHARTS
    expect(words(node, "Memory")).to_have_text(re.compile(r"now: used [\d.]+ [KMG]iB of [\d.]+ [GT]iB"))
    expect(words(node, "Queue")).to_have_text("now: waiting 0")
    expect(words(node, "Running tasks and slots")).to_have_text(re.compile(r"now: running \d+"))
    expect(words(node, "Load")).to_have_text(re.compile(r"now: last minute [\d.]+"))
    expect(node.locator(".plot[aria-hidden=true] canvas").nth(4)).to_be_attached()  # drawn after the words


def test_a_chart_stays_while_the_page_looks_again(node: Page) -> None:
    node.clock.install()
    node.reload()
    expect(node.locator("figure canvas").first).to_be_visible()
    node.evaluate("window.drawn = document.querySelector('figure canvas')")
    node.get_by_role("button", name="6 h").focus()

    def later(route: Route) -> None:
        answer = route.fetch()
        history = answer.json()
        history["queued"][-1] = 41
        route.fulfill(response=answer, json=history)

    node.route("**/v1/node/history*", later)
    node.clock.run_for(10_500)
    expect(words(node, "Queue")).to_have_text("now: waiting 41")
    node.evaluate("new Promise((drawn) => requestAnimationFrame(() => requestAnimationFrame(drawn)))")
    assert node.evaluate("window.drawn.isConnected && document.activeElement.textContent === '6 h'")


def test_the_interval_lives_in_the_address(node: Page) -> None:
    expect(node.get_by_role("button", name="6 h")).to_have_attribute("aria-pressed", "true")
    with node.expect_request("**/v1/node/history?hours=24"):
        node.get_by_role("button", name="24 h").click()
    assert node.evaluate("location.search") == "?hours=24"
    node.reload()
    expect(node.get_by_role("button", name="24 h")).to_have_attribute("aria-pressed", "true")


def test_draining_asks_first_and_so_does_undraining(node: Page, shared: Daemon) -> None:
    draining = lambda: shared.http.get("/v1/node").json()["draining"]  # noqa: E731
    node.get_by_role("button", name="Drain").click()
    node.get_by_role("dialog").get_by_role("button", name="Cancel").click()
    expect(node.get_by_role("dialog")).to_have_count(0)
    assert not draining()
    node.get_by_role("button", name="Drain").click()
    node.get_by_role("dialog").get_by_role("button", name="Drain").click()
    expect(node.get_by_text("Draining since")).to_be_visible()
    assert draining()
    node.get_by_role("button", name="Undrain").click()
    node.get_by_role("dialog").get_by_role("button", name="Undrain").click()
    expect(node.get_by_text("Draining since")).to_have_count(0)
    assert not draining()


def test_what_limits_are_enforced_by_is_told(node: Page, shared: Daemon) -> None:
    limits = shared.http.get("/v1/node").json()["limits"]
    table = node.get_by_role("region", name="Limits")
    # by an answer of its own, which may come after that for the charts
    expect(table.locator("tbody tr td:first-child")).to_have_text([each["limit"] for each in limits])
    expect(table.locator("tbody tr td:nth-child(2)")).to_have_text([each["by"] or "not enforced" for each in limits])
    expect(node.get_by_role("row", name="memoryMb").first).to_be_visible()


def test_who_only_reads_is_not_offered_to_drain(browse: Browse, shared: Daemon) -> None:  # noqa: F811
    made = shared.post("/v1/tokens", {"name": "looker", "scopes": ["read"]})
    page = browse(shared, "/ui/node", token=made.json()["token"])  # noqa: F811
    expect(page.get_by_role("heading", name="Now")).to_be_visible()
    expect(page.get_by_role("button", name="24 h")).to_be_visible()
    assert page.get_by_role("button", name="Drain").count() == 0


def test_a_daemon_that_was_away_is_a_gap(daemon: Daemon, browse: Browse, watch: Watch) -> None:  # noqa: F811
    watch.expected += [NO_CONTACT, REFUSED]
    page = browse(daemon, "/ui/node?hours=1")  # noqa: F811
    expect(page.locator("figure")).to_have_count(len(CHARTS))
    daemon.kill()
    expect(page.get_by_text("No contact with the daemon")).to_be_visible()
    expect(page.locator("figure")).to_have_count(len(CHARTS))  # what was known stays
    with page.expect_response(lambda answer: "/v1/node/history" in answer.url and answer.ok):
        daemon.start()
    expect(page.get_by_text("No contact with the daemon")).to_be_hidden()
    expect(page.get_by_role("alert")).to_have_count(0)
    expect(words(page, "Memory")).to_contain_text("now: used")
    wait_for(lambda: page.locator("figure canvas").count() >= 5, "charts")


def test_axes_end_at_round_numbers(page: Page) -> None:  # noqa: F811
    page.goto("/ui/node")
    script = "async (given) => { const { roundedUp } = await import('/ui/static/node/chart.js'); return given.map((n) => roundedUp(n, true)) }"
    assert page.evaluate(script, [0, 1, 2, 3, 13, 41, 2750, 9999]) == [2, 2, 2, 4, 20, 50, 4000, 10000]
    assert page.evaluate(script.replace(", true", ""), [0.2, 3.1, 16.5]) == [1, 4, 20]
