"""The routes of the page. Every address below /ui/ is one of its pages and answered with the same file: which page it
is, the script reads in the address."""

from __future__ import annotations

import functools
from collections.abc import Mapping

from starlette.datastructures import Headers
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response
from starlette.types import Scope

from task_runner.api.access import OPEN, Door, route
from task_runner.api.web import assets, login
from task_runner.errors import NotFound

INDEX = "index.html"


@functools.cache
def files() -> Mapping[str, assets.Asset]:
    """Read when the first daemon of this process begins."""
    return assets.load()


async def get_page(request: Request) -> Response:
    """GET /ui/…: the page."""
    login.require_page(request)
    if INDEX not in files():
        raise NotFound("the page is not part of this installation")
    return files()[INDEX].response(request.headers)


async def get_asset(request: Request) -> Response:
    """GET /ui/static/…: one of its files."""
    login.require_page(request)
    asset = files().get(request.path_params["path"])
    if asset is None:
        raise NotFound(f"there is nothing at {request.url.path[:200]}")
    return asset.response(request.headers)


async def redirect(request: Request) -> Response:
    """GET /ui, and / for browsers: to the list of tasks."""
    login.require_page(request)
    return RedirectResponse("/ui/", 308 if request.url.path == "/ui" else 303, {"Vary": "Accept"})


class Browsers(Door):
    """A route for browsers alone: programs find another one at the same path."""

    def is_for(self, connection: Scope) -> bool:
        if connection["type"] != "http" or not prefers_html(Headers(scope=connection).get("accept", "")):
            return False
        return bool(connection["app"].state.service.settings.web_ui)


def prefers_html(accepted: str) -> bool:
    """Whether an Accept header names text/html, and JSON not before it."""
    kinds = [part.split(";")[0].strip().lower() for part in accepted.split(",")]
    return "text/html" in kinds and "application/json" not in kinds[: kinds.index("text/html")]


#: stands before the route of programs
home = Browsers("/", redirect, need=OPEN, methods=None, changes=None)
routes = [
    route("/ui", redirect, scope=OPEN),
    *login.routes,
    route("/ui/static/{path:path}", get_asset, scope=OPEN),
    route("/ui/{path:path}", get_page, scope=OPEN),
]
