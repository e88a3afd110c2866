"""Templates: kept under names, looked at, forgotten."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import cast

from task_runner.client import calls
from task_runner.client.base import Base
from task_runner.client.records import Template

_FIELDS = frozenset(Template.__annotations__)


class Templates(Base):
    """What a client may ask about templates."""

    def templates(self) -> Sequence[Template]:
        """All of them, in the order of names, without their tasks."""
        return cast("Sequence[Template]", self._list(calls.templates(), _FIELDS - {"task"}))

    def template(self, name: str) -> Template:
        return cast("Template", self._object(calls.template(name), _FIELDS))

    def put_template(self, name: str, body: Mapping[str, object]) -> Template:
        """Keep a template under a name, in the place of an earlier one."""
        return cast("Template", self._object(calls.put_template(name, body), _FIELDS))

    def delete_template(self, name: str) -> None:
        """Forget a template; tasks made of it stay as they are."""
        self._connection.send(calls.delete_template(name))
