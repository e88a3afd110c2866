"""doc/settings.md: every setting, from its own description.

WARNING: that page is generated from here: `python -m task_runner.service.settingspage > doc/settings.md`.
"""

from __future__ import annotations

import json
from typing import Any, Literal, get_args, get_origin

from task_runner.service.settings import Settings

_HEAD = """\
# Settings

Generated from `task_runner/service/settings.py`
by `python -m task_runner.service.settingspage > doc/settings.md`; do not edit.

A setting is taken from the environment, where its name is in capitals and begins with `TASK_RUNNER_`
(`TASK_RUNNER_MAX_RUNNING=8`; a list or a table is JSON: `TASK_RUNNER_POOLS={"licences": 2}`), else
from the TOML file that `TASK_RUNNER_CONF` names (`max_running = 8`, `pools.licences = 2`), else it has
its default.

`state_dir` is by default the first directory of `$STATE_DIRECTORY`, which systemd sets; else
`/var/lib/task-runner` for root, and `$XDG_STATE_HOME/task-runner` (`~/.local/state/task-runner`) for
others.

| setting | kind | default | meaning |
| --- | --- | --- | --- |"""


def page() -> str:
    """The whole page."""
    rows = []
    for name, field in Settings.model_fields.items():
        if field.default_factory is not None:
            default = "see below" if name == "state_dir" else "none"
        else:
            default = "unset" if field.default is None else f"`{json.dumps(field.default)}`"
        rows.append(f"| `{name}` | {_kind(field.annotation)} | {default} | {field.description} |")
    return "\n".join([_HEAD, *rows])


def _kind(annotation: Any) -> str:
    kinds = [kind for kind in get_args(annotation) or (annotation,) if kind is not type(None)]
    if get_origin(annotation) in (list, dict):
        return "list" if get_origin(annotation) is list else "table"
    if get_origin(kinds[0]) is list:
        return "list"
    if get_origin(annotation) is Literal:
        return " or ".join(f"`{kind}`" for kind in kinds)
    words = {str: "text", bool: "`true` or `false`", int: "whole number", float: "number"}
    return words[kinds[0]]


if __name__ == "__main__":
    print(page())
