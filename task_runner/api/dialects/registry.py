"""Which dialects there are. One that is not switched on is not imported."""

from __future__ import annotations

from task_runner.api.surface import Surface
from task_runner.service.settings import DialectName, Settings


def surface(name: DialectName, settings: Settings) -> Surface:
    """What a dialect's clients see."""
    match name:
        case "drove":
            from task_runner.api.dialects.drove import routes as drove

            return drove.surface(settings)
        case "executor":
            from task_runner.api.dialects.executor import routes as executor

            return executor.surface(settings)
        case "i3d":
            from task_runner.api.dialects.i3d import routes as i3d

            return i3d.surface(settings)
