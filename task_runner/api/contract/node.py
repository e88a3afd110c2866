"""The node, tokens, the audit log, and what there is."""

from __future__ import annotations

from typing import Any

from task_runner.api.contract.base import FULL, Answer, Field, Fields, Operation, ok
from task_runner.api.contract.shapes import AuditEntry, Health, Index, Ready, Secret, Success
from task_runner.api.contract.tasks import MAX_WAIT, NOTHING
from task_runner.api.params import Integer, Seconds, Several
from task_runner.client.records import Node, TasksUse, Token
from task_runner.model.scopes import Scope
from task_runner.service.tokens import LONGEST

NODE, TOKENS, SERVICE = "Node", "Tokens and audit log", "Service"

WAIT = Seconds(
    name="wait", default=0.0, high=MAX_WAIT, meaning="Answer as soon as no task runs, or after so many seconds."
)
AUDIT_LIMIT = Integer(name="limit", default=100, low=1, high=10_000, meaning="How many lines.")

TOKEN = Fields(
    fields={
        "name": Field(
            schema={"type": "string", "pattern": r"^[A-Za-z0-9][A-Za-z0-9._@-]{0,63}$"},
            meaning="What it is called in lists and in the audit log.",
            required=True,
        ),
        "scopes": Field(
            schema={"type": "array", "minItems": 1, "items": {"type": "string", "enum": [str(each) for each in Scope]}},
            meaning="What its holder may do.",
            required=True,
        ),
        "expiresInSeconds": Field(
            schema={"type": ["number", "null"], "exclusiveMinimum": 0, "maximum": LONGEST},
            meaning="When it ends; `null` or left out: never.",
        ),
    },
    example={"name": "ci", "scopes": ["submit", "read"], "expiresInSeconds": 86400},
)

USE_TASK = Several(name="task", pattern="^[0-9a-f]{16}$", meaning="The id of a task; given several times: of these.")

GET_NODE = Operation(
    id="getNode",
    tag=NODE,
    summary="Show the daemon in numbers: tasks, capacity, limits, storage.",
    parameters=(WAIT,),
    answers=ok(Node, "The node."),
)
TASKS_USE = Operation(
    id="getTasksUse",
    tag=NODE,
    summary="Show what every running task uses now: processor time, memory, processes, output.",
    text="Counters: two looks give rates. One look serves all who ask within a second. What is not known is `null`.",
    parameters=(USE_TASK,),
    answers=ok(TasksUse, "The tasks that run."),
)
DRAIN = Operation(
    id="drainNode",
    tag=NODE,
    summary="Start nothing new until told otherwise, also after a restart of the daemon.",
    text="Tasks are accepted and wait, and what runs goes on.",
    body=NOTHING,
    answers=ok(Node, "The node."),
    refuses=FULL,
)
UNDRAIN = Operation(
    id="undrainNode",
    tag=NODE,
    summary="Start tasks again.",
    body=NOTHING,
    answers=ok(Node, "The node."),
    refuses=FULL,
)
SECRETS = Operation(
    id="listSecrets",
    tag=NODE,
    summary="List the names of the secrets that specs may use; never their values.",
    answers=ok(list[Secret], "The names."),
)

LIST_TOKENS = Operation(
    id="listTokens",
    tag=TOKENS,
    summary="List tokens in the order of their making; never their secrets.",
    answers=ok(list[Token], "The tokens."),
)
CREATE_TOKEN = Operation(
    id="createToken",
    tag=TOKENS,
    summary="Make a token.",
    text="The secret is in `token` of this answer, and nowhere else.",
    body=TOKEN,
    answers={
        201: Answer(meaning="The token, with its secret.", shape=Token, headers={"Location": "Its address."})
    },
    refuses={409: "There is one of this name; or there are too many; or the daemon asks for no token.", **FULL},
    leads=(("revokeToken", "name", "/name"),),
)
REVOKE_TOKEN = Operation(
    id="revokeToken",
    tag=TOKENS,
    summary="Revoke a token: it opens nothing from now on, and streams that it has opened are broken off.",
    answers=ok(Success),
    refuses={409: "It is that of the state directory.", **FULL},
)
AUDIT = Operation(
    id="getAudit",
    tag=TOKENS,
    summary="Show the last lines of the audit log, oldest first.",
    text="All that was answered before is in it.",
    parameters=(AUDIT_LIMIT,),
    answers=ok(list[AuditEntry], "The lines."),
    refuses={404: "None is kept (`audit_log`)."},
    example="limit=10",
)

INDEX = Operation(
    id="getIndex",
    tag=SERVICE,
    summary="Say what there is, in the form of Tessia's nodes.",
    answers=ok(Index, "The daemon and its API."),
)
ROOT = Operation(id="getRoot", tag=SERVICE, summary="Say that this API is there.", answers=ok(Success, "It is."))
HEALTH = Operation(
    id="getHealth",
    tag=SERVICE,
    summary="Say that the process answers.",
    answers=ok(Health, "It does."),
    example="",
)
READY = Operation(
    id="getReady",
    tag=SERVICE,
    summary="Say whether every earlier task has been examined and the store takes changes.",
    answers=ok(Ready, "It is so."),
    refuses={503: "Not yet, or the store takes no changes; `Retry-After` says when to ask again.", **FULL},
)
METRICS = Operation(
    id="getMetrics",
    tag=SERVICE,
    summary="Tell Prometheus how the daemon is.",
    answers={200: Answer(meaning="Every metric.", media={"text/plain": "The text format of Prometheus."})},
)
SCHEMA = Operation(
    id="getSchema",
    tag=SERVICE,
    summary="Give the JSON schema of a task.",
    text='`x-machines` has the parameters of the built-in machines, `x-template` a template. The key "/" is what'
    " Tessia's clients look for.",
    answers=ok(dict[str, Any], "The schema."),
)
OPENAPI = Operation(
    id="getOpenapi",
    tag=SERVICE,
    summary="Give this description (OpenAPI 3.1).",
    answers=ok(dict[str, Any], "The description."),
)
DOCS = Operation(
    id="getDocs",
    tag=SERVICE,
    summary="Show this description as a page.",
    text="A browser that shows neither a token nor a session is sent to the login.",
    answers={
        200: Answer(meaning="The page.", media={"text/html": "HTML."}),
        303: Answer(meaning="To the login.", headers={"Location": "The login page."}),
    },
)
