"""Admission: what this server cannot do for a task is refused when it is submitted, and what it can is granted when
the task starts."""

from __future__ import annotations

import posixpath
from collections.abc import Iterable, Sequence
from urllib.parse import unquote, urlsplit

from task_runner.errors import FieldError, InvalidRequest
from task_runner.model.grant import Grant
from task_runner.model.spec import Spec
from task_runner.service.capacity import Capacity, require_fits
from task_runner.service.notify import Notifier
from task_runner.service.secrets import Secrets
from task_runner.service.task import Task


class Admission:
    """``host_files``: directories below which tasks may read files of this machine."""

    def __init__(
        self, capacity: Capacity, secrets: Secrets, notifier: Notifier, *, host_files: Sequence[str]
    ) -> None:
        self._capacity = capacity
        self._secrets = secrets
        self._notifier = notifier
        self._host_files = host_files

    def check(self, spec: Spec, prefix: str) -> None:
        """Raises InvalidRequest, with the fields below the prefix. May read files: of secrets."""
        faults = [*self._secrets.check(spec), *self._notifier.check(spec), *self._not_allowed(spec)]
        try:
            require_fits(spec, self._capacity)
        except InvalidRequest as error:
            faults += error.fields
        if faults:
            raise InvalidRequest(fields=[FieldError(prefix + each.field, each.message) for each in faults])

    def grant(self, task: Task) -> Grant | None:
        """What a task is given at its start beside its spec; None: nothing. Raises NotFound for a secret that is
        gone."""
        values = self._secrets.grant(task.spec)
        given = {"TASK_RUNNER_ENTITY": task.entity, "TASK_RUNNER_BATCH": task.batch}
        env = {name: value for name, value in given.items() if value is not None}
        return Grant(gpus=list(task.gpus), secrets=values, env=env) if task.gpus or values or env else None

    def _not_allowed(self, spec: Spec) -> Iterable[FieldError]:
        for index, file in enumerate(spec.files):
            if file.host_path is not None and not self._is_allowed(file.host_path):
                yield FieldError(f"files.{index}.hostPath", self._allowed_words())
        for name, actions in (("actions", spec.actions), ("cleanup", spec.cleanup)):
            for index, action in enumerate(actions):
                url = action.parameters.get("url", "") if action.machine == "download" else ""
                if url.startswith("file:") and not self._is_allowed(unquote(urlsplit(url).path)):
                    yield FieldError(f"{name}.{index}.parameters.url", self._allowed_words())

    def _is_allowed(self, path: str) -> bool:
        """By its words alone; where links lead is seen by who opens it."""
        path = posixpath.normpath(path)
        return any(path.startswith(directory.rstrip("/") + "/") for directory in self._host_files)

    def _allowed_words(self) -> str:
        allowed = ", ".join(self._host_files) or "none"
        return f"the server lets tasks read files below these directories of its own (host_files): {allowed}"
