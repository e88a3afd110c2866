"""The log viewer of the web page, in a real browser."""

from __future__ import annotations

import os
import re
import signal
from typing import Any

import pytest
from conftest import Daemon, wait_for
from playwright.sync_api import Page, Route, expect
from webpage import NO_CONTACT, REFUSED, Browse, Watch, browse, chromium, eventually, watch  # noqa: F401  fixtures

pytestmark = pytest.mark.needs("chromium")

MIB = 1024 * 1024
ROWS = "[...document.querySelectorAll('.log .line')].map((row) => row.textContent)"
#: the first row of which something is seen
TOP = """(() => { const log = document.querySelector('.log');
  return [...log.querySelectorAll('.line')].findLast((row) => row.offsetTop <= log.scrollTop + 1)?.textContent })()"""


@pytest.fixture
def page(browse: Browse, shared: Daemon) -> Page:  # noqa: F811
    """High enough for all of the log's window."""
    return browse(shared, None, viewport={"width": 1280, "height": 1500})


def steps(counts: tuple[int, ...]) -> str:
    """A shell that writes numbered lines, and before each further lot waits for a file `go1`, `go2` …"""
    lots, first = [], 1
    for i, count in enumerate(counts):
        wait = f"until [ -e go{i} ]; do sleep 0.02; done; " if i else ""
        lots.append(f"{wait}seq -f 'line %.0f' {first} {first + count - 1}")
        first += count
    return "; ".join(lots)


def lines(first: int, last: int) -> list[str]:
    return [f"line {n}" for n in range(first, last + 1)]


def show(page: Page, task_id: str, query: str = "") -> None:
    page.goto(f"/ui/tasks/{task_id}{query}")
    page.wait_for_selector(".log .line")


def written(daemon: Daemon, *command: str, **more: Any) -> str:
    """The id of a task that has run to its end."""
    task_id = daemon.submit(*command, **more)
    daemon.wait(task_id)
    return task_id


def search(page: Page, text: str) -> None:
    page.keyboard.press("/")
    page.keyboard.type(text)


def test_a_log_is_followed_through_a_kill_of_the_daemon_without_loss(
    daemon: Daemon, browse: Browse, watch: Watch  # noqa: F811
) -> None:
    watch.expected += [NO_CONTACT, REFUSED]
    task_id = daemon.submit(shell=steps((200, 150, 250)))
    page = browse(daemon, None)
    show(page, task_id)
    expect(page.locator(".log .line", has_text="line 200")).to_be_visible()
    daemon.kill()
    (daemon.work(task_id) / "go1").touch()
    expect(page.locator(".logfoot")).to_contain_text("no contact")
    daemon.start()
    expect(page.locator(".log .line", has_text="line 350")).to_be_visible()
    (daemon.work(task_id) / "go2").touch()
    expect(page.locator(".logfoot")).to_contain_text("complete")
    expect(page.locator(".log .line")).to_have_count(600)  # those that came last are drawn with the next picture
    assert page.evaluate(ROWS) == lines(1, 600)
    expect(page.locator(".heading .badge").first).to_have_text("succeeded")


def test_it_keeps_its_place_while_more_is_written(shared: Daemon, page: Page) -> None:
    task_id = shared.submit(shell=steps((500, 300)))
    show(page, task_id)
    expect(page.locator(".log .line", has_text="line 500")).to_be_visible()
    page.locator(".log").hover()
    page.mouse.wheel(0, -3000)
    eventually(page, "location.search.includes('at=')")
    top = page.evaluate(TOP)
    (shared.work(task_id) / "go1").touch()
    news = page.get_by_role("button", name="300 new lines")
    expect(news).to_be_visible()
    assert page.evaluate(TOP) == top
    page.reload()
    page.wait_for_selector(".log .line")
    expect(page.locator(".log .line", has_text=re.compile(f"^{top}$"))).to_be_in_viewport()
    assert page.evaluate(TOP) == top
    page.keyboard.press("f")
    expect(page.locator(".log .line", has_text="line 800")).to_be_in_viewport()
    eventually(page, "!location.search.includes('at=')")


def test_the_button_of_what_is_new_goes_to_the_end_and_follows(shared: Daemon, page: Page) -> None:
    task_id = shared.submit(shell=steps((300, 20, 10)))
    show(page, task_id)
    expect(page.locator(".log .line", has_text="line 300")).to_be_in_viewport()
    page.keyboard.press("g")
    (shared.work(task_id) / "go1").touch()
    page.get_by_role("button", name="20 new lines").click()
    expect(page.locator(".log .line", has_text="line 320")).to_be_in_viewport()
    (shared.work(task_id) / "go2").touch()
    expect(page.locator(".log .line", has_text="line 330")).to_be_in_viewport()


def held(page: Page) -> list[Route]:
    """The requests for parts of the log from now on; none of them is answered until a test has it so."""
    requests: list[Route] = []
    page.route(lambda url: "/output" in url and "follow" not in url, lambda route: requests.append(route))
    return requests


def asked(page: Page, requests: list[Route], count: int = 1) -> Route:
    wait_for(lambda: page.evaluate("1") and len(requests) >= count, "a part of the log is asked for")
    return requests[count - 1]


def test_what_comes_while_the_end_is_read_is_shown_and_followed(shared: Daemon, page: Page) -> None:
    task_id = shared.submit(shell=steps((3000, 20, 10)))
    show(page, task_id)
    expect(page.locator(".log .line", has_text="line 3000")).to_be_in_viewport()
    page.keyboard.press("g")
    eventually(page, f"{TOP} === 'line 1'")
    reads = held(page)
    page.keyboard.press("G")
    end = asked(page, reads)
    (shared.work(task_id) / "go1").touch()
    expect(page.get_by_role("button", name="20 new lines")).to_be_visible()
    end.continue_()
    expect(page.locator(".log .line", has_text="line 3020")).to_be_in_viewport()
    (shared.work(task_id) / "go2").touch()
    expect(page.locator(".log .line", has_text="line 3030")).to_be_in_viewport()


def test_who_turns_to_the_other_end_before_an_answer_gets_that_end(shared: Daemon, page: Page) -> None:
    task_id = written(shared, shell="yes 00 | head -c 30000")
    show(page, task_id, "?at=15000")
    reads = held(page)
    scroll = """(to) => new Promise((done) => { const log = document.querySelector('.log');
      log.addEventListener('scroll', done, { once: true }); log.scrollTop = to === 'end' ? log.scrollHeight : 0 })"""
    page.evaluate(scroll, "begin")
    before = asked(page, reads)
    page.evaluate(scroll, "end")
    place = TOP.replace("textContent", "dataset.at")
    read = page.evaluate(place)
    before.continue_()
    asked(page, reads, 2).continue_()
    eventually(page, "document.querySelector('.log').lastElementChild.dataset.at > '18000'")
    assert page.evaluate(place) == read


def test_a_move_that_failed_keeps_no_later_place_from_the_address(
    shared: Daemon, page: Page, watch: Watch  # noqa: F811
) -> None:
    watch.expected += [NO_CONTACT]
    show(page, written(shared, shell="yes 00 | head -c 30000"))
    reads = held(page)
    page.keyboard.press("g")
    asked(page, reads).abort()
    expect(page.get_by_role("alert")).to_contain_text("no contact")
    page.evaluate("document.querySelector('.log').scrollTop -= 2000")
    eventually(page, "location.search.includes('at=')")


def test_who_scrolls_up_is_not_pulled_back_by_a_flood(shared: Daemon, browse: Browse) -> None:  # noqa: F811
    task_id = shared.submit(shell="seq -f 'line %.0f' 1 500; while :; do echo more; sleep 0.01; done")
    page = browse(shared, None, viewport={"width": 1280, "height": 1500}, reduced_motion="no-preference")
    show(page, task_id)
    expect(page.get_by_role("button", name="Follow")).to_have_attribute("aria-pressed", "true")
    page.locator(".log").hover()
    page.mouse.wheel(0, -2000)
    expect(page.get_by_role("button", name=re.compile("[0-9]{2} new lines"))).to_be_visible()
    expect(page.get_by_role("button", name="Follow")).to_have_attribute("aria-pressed", "false")
    shared.post(f"/v1/tasks/{task_id}/stop", {"signal": "SIGKILL"})


def test_a_hidden_tab_holds_no_connection_and_loses_nothing(shared: Daemon, page: Page) -> None:
    task_id = shared.submit(shell=steps((10, 10)))
    show(page, task_id)
    expect(page.locator(".log .line")).to_have_count(10)
    turn = """(hidden) => { Object.defineProperty(document, 'hidden', { value: hidden, configurable: true });
      document.dispatchEvent(new Event('visibilitychange')) }"""
    gone: list[str] = []
    page.on("requestfailed", lambda request: gone.append(request.url))
    page.evaluate(turn, True)
    wait_for(lambda: page.evaluate("1") and any("follow=true" in each for each in gone), "the stream is given up")
    wait_for(lambda: page.evaluate("1") and any("/v1/events" in each for each in gone), "and that of events")
    (shared.work(task_id) / "go1").touch()
    shared.wait(task_id)
    assert page.evaluate(ROWS) == lines(1, 10)
    page.evaluate(turn, False)
    expect(page.locator(".log .line")).to_have_count(20)
    assert page.evaluate(ROWS) == lines(1, 20)


# -- long logs


@pytest.fixture(scope="module")
def long_log(shared: Daemon) -> str:
    """100 MB, with a needle behind 90."""
    filler = "yes 'an ordinary line of the log with nothing in it' | head -c"
    return written(shared, shell=f"{filler} 90000000; echo; echo 'here is the Needle'; {filler} 10000000")


def heap(page: Page) -> int:
    session = page.context.new_cdp_session(page)
    session.send("Performance.enable")
    session.send("HeapProfiler.collectGarbage")
    metrics = {each["name"]: each["value"] for each in session.send("Performance.getMetrics")["metrics"]}
    return int(metrics["JSHeapUsedSize"])


def test_a_search_finds_what_is_90_mb_deep_in_bounded_memory(
    shared: Daemon, page: Page, long_log: str
) -> None:
    show(page, long_log)
    search(page, "the needle")
    expect(page.locator(".find [role=status]")).to_have_text("1 of 1 match")
    found = page.locator(".log .line.found")
    expect(found).to_have_text("here is the Needle")
    expect(found).to_be_in_viewport()
    assert page.evaluate("CSS.highlights.get('log-match').size") == 1
    assert page.locator(".log .line").count() <= 2000
    assert heap(page) < 150 * MIB
    eventually(page, "location.search.includes('at=899')")
    page.reload()
    expect(page.locator(".log .line", has_text="the Needle")).to_be_in_viewport()


def test_a_search_can_be_stopped(shared: Daemon, page: Page, long_log: str) -> None:
    show(page, long_log)
    os.kill(shared.pid, signal.SIGSTOP)  # the daemon does not answer just now
    try:
        search(page, "the needle")
        page.get_by_role("button", name="Stop searching").click()
        expect(page.locator(".find [role=status]")).to_have_text("0 matches, 0 % searched")
    finally:
        os.kill(shared.pid, signal.SIGCONT)


def test_one_can_scroll_through_millions_of_lines(shared: Daemon, page: Page) -> None:
    task_id = written(shared, shell="yes 00 | head -c 30000000")
    show(page, task_id)
    page.keyboard.press("g")
    eventually(page, "document.querySelector('.log .line').dataset.at === '0'")
    before = page.evaluate("document.querySelector('.log .line').dataset.at")
    for _ in range(4):
        page.evaluate("(log) => { log.scrollTop = log.scrollHeight - log.clientHeight - 10 }", page.locator(".log").element_handle())
        before = wait_for(
            lambda before=before: (at := page.evaluate("[...document.querySelectorAll('.log .line')].at(-1).dataset.at")) != before and at
        )
    offsets = page.evaluate("[...document.querySelectorAll('.log .line')].map((row) => Number(row.dataset.at))")
    assert offsets == list(range(offsets[0], offsets[0] + 3 * len(offsets), 3))
    assert len(offsets) <= 2000
    page.get_by_role("slider", name="Place in the log").fill("15000000")
    eventually(page, "Number(new URLSearchParams(location.search).get('at')) === 15000000")
    assert heap(page) < 150 * MIB


def test_a_line_of_50_mb_is_only_a_long_line(shared: Daemon, page: Page) -> None:
    task_id = written(shared, shell="echo first; head -c 50000000 /dev/zero | tr '\\0' x; echo end; echo last")
    show(page, task_id)
    expect(page.locator(".log .line", has_text="last")).to_be_in_viewport()
    assert page.evaluate("Math.max(...[...document.querySelectorAll('.log .line')].map((row) => row.textContent.length))") <= 4096
    search(page, "xend")
    expect(page.locator(".find [role=status]")).to_have_text("1 of 1 match")
    page.get_by_role("button", name="Top").click()
    eventually(page, f"{TOP} === 'first'")
    assert heap(page) < 150 * MIB


# -- searching


def test_one_goes_from_match_to_match_and_around(shared: Daemon, page: Page) -> None:
    task_id = written(shared, shell="seq 1 400 | sed 's/$/ ok/; s/^\\(.*00\\) ok/\\1 Größe fault/'")
    show(page, task_id)
    page.keyboard.press("g")
    search(page, "größe F")
    status, found = page.locator(".find [role=status]"), page.locator(".log .line.found")
    expect(status).to_have_text("1 of 4 matches")
    expect(found).to_have_text("100 Größe fault")
    page.keyboard.press("Enter")
    expect(found).to_have_text("200 Größe fault")
    page.locator(".log").focus()
    page.keyboard.press("n")
    page.keyboard.press("n")
    page.keyboard.press("n")
    expect(found).to_have_text("100 Größe fault")
    page.keyboard.press("N")
    expect(status).to_have_text("4 of 4 matches")
    assert "find=gr" in page.url
    page.get_by_label("regular expression").check()
    page.get_by_label("Search the log").fill("^[12]0+ G.*t$")
    expect(status).to_have_text(re.compile("of 2 matches"))
    page.get_by_label("Search the log").fill("(")
    expect(status).to_contain_text("not an expression")


def test_a_search_goes_on_with_what_is_written(shared: Daemon, page: Page) -> None:
    task_id = shared.submit(shell=steps((10, 10)))
    show(page, task_id, "?find=line")
    expect(page.locator(".find [role=status]")).to_have_text("1 of 10 matches")
    (shared.work(task_id) / "go1").touch()
    expect(page.locator(".find [role=status]")).to_have_text("1 of 20 matches")


# -- what logs hold


def test_colours_are_shown_and_rows_carry_them_on(shared: Daemon, page: Page) -> None:
    text = r"\033[1;31mred\nstill\033[0m plain \033[38;5;208morange\033[m \033[48;2;0;0;120mblue\033[K\033[0m\n10%%\r55%%\r100%%\n"
    show(page, written(shared, "printf", text))
    rows = page.locator(".log .line")
    expect(rows.nth(0).locator(".bold.ink-red")).to_have_text("red")
    expect(rows.nth(1).locator(".bold.ink-red")).to_have_text("still")
    expect(rows.nth(1).locator(".ink")).to_have_text("orange")
    expect(rows.nth(1).locator("[style*=background-color]")).to_have_text("blue")
    expect(rows.nth(1)).to_have_text("still plain orange blue")
    expect(rows.nth(2)).to_have_text("↺2 100%")


def test_colours_are_known_that_were_switched_on_a_little_above_the_window(shared: Daemon, page: Page) -> None:
    """Red and bold from the first line on, blue from the middle on."""
    middle = r"seq -f 'line %.0f' 1 20000; printf '\033[34m'; seq -f 'line %.0f' 20001 40000"
    task_id = written(shared, shell=rf"printf '\033[1m\033[31mfirst\n'; {middle}")
    inks = "[...new Set([...document.querySelectorAll('.log .line > *')].map((each) => each.className))]"
    for query, text, ink in (
        ("?at=150006", "line 14646", "bold ink-red"),
        ("?at=197500", "line 18963", ""),  # too far below where it was switched on
        ("?at=300012", "line 28282", "ink-blue"),
        ("", "line 40000", "ink-blue"),
    ):
        show(page, task_id, query)
        expect(page.locator(".log .line", has_text=re.compile(f"^{text}$"))).to_be_in_viewport()
        assert page.evaluate(inks) == ([ink] if ink else []), query
    page.keyboard.press("g")
    eventually(page, f"{TOP} === 'first'")
    assert page.evaluate(inks) == ["bold ink-red"]


def test_what_a_window_gains_or_loses_keeps_its_colours(shared: Daemon, page: Page) -> None:
    task_id = written(shared, shell=r"printf '\033[32m'; seq -f 'line %.0f' 1 9000; printf '\033[0m'; seq 1 9000")
    show(page, task_id, "?at=80000")
    uncoloured = "[...document.querySelectorAll('.log .line')].filter((row) => !row.querySelector('.ink-green') && row.textContent[0] === 'l').length"
    last = "document.querySelector('.log').lastElementChild.dataset.at"
    for edge in ("0", "log.scrollHeight", "0", "0", "0"):
        before = page.evaluate(last) + page.evaluate("document.querySelector('.log').firstElementChild.dataset.at")
        page.evaluate(f"(log) => {{ log.scrollTop = {edge} }}", page.locator(".log").element_handle())
        wait_for(
            lambda before=before: page.evaluate(last) + page.evaluate("document.querySelector('.log').firstElementChild.dataset.at") != before
        )
        assert page.evaluate(uncoloured) == 0


def test_a_hostile_log_is_text(shared: Daemon, page: Page) -> None:
    hostile = (
        r"<script>document.title='run'</script><img src=x onerror=document.title='run'>\n"
        r"\033]8;;javascript:alert(1)\033\\link\033]8;;\033\\ \033]0;title\007\033[?1049h\n"
        r"\377\376 \342\200\256 \033[5x \0 end\n"
    )
    show(page, written(shared, "printf", hostile))
    rows = page.locator(".log .line")
    expect(rows.nth(0)).to_have_text("<script>document.title='run'</script><img src=x onerror=document.title='run'>")
    expect(rows.nth(1)).to_have_text("^[]8;;javascript:alert(1)^[\\link^[]8;;^[\\ ^[]0;title^G")
    expect(rows.nth(2)).to_have_text("�� ⟨U+202E⟩ ^[[5x ^@ end")
    assert page.locator(".log :is(script, img, a)").count() == 0
    assert page.title().startswith("Task ")


def test_a_gap_is_marked_with_its_bytes(shared: Daemon, page: Page, watch: Watch) -> None:  # noqa: F811
    watch.expected += [REFUSED]  # that is how a reader is told of a gap
    task_id = written(shared, shell="seq -f 'line %.0f' 1 60000; echo the end", maxOutputBytes=65536)
    [gap] = shared.task(task_id)["output"]["gaps"]
    show(page, task_id)
    page.keyboard.press("g")
    expect(page.locator(".log .line").first).to_have_text("line 1")
    marker = page.locator(".log .gap")
    page.get_by_role("slider", name="Place in the log").fill(str(gap["offset"] + 5))
    expect(marker).to_have_text(f"{gap['bytes']:,} bytes not kept")
    expect(marker).to_be_in_viewport()
    search(page, "the end")
    expect(page.locator(".log .line.found")).to_have_text("the end")


def test_the_numbers_before_lines_are_said_to_be_bytes(shared: Daemon, page: Page) -> None:
    show(page, written(shared, "printf", "Größe\n2\n3\n"))
    said = page.get_by_text("the byte of the log at which it begins")
    expect(said).to_have_count(0)
    page.get_by_role("button", name="Offsets").click()
    expect(said).to_be_visible()
    number = "(row) => getComputedStyle(row, '::before').content"
    expect(page.locator(".log .line")).to_have_count(3)
    assert [row.evaluate(number) for row in page.locator(".log .line").all()] == ['"0"', '"8"', '"10"']
    page.get_by_role("button", name="Offsets").click()
    expect(said).to_have_count(0)


def test_streams_that_are_kept_apart_can_be_chosen(shared: Daemon, page: Page) -> None:
    show(page, written(shared, shell="echo out; echo err >&2", outputMode="separate"))
    assert page.evaluate(ROWS) == ["out"]
    page.get_by_label("Stream").select_option("stderr")
    eventually(page, f"{ROWS}.join() === 'err'")
    assert "stream=stderr" in page.url


def test_an_action_leads_to_its_place_in_the_log(shared: Daemon, page: Page) -> None:
    actions = [{"machine": "process", "parameters": {"shell": f"seq -f '{name} %.0f' 1 500"}, "name": name} for name in ("one", "two")]
    task_id = written(shared, actions=actions)
    show(page, task_id)
    page.get_by_role("link", name="2 two").focus()
    page.keyboard.press("Enter")
    eventually(page, f"{TOP} === 'two 1'")
    assert "action=1" in page.url
    show(page, task_id, "?action=1")
    eventually(page, f"{TOP} === 'two 1'")
    expect(page.locator(".log .found")).to_have_text("two 1")


def test_lines_are_wrapped_or_not_and_the_log_is_downloaded(shared: Daemon, page: Page) -> None:
    show(page, written(shared, shell="seq -s ' ' 1 1000; echo last"))
    wide = "(() => { const log = document.querySelector('.log'); return log.scrollWidth > log.clientWidth })()"
    assert not page.evaluate(wide)
    page.keyboard.press("w")
    eventually(page, wide)
    with page.expect_download() as download:
        page.get_by_role("link", name="Download").click()
    assert download.value.path().read_bytes().endswith(b"1000\nlast\n")


def test_wrapping_keeps_the_place_at_once(shared: Daemon, page: Page) -> None:
    show(page, written(shared, shell="for n in $(seq 1 300); do seq -s ' ' $n $((n + 80)); done"))
    page.evaluate("document.querySelector('.log').scrollTop /= 2")
    eventually(page, "location.search.includes('at=')")
    top = page.evaluate(TOP)
    page.get_by_role("button", name="Wrap").focus()
    # before the picture, and before any timer
    assert page.evaluate(f"(async () => {{ document.activeElement.click(); await null; await null; return {TOP} }})()") == top
    expect(page.get_by_role("button", name="Wrap")).to_have_attribute("aria-pressed", "false")
