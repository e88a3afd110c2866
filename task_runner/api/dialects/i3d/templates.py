"""Templates by numbers, as i3D.net has them, and what each of their steps needs. Pure, but for the route."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from starlette.requests import Request
from starlette.responses import Response

from task_runner.api.app import service_of
from task_runner.api.dialects.i3d.envelope import array, route
from task_runner.api.dialects.i3d.form import OPENAPI, PROSE, Form
from task_runner.api.dialects.i3d.params import INSTANCE
from task_runner.errors import InvalidRequest
from task_runner.model import placeholder
from task_runner.model.scopes import Scope
from task_runner.model.shortform import expand
from task_runner.model.template import Template
from task_runner.service.settings import Settings
from task_runner.service.templatefiles import Known


def form_of(settings: Settings) -> Form:
    return OPENAPI if settings.i3d_openapi else PROSE


def template_id(name: str) -> int:
    """A number from 1 to 2^31-1, the same for a name wherever and whenever."""
    return int.from_bytes(hashlib.sha256(name.encode()).digest()[:4]) % (2**31 - 1) + 1


def chosen(known: Sequence[Known], wanted: str) -> Known:
    """The template with this id, or of this name. Raises InvalidRequest, also where that could be two."""
    found = [each for each in known if wanted in (each.name, str(template_id(each.name)))]
    if not found:
        text = f"there is no template {wanted[:80]!r}; GET /v3/applicationInstance/task/template lists them"
        raise InvalidRequest.at("taskTemplateId", text)
    if len(found) > 1:
        names = " and ".join(repr(each.name) for each in found)
        raise InvalidRequest.at("taskTemplateId", f"{wanted!r} is of the templates {names}: rename one of them")
    if found[0].template is None:
        raise InvalidRequest.at("taskTemplateId", f"the template {found[0].name!r} cannot be used: {found[0].error}")
    return found[0]


def template_json(name: str, template: Template, form: Form) -> dict[str, Any]:
    """As i3D.net shows it."""
    return {
        "id": template_id(name),
        "name": name,
        "description": template.description or "",
        "actions": list(_actions(template, form)),
    }


def _actions(template: Template, form: Form) -> Iterator[dict[str, Any]]:
    task = expand(template.task)
    steps = [*task["actions"], *(task.get("cleanup") or ())]
    needs = [_names(step) for step in steps]
    # what stands beside the actions (a time limit, a tag) is needed before the first of them
    needs[0] |= _names({name: value for name, value in task.items() if name not in ("actions", "cleanup")})
    for index, (step, names) in enumerate(zip(steps, needs, strict=True)):
        required = {
            name: parameter.description or ""
            for name, parameter in template.parameters.items()
            if name in names and name != INSTANCE and parameter.default is None
        }
        yield {
            "idx": index,
            "actionType": step.get("name") or step["machine"],
            "requiredParams": list(required) if form.keys_only else required or None,
        }


def _names(part: Mapping[str, Any]) -> set[str]:
    return {name for names in placeholder.holes_at(part).values() for name in names}


async def list_templates(request: Request) -> Response:
    """GET …/task/template. Those that are broken cannot be used, and are not shown."""
    service = service_of(request)
    form = form_of(service.settings)
    known = service.templates.all()
    return array(*(template_json(each.name, each.template, form) for each in known if each.template is not None))


routes = [route("/applicationInstance/task/template", list_templates, scope=Scope.READ)]
