"""Batches in the page."""

# ruff: noqa: F811  fixtures are imported where they are used
from __future__ import annotations

import pytest
from conftest import Daemon, wait_for
from playwright.sync_api import Page, expect
from webpage import Browse, browse, chromium, eventually, page, watch  # noqa: F401

pytestmark = pytest.mark.needs("chromium")


def create(daemon: Daemon, **body: object) -> dict:
    answer = daemon.post("/v1/batches", body)
    assert answer.status_code == 201, answer.text
    return dict(answer.json())


def test_batches_with_their_counts(page: Page, shared: Daemon) -> None:
    made = create(shared, name="nightly", tasks=[{"command": ["true"]}] * 3 + [{"shell": "exit 3"}] * 2)
    page.goto("/ui/batches")
    row = page.locator(f'tr[data-id="{made["batchId"]}"]')
    expect(row).to_contain_text("3 ok")
    expect(row).to_contain_text("2 failed")
    expect(row).to_contain_text("over, not all well")
    later = create(shared, name="later", tasks=[{"command": ["true"]}])
    expect(page.locator(f'tr[data-id="{later["batchId"]}"]')).to_contain_text("1 ok")
    row.get_by_role("link", name="nightly").click()
    page.wait_for_url(f"**/ui/batches/{made['batchId']}")
    eventually(page, "document.querySelectorAll('table.tasks tbody tr').length === 5")
    page.get_by_role("button", name="failed", exact=True).click()
    page.wait_for_url("**?outcome=failed*")
    eventually(page, "document.querySelectorAll('table.tasks tbody tr').length === 2")
    page.reload()
    expect(page.get_by_role("button", name="failed", exact=True)).to_have_attribute("aria-pressed", "true")


def test_the_counts_of_a_batch_live(page: Page, shared: Daemon) -> None:
    made = create(shared, tasks=[{"command": ["sleep", "1000"]}] * 3 + [{"command": ["true"], "executeAt": "2100-01-31T03:00:00Z"}])
    page.goto(f"/ui/batches/{made['batchId']}")
    summary = page.get_by_label("Summary")
    expect(summary).to_contain_text("3 running")
    expect(summary).to_contain_text("1 waiting")
    shared.post(f"/v1/tasks/{made['tasks'][0]}/stop")
    expect(summary).to_contain_text("1 cancelled")
    expect(summary).to_contain_text("2 running")
    page.get_by_role("button", name="Pause", exact=True).click()
    page.get_by_role("dialog").get_by_role("button", name="Pause").click()
    expect(summary).to_contain_text("nothing starts until it is resumed")
    wait_for(lambda: shared.task(made["tasks"][1])["state"] == "paused", "it is paused")
    expect(page.locator(f'tr[data-id="{made["tasks"][1]}"] .badge').first).to_have_text("paused")
    page.get_by_role("button", name="Resume").click()
    expect(page.locator(f'tr[data-id="{made["tasks"][1]}"] .badge').first).to_have_text("running")
    page.get_by_role("button", name="Stop", exact=True).click()
    page.get_by_role("dialog").get_by_role("button", name="Stop").click()
    expect(summary).to_contain_text("4 cancelled")
    expect(summary).to_contain_text("over, cancelled")
    expect(page.get_by_role("button", name="Stop", exact=True)).to_have_count(0)
    assert shared.http.get(f"/v1/batches/{made['batchId']}").json()["finishedAt"]


def test_the_list_of_batches_has_pages(page: Page, shared: Daemon) -> None:
    ids = [create(shared, tasks=[{"command": ["true"]}])["batchId"] for _ in range(52)][::-1]
    page.goto("/ui/batches")
    expect(page.locator(f'tr[data-id="{ids[0]}"]')).to_be_visible()
    page.get_by_role("button", name="Older").click()
    expect(page.locator(f'tr[data-id="{ids[51]}"]')).to_be_visible()
    expect(page.locator(f'tr[data-id="{ids[0]}"]')).to_have_count(0)
    page.reload()
    expect(page.locator(f'tr[data-id="{ids[51]}"]')).to_be_visible()


def test_who_may_not_control_is_offered_no_buttons(browse: Browse, shared: Daemon) -> None:
    token = shared.post("/v1/tokens", {"name": "looker", "scopes": ["read"]}).json()["token"]
    made = create(shared, name="seen", tasks=[{"command": ["sleep", "1000"]}])
    page = browse(shared, f"/ui/batches/{made['batchId']}", token=token)
    expect(page.get_by_label("Summary")).to_contain_text("1 running")
    assert page.get_by_role("button", name="Stop").count() == 0
    shared.post(f"/v1/batches/{made['batchId']}/stop")
