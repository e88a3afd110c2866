"""The timeline of the web page: bars where their times are, hands and keys that move it, and what it decides."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from typing import Any

import pytest
from conftest import Daemon, wait_for
from playwright.sync_api import Page, expect
from webpage import NO_CONTACT, REFUSED, Browse, Watch, browse, chromium, eventually, page, watch  # noqa: F401  fixtures

pytestmark = pytest.mark.needs("chromium")

#: of the picture, in pixels
AXIS, LANE = 24, 18


@pytest.fixture(scope="module")
def ran(shared: Daemon) -> dict[str, dict[str, Any]]:
    """Three attempts: two after one another, and one beside the first that failed."""

    def submit(name: str, entity: str, shell: str) -> str:
        return shared.submit(shell=shell, name=name, entity=entity)

    beside = submit("beside", "beta", "until [ -e go ]; do sleep 0.02; done; exit 3")
    shared.wait_state(beside, "running")
    one = shared.wait(submit("one", "alpha", "sleep 0.3"))
    (shared.work(beside) / "go").touch()
    failed = shared.wait(beside)
    two = shared.wait(submit("two", "alpha", "sleep 0.3"))
    return {"one": one, "two": two, "beside": failed}


class Picture:
    """The picture of a page, asked as a hand with a pointer asks it."""

    def __init__(self, page: Page) -> None:  # noqa: F811
        self.page = page
        self.canvas = page.locator("canvas.timeline")
        self.chosen = page.locator("#timeline-chosen")
        self.gutter = 0.0

    @property
    def address(self) -> str:
        return str(self.page.evaluate("location.href"))  # `page.url` is as old as the last call

    @property
    def span(self) -> tuple[float, float]:
        """Seconds since 1970, to the millisecond."""
        begin, end = self.page.evaluate(
            "[...document.querySelectorAll('.span time')].map((at) => Date.parse(at.dateTime))"
        )
        return begin / 1000, end / 1000

    def point(self, at: float, lane: int = 0) -> tuple[float, float]:
        box = self.canvas.bounding_box()
        assert box is not None
        begin, end = self.span
        share = (at - begin) / (end - begin)
        return box["x"] + self.gutter + share * (box["width"] - self.gutter), box["y"] + AXIS + lane * LANE + LANE / 2

    def under(self, at: float, lane: int = 0) -> str:
        """What is told of the bar at a time."""
        self.page.mouse.move(*self.point(at, lane))
        self.page.evaluate("new Promise((drawn) => requestAnimationFrame(() => requestAnimationFrame(drawn)))")
        return (self.chosen.text_content() or "").strip()

    def drag(self, by: float) -> None:
        x, y = self.point(sum(self.span) / 2)
        self.page.mouse.move(x, y)
        self.page.mouse.down()
        self.page.mouse.move(x + by / 2, y)
        self.page.mouse.move(x + by, y)
        self.page.mouse.up()

    def wheel(self, by: float, at: float, *keys: str) -> None:
        self.page.mouse.move(*self.point(at))
        for key in keys:
            self.page.keyboard.down(key)
        self.page.mouse.wheel(0, by)
        for key in keys:
            self.page.keyboard.up(key)


def seconds(stamp: str) -> float:
    return datetime.fromisoformat(stamp).timestamp()


def middle(task: dict[str, Any]) -> float:
    return (seconds(task["startedAt"]) + seconds(task["finishedAt"])) / 2


def around(ran: dict[str, dict[str, Any]]) -> tuple[float, float]:
    return min(seconds(t["startedAt"]) for t in ran.values()) - 1, max(
        seconds(t["finishedAt"]) for t in ran.values()
    ) + 1


@pytest.fixture
def picture(page: Page, ran: dict[str, dict[str, Any]]) -> Picture:  # noqa: F811
    """Of the time in which the three ran."""
    begin, end = around(ran)
    page.goto(f"/ui/timeline?from={begin:.3f}&to={end:.3f}")
    expect(page.locator(".span")).to_contain_text("3 attempts")
    return Picture(page)


def test_bars_lie_where_their_times_are(picture: Picture, ran: dict[str, dict[str, Any]]) -> None:
    assert re.fullmatch(
        r"beside: failed, started \d\d:\d\d:\d\d, [\d.]+ s, entity beta", picture.under(middle(ran["beside"]))
    )
    assert picture.under(middle(ran["one"]), lane=1).startswith("one: succeeded")
    assert picture.under(middle(ran["two"])).startswith("two: succeeded")
    assert picture.under(middle(ran["two"]), lane=1) == ""
    assert picture.under(seconds(ran["beside"]["startedAt"]) - 0.5) == ""
    picture.page.locator("summary", has_text="as a table").click()
    expect(picture.page.locator("tbody tr td:first-child")).to_have_text(["two", "one", "beside"])


def test_a_click_on_a_bar_opens_its_task_and_one_beside_it_does_not(
    picture: Picture, ran: dict[str, dict[str, Any]]
) -> None:
    picture.page.mouse.click(*picture.point(middle(ran["two"]), 1))
    picture.page.mouse.click(*picture.point(middle(ran["two"])), button="right")
    assert "/ui/timeline" in picture.page.url
    picture.page.mouse.click(*picture.point(middle(ran["two"])))
    picture.page.wait_for_url(f"**/ui/tasks/{ran['two']['taskId']}?attempt=1")
    picture.page.go_back()
    expect(picture.page.locator(".span")).to_contain_text("3 attempts")


def test_lanes_lie_together_by_what_one_asks_for(picture: Picture, ran: dict[str, dict[str, Any]]) -> None:
    picture.page.get_by_label("Lanes").select_option("entity")
    picture.page.wait_for_url("**by=entity*")
    picture.gutter = 50  # names of groups are at the left; the bars begin after them
    assert wait_for(lambda: picture.under(middle(ran["one"])).startswith("one"), "lanes by entity")
    assert picture.under(middle(ran["two"])).startswith("two")
    assert picture.under(middle(ran["beside"]), lane=1).startswith("beside")


def test_the_address_follows_a_drag_and_a_reload_shows_the_same(
    picture: Picture, ran: dict[str, dict[str, Any]]
) -> None:
    begin, end = picture.span
    width = picture.canvas.bounding_box()["width"]  # type: ignore[index]
    before = picture.address
    picture.drag(width / 4)
    wait_for(lambda: picture.address != before, "the address has followed")
    moved = picture.span
    assert moved[0] == pytest.approx(begin - (end - begin) / 4, abs=(end - begin) / 50)
    assert moved[1] - moved[0] == pytest.approx(end - begin, abs=0.01)
    told = picture.under(middle(ran["beside"]))
    picture.page.reload()
    expect(picture.page.locator(".span")).to_contain_text("attempt")
    assert (picture.span, picture.under(middle(ran["beside"]))) == (moved, told)


def test_a_wheel_with_ctrl_zooms_about_the_pointer_and_one_without_does_not(
    picture: Picture, ran: dict[str, dict[str, Any]]
) -> None:
    begin, end = picture.span
    before, at = picture.address, middle(ran["one"])
    picture.wheel(200, at)
    picture.wheel(-200, at, "Control")
    wait_for(lambda: picture.address != before, "the address has followed")
    closer = picture.span
    assert closer[1] - closer[0] < (end - begin) * 0.8
    share = (at - begin) / (end - begin)
    assert (at - closer[0]) / (closer[1] - closer[0]) == pytest.approx(share, abs=0.01)
    picture.wheel(100, at, "Shift")
    wait_for(lambda: picture.span[0] > closer[0] + 0.01, "moved in time")
    assert picture.span[1] - picture.span[0] == pytest.approx(closer[1] - closer[0], abs=0.01)


def test_it_shows_a_tenth_of_a_second_and_a_week(picture: Picture, ran: dict[str, dict[str, Any]]) -> None:
    at = middle(ran["one"])
    picture.page.goto(f"/ui/timeline?from={at - 0.06:.3f}&to={at + 0.06:.3f}")
    expect(picture.page.locator(".span")).to_contain_text("2 attempts")
    for _ in range(3):
        picture.page.get_by_role("button", name="Zoom in").click()
    assert picture.span[1] - picture.span[0] == pytest.approx(0.1, abs=0.002)
    assert picture.under(at, lane=1).startswith("one") or picture.under(at).startswith("one")
    picture.page.get_by_role("button", name="7 d").click()
    picture.page.wait_for_url("**/ui/timeline?span=604800000")
    expect(picture.page.get_by_role("button", name="7 d")).to_have_attribute("aria-pressed", "true")
    week = picture.span
    assert week[1] - week[0] == pytest.approx(7 * 86400 * 1.02, rel=0.001)
    picture.page.get_by_role("button", name="Zoom in").click()
    picture.page.wait_for_url("**/ui/timeline?span=302400000")  # goes on to now still


def test_keys_go_from_bar_to_bar_and_open_one(picture: Picture, ran: dict[str, dict[str, Any]]) -> None:
    picture.page.get_by_label("Lanes").focus()
    picture.page.keyboard.press("Tab")
    assert picture.page.evaluate("document.activeElement.matches('canvas.timeline:focus-visible')")
    told = []
    for key in ("ArrowRight", "ArrowRight", "ArrowRight", "ArrowRight", "ArrowLeft"):
        picture.page.keyboard.press(key)
        picture.page.evaluate("new Promise(requestAnimationFrame)")
        told.append((picture.chosen.text_content() or "").partition(":")[0])
    assert told == ["beside", "one", "two", "two", "one"]
    picture.page.keyboard.press("Escape")
    expect(picture.chosen).to_have_text(re.compile(r"^\s*$"))
    begin, end = picture.span
    picture.page.keyboard.press("+")
    wait_for(lambda: picture.span[1] - picture.span[0] == pytest.approx((end - begin) / 2, abs=0.01), "closer")
    picture.page.keyboard.press("-")
    picture.page.keyboard.press("]")
    wait_for(lambda: picture.span[0] == pytest.approx(begin + (end - begin) / 4, abs=0.02), "later")
    picture.page.keyboard.press("[")
    picture.page.keyboard.press("ArrowRight")
    picture.page.keyboard.press("Enter")
    picture.page.wait_for_url(f"**/ui/tasks/{ran['beside']['taskId']}?attempt=1")
    expect(picture.page.get_by_role("heading", level=1)).to_contain_text("beside")
    # what hands began on a page that is left does not change the next one's address
    picture.page.evaluate("new Promise((rested) => setTimeout(rested, 200))")
    assert "from=" not in picture.address


def test_what_is_asked_for_before_the_hands_rest_holds(picture: Picture) -> None:
    begin, end = picture.span
    picture.page.clock.install()
    picture.page.reload()
    expect(picture.page.locator(".span")).to_contain_text("3 attempts")
    picture.canvas.focus()
    picture.page.clock.pause_at(picture.page.evaluate("Date.now()") / 1000 + 1)
    picture.page.keyboard.press("]")
    picture.page.keyboard.press("+")
    picture.page.clock.run_for(1000)
    assert picture.span == pytest.approx((begin + (end - begin) / 2, end), abs=0.02)
    picture.page.keyboard.press("]")
    picture.page.evaluate("[...document.querySelectorAll('button')].find((each) => each.textContent === '24 h').click()")
    picture.page.clock.run_for(1000)
    assert picture.address.endswith("/ui/timeline?span=86400000")


def test_two_fingers_zoom(browse: Browse, shared: Daemon, ran: dict[str, dict[str, Any]]) -> None:  # noqa: F811
    page = browse(shared, None, viewport={"width": 390, "height": 800}, has_touch=True)  # noqa: F811
    begin, end = around(ran)
    page.goto(f"/ui/timeline?from={begin:.3f}&to={end:.3f}")
    expect(page.locator(".span")).to_contain_text("3 attempts")
    picture = Picture(page)
    picture.canvas.scroll_into_view_if_needed()
    x, y = picture.point((begin + end) / 2)
    fingers = page.context.new_cdp_session(page)

    def touch(kind: str, *apart: float) -> None:
        points = [{"x": x + sign * each, "y": y, "id": i} for each in apart for i, sign in enumerate((-1, 1))]
        fingers.send("Input.dispatchTouchEvent", {"type": kind, "touchPoints": points})

    before = picture.address
    touch("touchStart", 40)
    touch("touchMove", 60)
    touch("touchMove", 80)
    touch("touchEnd")
    wait_for(lambda: picture.address != before, "the address has followed")
    closer = picture.span
    assert closer[1] - closer[0] == pytest.approx((end - begin) / 2, rel=0.05)
    assert sum(closer) / 2 == pytest.approx((begin + end) / 2, abs=(end - begin) / 20)
    assert page.evaluate("visualViewport.scale") == 1


def test_it_says_when_there_are_more(picture: Picture, ran: dict[str, dict[str, Any]]) -> None:
    picture.page.route(
        "**/v1/timeline?*", lambda asked: asked.continue_(url=asked.request.url.replace("limit=5000", "limit=2"))
    )
    picture.page.reload()
    note = picture.page.locator(".note.warning")
    expect(note).to_contain_text(re.compile(r"started before \d\d:\d\d:\d\d is left out"))
    assert note.locator("time").get_attribute("datetime") == ran["one"]["startedAt"]
    expect(picture.page.locator(".span")).to_contain_text("2 attempts")


def test_nothing_ran(page: Page) -> None:  # noqa: F811
    page.goto("/ui/timeline?from=1000000&to=1000060")
    expect(page.locator(".span")).to_have_text(re.compile("^1970-01-12 .* to 1970-01-12 .* nothing ran$"))
    page.locator("summary", has_text="as a table").click()
    expect(page.get_by_text("Nothing ran in this time.")).to_be_visible()
    page.locator("canvas.timeline").focus()
    page.keyboard.press("ArrowRight")
    page.keyboard.press("Enter")
    assert "/ui/timeline" in page.url


def test_what_runs_goes_on_and_the_picture_survives_the_daemon(daemon: Daemon, browse: Browse, watch: Watch) -> None:  # noqa: F811
    watch.expected += [NO_CONTACT, REFUSED]
    page = browse(daemon, "/ui/timeline?span=900000")  # noqa: F811
    expect(page.locator(".span")).to_contain_text("nothing ran")
    task_id = daemon.submit(shell="until [ -e go ]; do sleep 0.02; done", name="live")
    expect(page.locator(".span")).to_contain_text("1 attempt")
    canvas = page.locator("canvas.timeline")
    canvas.focus()
    page.keyboard.press("ArrowRight")
    expect(page.locator("#timeline-chosen")).to_contain_text("live: running")
    daemon.kill()
    expect(page.get_by_text("No contact with the daemon")).to_be_visible()
    expect(page.locator("#timeline-chosen")).to_contain_text("live: running")  # it does, as far as one knows
    daemon.start()
    (daemon.work(task_id) / "go").touch()
    expect(page.locator("#timeline-chosen")).to_contain_text("live: succeeded")
    expect(page.get_by_text("No contact with the daemon")).to_be_hidden()


def test_more_lanes_than_fit_are_scrolled_to(browse: Browse, shared: Daemon) -> None:  # noqa: F811
    begin = datetime.now(UTC).timestamp()
    ids = [shared.submit("true", name=f"n{i:02}") for i in range(33)]
    for task_id in ids:
        shared.wait(task_id)
    shared.wait(shared.submit("true", name="n33"))  # by itself: of several that are due one may start before the other
    page = browse(shared, f"/ui/timeline?by=name&from={begin:.3f}&to={datetime.now(UTC).timestamp():.3f}")  # noqa: F811
    expect(page.locator(".span")).to_contain_text("34 attempts")
    top = "document.querySelector('.lanes').scrollTop"
    page.locator("canvas.timeline").focus()
    page.keyboard.press("ArrowLeft")  # the last one
    expect(page.locator("#timeline-chosen")).to_contain_text("n33")
    assert eventually(page, top) > 0
    page.locator("canvas.timeline").hover()
    page.mouse.wheel(0, -2000)
    eventually(page, f"{top} === 0")


# -- what is decided apart from the drawing

BARS = [
    {"id": "a", "start": 0, "end": 10, "entity": "x2"}, {"id": "b", "start": 5, "end": 7, "entity": "x10"},
    {"id": "c", "start": 7, "end": None, "entity": None}, {"id": "d", "start": 10, "end": 12, "entity": "x2"},
]  # fmt: skip


def decided(page: Page, expression: str, argument: Any = None) -> Any:  # noqa: F811
    script = f"async (given) => {{ const lanes = await import('/ui/static/timeline/lanes.js'); return {expression} }}"
    return page.evaluate(script, argument)


def test_decisions(page: Page) -> None:  # noqa: F811
    page.goto("/ui/timeline")
    packed = decided(page, "lanes.pack(given)", BARS)
    assert [[bar["id"] for bar in lane] for lane in packed["lanes"]] == [["a", "d"], ["b", "c"]]
    assert [bar["id"] for bar in packed["bars"]] == ["a", "b", "c", "d"]
    grouped = decided(page, "lanes.pack(given, 'entity')", BARS)
    assert grouped["groups"] == [
        {"name": "x2", "from": 0, "lanes": 1}, {"name": "x10", "from": 1, "lanes": 1}, {"name": "", "from": 2, "lanes": 1}
    ]  # fmt: skip
    found = "given.asked.map(([time, reach]) => lanes.barAt(given.lane, time, reach, 20)?.id ?? null)"
    asked = [[6, 0], [7.5, 0], [4, 0.5], [4, 1], [19, 0], [21, 0], [21, 2]]
    assert decided(page, found, {"asked": asked, "lane": packed["lanes"][1]}) == ["b", "c", None, "b", "c", None, "c"]
    assert decided(page, "lanes.firstAt([{start:0,end:1},{start:1,end:3},{start:4,end:null}], given, 9)", 2) == 1
    assert decided(page, "lanes.firstAt([{start:0,end:1}], given, 9)", 2) == 1
    closer = decided(page, "lanes.zoomed({from: 0, to: 1000}, 0.5, 250)")
    assert closer == {"from": 125, "to": 625}
    assert decided(page, "lanes.zoomed({from: 0, to: 1000}, 0.0001, 250)") == {"from": 225, "to": 325}  # 0.1 s at least
    for span, step in ((100, 10), (60_000, 10_000), (604_800_000, 86_400_000)):
        marks = decided(page, "lanes.ticks(given, given + " + str(span) + ", 11)", 1_700_000_000_000)
        assert marks["step"] == step and 1 <= len(marks["times"]) <= 12
        assert all(0 <= at - 1_700_000_000_000 <= span for at in marks["times"])


def test_twenty_thousand_bars_are_packed_and_found(page: Page) -> None:  # noqa: F811
    page.goto("/ui/timeline")
    packed = decided(
        page,
        """(() => { const bars = Array.from({ length: 20000 }, (_, i) => ({ id: `${i}`, start: i * 10, end: i * 10 + 995 }));
        const { lanes: rows } = lanes.pack(bars);
        return [rows.length, rows.every((row) => row.every((bar, i) => !i || row[i - 1].end <= bar.start)),
          lanes.barAt(rows[0], 100000, 0, 0).id] })()""",
    )
    assert packed == [100, True, "10000"]
