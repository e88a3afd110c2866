"""The session of a browser."""

from __future__ import annotations

from typing import TypedDict

from task_runner.api.contract.base import FULL, Answer, Field, Fields, Operation, ok

TAG = "Web page"


class Session(TypedDict):
    """Who is logged in."""

    #: of the token
    name: str
    scopes: list[str]
    #: the daemon asks for no token
    free: bool
    #: when the session ends; null: there is none, a token was shown
    expiresAt: str | None


LOGIN = Fields(
    fields={"token": Field(schema={"type": "string"}, meaning="The secret of a token.", required=True)},
    example={"token": "trt_…"},
)
_OFF = {404: "The page is switched off (`web_ui`)."}
_COOKIE = {"Set-Cookie": "The session: no script reads it (`HttpOnly`), no other site uses it (`SameSite=Strict`)."}

LOG_IN = Operation(
    id="logIn",
    tag=TAG,
    summary="Begin a session with a token.",
    body=LOGIN,
    answers={200: Answer(meaning="Whose it is.", shape=Session, headers=_COOKIE)},
    refuses={
        401: "There is no such token, or it has expired. The answer takes a while.",
        429: "Too many logins have failed just now.",
        **_OFF,
        **FULL,
    },
)
LOG_OUT = Operation(
    id="logOut",
    tag=TAG,
    summary="End the session, if there is one.",
    body=Fields(),
    answers={204: Answer(meaning="Nobody is logged in.", headers=_COOKIE)},
    refuses={
        **_OFF,
        507: "The state directory is full. The session has ended and the cookie is taken back, but that could not be "
        "stored: a daemon that is killed before there is space takes the session up again when it starts.",
    },
)
GET_SESSION = Operation(
    id="getSession",
    tag=TAG,
    summary="Say who is logged in.",
    answers=ok(Session, "Somebody is."),
    refuses={401: "Nobody is.", **_OFF},
)
