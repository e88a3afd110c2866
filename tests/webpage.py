"""The web page in a real browser: one Chromium for a file, and for each page of a test a context of its own.

A file imports the fixtures that it uses (`chromium`, `watch`, `browse`, `page`) and is marked `needs("chromium")`. A
test fails where its pages threw an error, said something on the console, or tried what the Content-Security-Policy
forbids; `watch.expected` names what a test causes itself.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from conftest import PATIENCE, Daemon, wait_for
from playwright.sync_api import APIResponse, Browser, BrowserContext, Page, Request, Route, expect, sync_playwright

#: the same engine, without the windows that a desktop would show around it; they cost as much again
HEADLESS = "chromium-headless-shell"
#: as root, without a graphics processor, and asking nothing of other hosts
FLAGS = (
    *("--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-dev-shm-usage"),
    *("--disable-background-networking", "--disable-component-update", "--disable-sync"),
)
PHONE = {"viewport": {"width": 390, "height": 800}, "has_touch": True}
#: what the browser itself writes on the console of an answer of 400 or more, and of a lost connection
REFUSED, NO_CONTACT = "Failed to load resource: the server responded", "net::ERR_"

Browse = Callable[..., Page]

expect.set_options(timeout=PATIENCE * 1000)


@pytest.fixture(scope="module")
def chromium() -> Iterator[Browser]:
    """Not for the whole session: as long as Playwright runs, nothing else in this thread can run an event loop."""
    program = shutil.which(HEADLESS) or shutil.which("chromium")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=program, args=list(FLAGS))
        yield browser
        browser.close()


class Watch:
    """What pages complained about."""

    def __init__(self) -> None:
        self.complaints: list[str] = []
        #: parts of complaints that a test causes itself
        self.expected: list[str] = []

    def over(self, context: BrowserContext) -> None:
        context.on("console", lambda said: said.type in ("error", "warning") and self.complaints.append(said.text))
        context.on("weberror", lambda thrown: self.complaints.append(str(thrown.error)))

    def unexpected(self) -> list[str]:
        return [each for each in self.complaints if not any(part in each for part in self.expected)]


@pytest.fixture
def watch() -> Iterator[Watch]:
    watch = Watch()
    yield watch
    unexpected = watch.unexpected()
    assert not unexpected, unexpected


@pytest.fixture
def browse(chromium: Browser, watch: Watch) -> Iterator[Browse]:
    """A function that opens an address of a daemon, signed in by its admin token (or by ``token``; None: nobody), with
    Playwright's options for a context, such as color_scheme="dark"."""
    contexts: list[BrowserContext] = []

    def open_page(daemon: Daemon, address: str | None = "/ui/", *, token: str | None = "", **options: Any) -> Page:
        context = chromium.new_context(base_url=daemon.url, **{"reduced_motion": "reduce", **options})
        contexts.append(context)
        context.set_default_timeout(PATIENCE * 1000)
        watch.over(context)
        if token is not None:
            sign_in(context, daemon, token or daemon.token)
        page = context.new_page()
        if address is not None:
            page.goto(address)
        return page

    yield open_page
    for context in contexts:
        context.close()


@pytest.fixture
def page(browse: Browse, shared: Daemon) -> Page:
    """A page, signed in to the daemon of the file; it shows nothing yet."""
    return browse(shared, None)


class Held:
    """Requests of a page that have been answered, and whose answers wait here to be let go."""

    def __init__(self, page: Page, pattern: str, method: str | None = None) -> None:
        """``method``: of that alone."""
        self.page, self.pattern, self.method = page, pattern, method
        self.waiting: list[tuple[Route, APIResponse | None]] = []
        self.released = False
        page.route(pattern, self._hold)

    def _hold(self, route: Route, request: Request) -> None:
        stream = request.resource_type == "eventsource"
        if self.released or self.method not in (None, request.method):
            route.continue_()
        else:
            self.waiting.append((route, None if stream else route.fetch()))

    def wait(self) -> Any:
        """What the last answer says, once there is one; what was asked before may have been given up."""
        wait_for(lambda: self.page.evaluate("true") and self.waiting, f"{self.pattern} is asked for")
        answer = self.waiting[-1][1]
        is_json = answer is not None and "json" in answer.headers.get("content-type", "")
        return answer.json() if answer is not None and is_json else None

    def release(self, body: Any = None, **more: Any) -> None:
        """Let the last answer go, or another in its place, and hold none from now on. ``more``: as
        Route.fulfill has it."""
        self.released = True
        route, answer = self.waiting[-1]
        if answer is None:
            route.continue_()
        else:
            route.fulfill(response=answer, **({} if body is None else {"json": body}), **more)

    def refuse(self) -> None:
        """Answer instead that nobody is signed in, and see that this has come."""
        route = self.waiting[-1][0]
        with self.page.expect_response(self.pattern):
            route.fulfill(status=401, json={"status": 401, "detail": "nobody is signed in"})


def sign_in(context: BrowserContext, daemon: Daemon, token: str) -> None:
    """As the page of the login does it; the context keeps the cookie."""
    answer = context.request.post("/ui/login", data={"token": token}, headers={"Origin": daemon.url})
    assert answer.ok, answer.text()


def eventually(page: Page, expression: str, argument: Any = None) -> Any:
    """The first true value of an expression of JavaScript, as `page.evaluate` takes it. (What Playwright's own
    wait_for_function does in the page, the page's policy forbids.)"""
    return wait_for(lambda: page.evaluate(expression, argument), expression)
