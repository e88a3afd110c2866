"""The routes of the dialect."""

from __future__ import annotations

from task_runner.api.dialects.i3d import batches, instances, tasks, templates
from task_runner.api.dialects.i3d.envelope import answer, credential
from task_runner.api.surface import Surface
from task_runner.service.settings import Settings


def surface(_settings: Settings) -> Surface:
    """What i3D.net's clients see."""
    return Surface(
        name="i3d",
        prefixes=("/v3",),
        # what has a name of its own first: "task" is no instance
        routes=[*templates.routes, *batches.routes, *tasks.routes, *instances.routes],
        answer=answer,
        credential=credential,
        need="a token is needed: PRIVATE-TOKEN; it stands in <state>/token",
    )
