"""What was: the machine over the last hours, and what ran on it when."""

from __future__ import annotations

import asyncio

from starlette.requests import Request
from starlette.responses import Response

from task_runner.api.access import route
from task_runner.api.app import service_of
from task_runner.api.contract import past as contract
from task_runner.api.output import json_response
from task_runner.api.params import known_only
from task_runner.errors import InvalidRequest
from task_runner.lib.clock import stamp
from task_runner.model.scopes import Scope
from task_runner.service.timeline import Span, timeline


async def get_history(request: Request) -> Response:
    """GET /v1/node/history: samples of the last ?hours= (6), by column; null: not known."""
    query = request.query_params
    known_only(query, contract.GET_HISTORY.parameters)
    hours = contract.HOURS.number(query)
    return json_response(await asyncio.to_thread(service_of(request).history.shown, hours))


async def get_timeline(request: Request) -> Response:
    """GET /v1/timeline: the attempts that ran between ?from= and ?to=, by column, those that started last first."""
    service, query = service_of(request), request.query_params
    known_only(query, contract.GET_TIMELINE.parameters)
    end = contract.TO.read(query)
    end = service.clock.time() if end is None else end
    begin = contract.FROM.read(query)
    begin = max(0.0, end - contract.USUAL_SECONDS) if begin is None else begin
    if begin > end:
        raise InvalidRequest.at("from", "the interval must not begin after its end (to)")
    span = Span(begin=stamp(begin), end=stamp(end))
    return json_response(await timeline(service.book, span, contract.LIMIT.number(query)))


routes = [
    route("/v1/node/history", get_history, scope=Scope.READ, doc=contract.GET_HISTORY),
    route("/v1/timeline", get_timeline, scope=Scope.READ, doc=contract.GET_TIMELINE),
]
