"""GET /v1/audit: who did what."""

from __future__ import annotations

import asyncio

from starlette.requests import Request
from starlette.responses import Response

from task_runner.api.access import route
from task_runner.api.contract.node import AUDIT, AUDIT_LIMIT
from task_runner.api.output import json_response
from task_runner.errors import NotFound
from task_runner.model.scopes import Scope
from task_runner.service.audit import AuditLog


async def get_audit(request: Request) -> Response:
    """GET /v1/audit: the last lines of the audit log, oldest first."""
    log: AuditLog | None = request.app.state.audit
    limit = AUDIT_LIMIT.number(request.query_params)
    if log is None:
        raise NotFound("no audit log is kept here (audit_log = false)")
    return json_response(await asyncio.to_thread(log.tail, limit))


routes = [route("/v1/audit", get_audit, scope=Scope.ADMIN, doc=AUDIT)]
