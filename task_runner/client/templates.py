"""Templates: kept under names, looked at, forgotten."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, cast

from task_runner.client import calls
from task_runner.client.core import Core, required
from task_runner.client.records import Template
from task_runner.client.steps import Plan, plan

_FIELDS = required(Template)


class Templates(Core):
    """What a client may ask about templates."""

    @plan
    def templates(self) -> Plan[Sequence[Template]]:
        """All of them, in the order of names, without their tasks."""
        return cast("Sequence[Template]", (yield from self._list(calls.templates(), _FIELDS - {"task"})))

    @plan
    def template(self, name: str) -> Plan[Template]:
        """One of them."""
        return cast("Template", (yield from self._object(calls.template(name), _FIELDS)))

    @plan
    def put_template(self, name: str, body: Mapping[str, Any]) -> Plan[Template]:
        """Keep a template under a name, in the place of an earlier one."""
        return cast("Template", (yield from self._object(calls.put_template(name, body), _FIELDS)))

    @plan
    def delete_template(self, name: str) -> Plan[None]:
        """Forget a template; tasks made of it stay as they are."""
        yield from self._ask(calls.delete_template(name))
