"""The short ways to write a spec, made long.

    {"machine": "echo", "parameters": …}     Tessia's: one action
    {"command": ["ls", "-l"]}                one `process` action; also with "shell", "env", …

What stands beside them in the full form may stand beside them here.
"""

from __future__ import annotations

from typing import Any

from task_runner.errors import InvalidRequest

_PROCESS_FIELDS = ("command", "shell", "env", "workingDirectory", "stdin", "openStdin", "sandbox", "sidecar")


def expand(body: Any) -> dict[str, Any]:
    """The full form of a spec. Raises InvalidRequest where a body mixes the forms, or is none of them."""
    if not isinstance(body, dict):
        raise InvalidRequest.at("", f"a task is a JSON object, this is {_kind(body)}")
    rest = dict(body)
    process = {name: rest.pop(name) for name in _PROCESS_FIELDS if name in rest}
    forms = [name for name in ("actions", "machine") if name in rest]
    forms += [name for name in ("command", "shell") if name in process]
    if not forms:
        raise InvalidRequest.at("", 'a task needs one of "command", "shell", "machine" or "actions"')
    if "actions" in rest or "machine" in rest:
        if process or len(forms) > 1:
            extra = next(name for name in (*process, *forms) if name != forms[0])
            raise InvalidRequest.at(extra, f'cannot stand beside "{forms[0]}"')
        if "machine" in rest:
            action = {"machine": rest.pop("machine")}
            if "parameters" in rest:
                action["parameters"] = rest.pop("parameters")
            rest["actions"] = [action]
        return rest
    rest["actions"] = [{"machine": "process", "parameters": process}]
    return rest


def _kind(value: object) -> str:
    names = {list: "an array", str: "a string", bool: "a boolean", type(None): "null"}
    return names.get(type(value), "a number")
