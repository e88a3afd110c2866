"""The routes of the dialect, and how its clients show the token."""

from __future__ import annotations

import re

from starlette.datastructures import Headers

from task_runner.api.dialects.drove import applications, basic, cluster, events, executors, logfiles, operations, tasks
from task_runner.api.dialects.drove.envelope import answer
from task_runner.api.surface import Surface, bearer
from task_runner.service.settings import Settings


def credential(headers: Headers) -> str | None:
    """The password of Basic, whoever the user is; else the value of the header, with or without "Bearer"."""
    if (token := bearer(headers)) is not None:
        return token
    given = headers.get("authorization", "").strip()
    scheme, _, rest = given.partition(" ")
    if scheme.lower() != "basic":
        return given or None
    pair = basic.pair_of(rest)
    return None if pair is None else pair[1].decode("utf-8", "replace")


def surface(_settings: Settings) -> Surface:
    """What Drove's clients see."""
    return Surface(
        name="drove",
        prefixes=("/apis",),
        routes=[
            *operations.routes,
            *tasks.routes,
            *logfiles.routes,
            *cluster.routes,
            *executors.routes,
            *events.routes,
            *applications.routes,
        ],
        answer=answer,
        credential=credential,
        need="a token is needed: as the password of Basic, or as Authorization; it stands in <state>/token",
        challenge='Basic realm="drove"',
        takes_forms=re.compile(r"/apis/v1/tasks/search"),
    )
