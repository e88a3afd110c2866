"""Admission: what this server cannot do for a task, or does not let it do, is refused when it is submitted; what it
can is granted when the task starts."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence

from task_runner.errors import FieldError, InvalidRequest
from task_runner.model.grant import Grant
from task_runner.model.spec import Spec
from task_runner.service.accounts import Accounts
from task_runner.service.secrets import Secrets
from task_runner.service.task import Task

#: what is wrong with a spec that was submitted with the token of this name
Rule = Callable[[Spec, str], Iterable[FieldError]]


class Admission:
    """Asks every rule. Rules may read files and ask engines: they are called in a thread where there is much to ask.

    ``inherited``: variables of the daemon that every task is given. ``traceparents``: see Grant.
    """

    def __init__(
        self,
        secrets: Secrets,
        accounts: Accounts,
        rules: Sequence[Rule],
        inherited: Mapping[str, str],
        traceparents: Callable[[Task], list[str]] | None = None,
    ) -> None:
        self._secrets = secrets
        self._accounts = accounts
        self._rules = rules
        self._inherited = dict(inherited)
        self._traceparents = traceparents

    def check(self, spec: Spec, prefix: str, token: str) -> None:
        """Raises InvalidRequest, with the fields below the prefix."""
        if faults := [fault for rule in self._rules for fault in rule(spec, token)]:
            raise InvalidRequest(fields=[FieldError(prefix + each.field, each.message) for each in faults])

    def grant(self, task: Task) -> Grant | None:
        """What a task is given at its start beside its spec; None: nothing. Raises NotFound for a secret that is
        gone."""
        values = self._secrets.grant(task.spec)
        given = {"TASK_RUNNER_ENTITY": task.entity, "TASK_RUNNER_BATCH": task.batch}
        traceparents = list[str]()
        if self._traceparents is not None:
            traceparents = self._traceparents(task)
            given["TRACESTATE"] = task.record.trace.state if task.record.trace is not None else None
        env = {name: value for name, value in given.items() if value is not None}
        account, fault = None, None
        try:
            account = self._accounts.grant(task.spec, task.record.token)
        except InvalidRequest as error:
            fault = str(error)
        grant = Grant(
            gpus=list(task.gpus),
            secrets=values,
            account=account,
            fault=fault,
            env=env,
            inherited=self._inherited,
            traceparents=traceparents,
        )
        return None if grant == Grant() else grant
