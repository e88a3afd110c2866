"""doc/reference/scopes.md: what each route needs, from the routes themselves."""

from __future__ import annotations

from collections.abc import Iterator
from typing import get_args

from task_runner.api import v1
from task_runner.api.dialects import registry
from task_runner.api.surface import Surface
from task_runner.service.settings import DialectName, read

_HEAD = """\
# What each route needs

Generated from the routes by `python -m task_runner.api.permissions > doc/reference/scopes.md`; do not edit.

The scopes of a token are told in [howto/tokens.md](../howto/tokens.md). `any token`: whoever holds one may ask.
`nothing`: also who holds none. `HEAD` needs what `GET` needs. What is not here is not there: 404 for any token.

- `POST /v1/tasks`, `POST /v1/batches`: `submit-template` is enough where every task is made of a template; one that is
  not needs `submit`.
- `POST /apis/v1/tasks/operations` needs `submit` for `CREATE`, `control` for `KILL`.
- `GET /v1/tasks/{task_id}/explain` leaves out the end of the output (`lastOutput` is `null`) without `logs`.

| surface | method | path | needs |
| --- | --- | --- | --- |
"""


def surfaces() -> list[Surface]:
    """Every one that there is."""
    settings = read(state_dir="/")
    return [v1.SURFACE, *(registry.surface(name, settings) for name in get_args(DialectName))]


def rows() -> Iterator[tuple[str, str, str, str]]:
    """Surface, method, path and need of every route; what is said of a path without methods is said of all others."""
    for surface in surfaces():
        seen = set()
        for door in surface.routes:
            for method in sorted((door.methods or {"other"}) - {"HEAD"}):
                if (method, door.path) not in seen:
                    seen.add((method, door.path))
                    yield surface.name, method, door.path, str(door.need)


def table() -> str:
    lines = [f"| {name} | `{method}` | `{path}` | {need} |" for name, method, path, need in rows()]
    return _HEAD + "\n".join(lines)


if __name__ == "__main__":
    print(table())
