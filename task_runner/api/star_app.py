"""The composition root: settings, store, environment, service, routes and gate become one application.

    python -m gunicorn -k uvicorn_worker.UvicornWorker 'task_runner.api.star_app:create_app()'
"""

from __future__ import annotations

import asyncio
import json
import logging
import os
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.types import ASGIApp

from task_runner.api import arbiter, binds, v1
from task_runner.api.dialects import registry
from task_runner.api.follow import GrowthWatch
from task_runner.api.gate import Entry, Gate, admin_token
from task_runner.api.httpmeter import HttpMeter
from task_runner.api.meters import Meters
from task_runner.api.metrics import Metrics
from task_runner.api.streams import Streams
from task_runner.api.surface import Surface, Switchboard
from task_runner.api.tracemiddleware import TraceMiddleware
from task_runner.environment.multiprocess import MultiprocessEnvironment
from task_runner.errors import UnsafeBind
from task_runner.lib.clock import SystemClock
from task_runner.lib.statedir import StateDirectory
from task_runner.lib.taskdir import write_control
from task_runner.service import containers, unit
from task_runner.service import settings as settings_module
from task_runner.service.accounts import switches
from task_runner.service.audit import AuditLog
from task_runner.service.sessions import Sessions
from task_runner.service.settings import Settings
from task_runner.service.store import Store
from task_runner.service.tasks import TaskService
from task_runner.service.tokens import Tokens

log = logging.getLogger(__name__)


def create_app(settings: Settings | None = None) -> ASGIApp:
    """The application of one state directory. Nothing is started before its lifespan begins."""
    chosen = settings or settings_module.load()
    os.umask(0o077)
    state = StateDirectory(chosen.state_dir)
    state.create(shared=switches(chosen))
    free, clock = chosen.auth == "none", SystemClock()
    tokens = Tokens(None if free else admin_token(state.token), clock)
    sessions = Sessions(tokens, clock, seconds=chosen.web_session_hours * 3600)
    meters = Meters()
    audit = None
    if chosen.audit_log:
        audit = AuditLog(state.audit, max_bytes=chosen.audit_max_bytes, keep=chosen.audit_keep, clock=clock)

    @asynccontextmanager
    async def lifespan(app: Starlette) -> AsyncIterator[None]:
        async with _running(app, chosen, state, sessions, audit, meters):
            yield

    def application(surface: Surface, **options: Any) -> Starlette:
        no_token = binds.lets_anybody_in(surface.name, chosen)
        gate = Middleware(
            Gate,
            surface=surface,
            entry=Entry(
                tokens,
                free=free or no_token,
                anybody=no_token,
                sessions=sessions if surface is v1.SURFACE and chosen.web_ui else None,
            ),
            allowed_hosts=chosen.allowed_hosts,
            max_body_bytes=chosen.max_body_bytes,
            audit=audit,
        )
        around = [Middleware(HttpMeter, surface=surface.name, meters=meters)]
        if chosen.tracing:
            around.append(Middleware(TraceMiddleware))
        handlers = dict(surface.handlers())
        return Starlette(routes=surface.routes, middleware=[*around, gate], exception_handlers=handlers, **options)

    main = application(v1.SURFACE, lifespan=lifespan)
    shared, own = [], []
    listeners = binds.own(chosen)
    for name in chosen.dialects:
        surface = registry.surface(name, chosen)
        app = application(surface)
        app.state = main.state
        if name in listeners:
            own.append((listeners[name], app))
        else:
            shared.append((surface, app))
    return Switchboard(main, shared, own)


@asynccontextmanager
async def _running(
    app: Starlette,
    settings: Settings,
    state: StateDirectory,
    sessions: Sessions,
    audit: AuditLog | None,
    meters: Meters,
) -> AsyncIterator[None]:
    arbiter.die_with_arbiter()
    addresses = binds.listening()
    binds.check(addresses, settings)
    held = await asyncio.to_thread(state.hold, settings.lock_patience_seconds)
    environment = MultiprocessEnvironment(
        state,
        heartbeat_seconds=settings.heartbeat_seconds,
        host_files=settings.host_files,
        cgroups=settings.cgroups == "auto",
        engines=dict(settings.engines),
        containers=containers.policy(settings),
        forward_ca=settings.forward_ca,
    )
    service = TaskService(settings, Store(state.database), environment, sessions.clock, sessions.tokens, sessions)
    growth, streams = GrowthWatch(), Streams(settings.max_streams)
    if audit is not None:
        audit.open()
    try:
        await service.start()
        growth.open()
        streams.close_on_signals()
        app.state.service, app.state.growth, app.state.streams = service, growth, streams
        app.state.audit = audit
        # nothing has happened yet: what an earlier daemon left is examined from the next turn of the loop on
        metrics = app.state.metrics = Metrics(meters, service, streams)
        lag = asyncio.create_task(metrics.watch_lag(), name="lag")
        late = None if addresses else asyncio.create_task(_check_late_bind(state, settings), name="late bind")
        _tell(state, addresses, settings)
        asyncio.get_running_loop().run_in_executor(None, unit.warn_of_kill_mode)
        log.info("ready in %s", state.path, extra={"action": "ready"})
        yield
        lag.cancel()
        if late is not None:
            late.cancel()
    finally:
        streams.closing.set()
        growth.close()
        await service.stop_serving()
        if audit is not None:
            await asyncio.to_thread(audit.close)
        os.close(held)


async def _check_late_bind(state: StateDirectory, settings: Settings) -> None:
    """Look at the addresses again: uvicorn, started without gunicorn, binds once the application is ready."""
    pause = 0.01
    while not (addresses := binds.listening()):
        if pause > 10:
            return  # no server at all: a test client
        await asyncio.sleep(pause)
        pause *= 2
    try:
        binds.check(addresses, settings)
    except UnsafeBind as error:
        log.critical("%s", error)
        os.kill(os.getpid(), signal.SIGTERM)  # the server's own orderly end
    else:
        _tell(state, addresses, settings)


def _tell(state: StateDirectory, addresses: list[str], settings: Settings) -> None:
    """Write where clients on this machine find the daemon, and warn of addresses where nobody does."""
    for problem in binds.unheard(addresses, settings) if addresses else ():
        log.warning("%s", problem)
    url = binds.url(addresses, settings)
    if url is not None:
        try:
            write_control(state.address, json.dumps({"url": url, "pid": os.getpid()}).encode() + b"\n")
        except OSError as error:  # on a full disk the daemon serves all the same
            log.warning("%s: %s; clients may have to be told the address", state.address, error.strerror)
