"""Finding a container's image, or fetching it."""

from __future__ import annotations

import threading

from task_runner.engines.base import Login
from task_runner.errors import ActionFailed, EngineFailed
from task_runner.machines.base import Context
from task_runner.machines.conduct import Meter
from task_runner.machines.containers.engine import Asker
from task_runner.model.walls import ContainerParameters, Pull


def obtain(wanted: ContainerParameters, context: Context, asker: Asker) -> str:
    """The id of the image, which is here when this returns. Raises ActionFailed, EngineFailed."""
    here = None if wanted.pull is Pull.ALWAYS else asker.ask(lambda engine: engine.image_id(wanted.image))
    if here is not None:
        return here
    if wanted.pull is Pull.NEVER:
        raise ActionFailed(f'the image {wanted.image} is not here, and "pull" is "never"')
    return _pull(wanted, context, asker)


def _pull(wanted: ContainerParameters, context: Context, asker: Asker) -> str:
    """In a thread and by a connection of its own: an engine that gets nowhere is left alone with it."""
    login, meter = _login(wanted, context), Meter(context)
    result: list[str | EngineFailed] = []

    def tell(message: str, share: float | None) -> None:
        meter.at(share, message)

    def pull() -> None:
        own = asker.another()
        try:
            result.append(own.ask(lambda engine: engine.pull(wanted.image, login, tell)))
        except EngineFailed as error:
            result.append(error)

    thread = threading.Thread(target=pull, daemon=True)
    thread.start()
    thread.join(wanted.pull_timeout_seconds)
    asker.check()
    if not result:
        seconds = f"{wanted.pull_timeout_seconds:g}"
        raise ActionFailed(f"pull {wanted.image}: it was not here after {seconds} seconds (pullTimeoutSeconds)")
    if isinstance(result[0], EngineFailed):
        raise ActionFailed(f"pull {wanted.image}: {result[0]}")
    meter.end(1.0, f"pulled {wanted.image}")
    return result[0]


def _login(wanted: ContainerParameters, context: Context) -> Login | None:
    if wanted.registry is None:
        return None
    name = wanted.registry.password_secret
    if name not in context.secrets:
        raise ActionFailed(f"the secret {name!r} was not given to the task")
    return Login(username=wanted.registry.username, password=context.secrets[name])
