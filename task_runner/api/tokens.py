"""The routes of tokens."""

from __future__ import annotations

from typing import Any

from starlette.requests import Request
from starlette.responses import Response

from task_runner.api.access import route
from task_runner.api.app import service_of, token_of
from task_runner.api.contract import node as contract
from task_runner.api.output import json_response
from task_runner.errors import FieldError, InvalidRequest
from task_runner.model.scopes import Scope
from task_runner.service.tokens import LONGEST, token_json


async def list_tokens(request: Request) -> Response:
    """GET /v1/tokens: all of them, in the order of their making. Secrets are never shown."""
    service = service_of(request)
    return json_response([token_json(each, service.clock.time()) for each in service.tokens.all()])


async def create_token(request: Request) -> Response:
    """POST /v1/tokens: {"name", "scopes", "expiresInSeconds"}: 201 with the secret in "token", this once."""
    service, body = service_of(request), await contract.TOKEN.of(request)
    name, scopes, seconds = _order(body)
    token, secret = await service.tokens.create(name, scopes, seconds=seconds, by=token_of(request))
    shown = {**token_json(token, service.clock.time()), "token": secret}
    return json_response(shown, 201, {"Location": f"/v1/tokens/{token.name}", "Cache-Control": "no-store"})


def _order(body: dict[str, Any]) -> tuple[str, list[Scope], float | None]:
    name, words, seconds, faults = body.get("name"), body.get("scopes"), body.get("expiresInSeconds"), []
    if not isinstance(name, str):
        faults.append(FieldError("name", "expected a string"))
    known = ", ".join(Scope)
    if not isinstance(words, list):
        faults.append(FieldError("scopes", f"expected a list of {known}"))
    else:
        unknown = [index for index, word in enumerate(words) if not isinstance(word, str) or word not in set(Scope)]
        faults += [FieldError(f"scopes.{index}", f"expected one of {known}") for index in unknown]
    if seconds is not None and (type(seconds) not in (int, float) or not 0 < seconds <= LONGEST):
        faults.append(FieldError("expiresInSeconds", f"expected a number above 0 and to {LONGEST}, or null for never"))
    if faults or not isinstance(name, str) or not isinstance(words, list):
        raise InvalidRequest(fields=faults)
    return name, [Scope(word) for word in words], seconds


async def revoke_token(request: Request) -> Response:
    """DELETE /v1/tokens/{name}: from now on it opens nothing; streams that it has opened end."""
    await service_of(request).tokens.revoke(request.path_params["name"])
    return json_response({"success": True})


routes = [
    route("/v1/tokens", list_tokens, scope=Scope.ADMIN, doc=contract.LIST_TOKENS),
    route("/v1/tokens", create_token, scope=Scope.ADMIN, methods=["POST"], doc=contract.CREATE_TOKEN),
    route("/v1/tokens/{name}", revoke_token, scope=Scope.ADMIN, methods=["DELETE"], doc=contract.REVOKE_TOKEN),
]
