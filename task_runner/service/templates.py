"""Templates by their names: those of the store and those of the configuration, and the tasks made of them."""

from __future__ import annotations

import json
import logging
from typing import Any

from task_runner.errors import Conflict, Damaged, FieldError, InvalidRequest, NotFound
from task_runner.model.codec import from_json, to_json
from task_runner.model.template import Template
from task_runner.service.book import Book
from task_runner.service.nearest import did_you_mean
from task_runner.service.statements import Op
from task_runner.service.templatefiles import MOST_BYTES, NAME, Known, TemplateFiles
from task_runner.service.templateform import fill, parse_template

log = logging.getLogger(__name__)

#: templates in the store
MOST_TEMPLATES = 1000
#: what a request may say of one task beside its template: when, for whom and how often it runs, and not what it does
BESIDE = (
    "name",
    "alias",
    "tags",
    "metadata",
    "executeAt",
    "entity",
    "priority",
    "after",
    "timeoutSeconds",
    "startWithinSeconds",
    "retry",
    "resources",
    "notify",
    "keepSeconds",
)


class Templates:
    """What is known by name. Reading is for any thread, changing for that of the event loop."""

    def __init__(self, book: Book, directory: str | None) -> None:
        self._book = book
        self._files = TemplateFiles(directory)
        self._stored: dict[str, Known] = {}

    def load(self) -> None:
        """Read what the store has, and look for what is broken in the directory."""
        rows = self._book.store.read(("SELECT name, updated_at, data FROM templates", ()))
        for name, updated_at, data in rows:
            template, error = None, None
            try:
                template = from_json(Template, json.loads(data))
            except (Damaged, ValueError) as fault:
                error = f"it is damaged: {fault}"
                log.warning("template %s in the store cannot be used: %s", name, error)
            self._stored[name] = Known(
                name=name, origin="store", updated_at=updated_at, template=template, error=error
            )
        for name in self._files.names():
            self._files.find(name)

    # -- by name

    def get(self, name: str) -> Known:
        """The template of this name; a file comes before the store. Raises NotFound."""
        known = self._files.find(name) or self._stored.get(name)
        if known is None:
            raise NotFound(f"there is no template {name[:100]!r}")
        return known

    def all(self) -> list[Known]:
        """Every one, in the order of names."""
        found = {**self._stored, **{name: known for name in self._files.names() if (known := self._files.find(name))}}
        return [found[name] for name in sorted(found)]

    async def put(self, name: str, body: Any) -> tuple[Known, bool]:
        """Keep a template under a name; returns it, and whether it is new. Raises InvalidRequest, Conflict,
        StorageFull."""
        if NAME.fullmatch(name) is None:
            raise InvalidRequest.at("name", "expected up to 100 letters, digits and `._-`, a letter or digit first")
        template = parse_template(body)
        data = json.dumps(to_json(template, sparse=True), ensure_ascii=False)
        if len(data.encode(errors="surrogatepass")) > MOST_BYTES:
            raise InvalidRequest.at("", f"a template has at most {MOST_BYTES} bytes as JSON")
        self._refuse_file(name)
        new = name not in self._stored
        if new and len(self._stored) >= MOST_TEMPLATES:
            raise Conflict(f"there are {MOST_TEMPLATES} templates, and no more are kept: delete one first")
        known = Known(name=name, origin="store", updated_at=self._book.now(), template=template)
        await self._book.write([_keep(known, data)])
        self._stored[name] = known
        return known, new

    async def delete(self, name: str) -> None:
        """Forget a template; tasks made of it stay as they are. Raises NotFound, Conflict, StorageFull."""
        self.get(name)
        self._refuse_file(name)
        await self._book.write([("DELETE FROM templates WHERE name = ?", (name,))])
        self._stored.pop(name, None)

    def _refuse_file(self, name: str) -> None:
        if self._files.find(name) is not None:
            raise Conflict(f"template {name} is a file of the server's configuration (templates_dir): change it there")

    # -- tasks

    def expand(self, body: dict[str, Any]) -> tuple[dict[str, Any], str | None]:
        """A task's body with the template that it names put in, and the name of that; any other body as it is.

        Raises InvalidRequest, with fields as the client wrote them.
        """
        if "template" not in body:
            return body, None
        template, values = self._asked_for(body)
        task = fill(template, values)
        beside = {name: body[name] for name in BESIDE if name in body}
        if isinstance(beside.get("tags"), dict):
            beside["tags"] = {**(task.get("tags") or {}), **beside["tags"]}
        return {**task, **beside}, body["template"]

    def _asked_for(self, body: dict[str, Any]) -> tuple[Template, dict[str, Any]]:
        name, values, faults = body["template"], body.get("parameters", {}), list[FieldError]()
        if not isinstance(name, str):
            raise InvalidRequest.at("template", "expected the name of a template")
        for field in body:
            if field not in (*BESIDE, "template", "parameters"):
                text = f'cannot stand beside "template"; these can: parameters, {", ".join(BESIDE)}'
                faults.append(FieldError(field[:100], text))
        if not isinstance(values, dict):
            faults.append(FieldError("parameters", "expected an object with the values of the template's parameters"))
        try:
            known = self.get(name)
        except NotFound as error:
            near = did_you_mean(name, [each.name for each in self.all()])
            raise InvalidRequest(fields=[FieldError("template", f"{error}{near}"), *faults]) from None
        if known.template is None:
            faults.append(FieldError("template", f"the template {name!r} cannot be used: {known.error}"))
        if faults or known.template is None:
            raise InvalidRequest(fields=faults)
        return known.template, values


def _keep(known: Known, data: str) -> Op:
    return ("INSERT OR REPLACE INTO templates VALUES (?, ?, ?)", (known.name, known.updated_at, data))


def template_json(known: Known) -> dict[str, Any]:
    """As `/v1` shows it."""
    template = known.template
    parameters = {} if template is None else template.parameters
    return {
        "name": known.name,
        "origin": known.origin,
        "updatedAt": known.updated_at,
        "description": template and template.description,
        "parameters": {
            name: {**to_json(each, sparse=True), "type": each.type.value, "required": each.default is None}
            for name, each in parameters.items()
        },
        "task": template and template.task,
        "error": known.error,
    }
