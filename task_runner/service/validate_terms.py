"""What the fields of a spec must be beside each other, as far as it can be told without asking the server."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Iterable, Iterator

from task_runner.errors import FieldError
from task_runner.lib import signals
from task_runner.model import urls, workpath
from task_runner.model.spec import Spec
from task_runner.model.terms import Fetch, FileIn
from task_runner.service import when
from task_runner.service.secrets import named
from task_runner.service.validate_machines import Fault, check_credentials, check_headers, check_path

#: variables that the runner sets, and finds the task's processes by
OURS = "TASK_RUNNER_"


def check_terms(spec: Spec) -> list[FieldError]:
    """All faults of these kinds."""
    checks = (_signal, _time, _order, _files, _secrets, _webhooks)
    return [FieldError(field, message) for check in checks for field, message in check(spec)]


def _signal(spec: Spec) -> Iterator[Fault]:
    try:
        signals.parse(spec.stop_signal)
    except ValueError as error:
        yield "stopSignal", str(error)


def _time(spec: Spec) -> Iterator[Fault]:
    try:
        when.parse(spec.execute_at)
    except ValueError as error:
        yield "executeAt", str(error)


def _order(spec: Spec) -> Iterator[Fault]:
    for index in _repeated(spec.pools):
        yield f"pools.{index}", f"the pool {spec.pools[index]!r} stands there twice; a task takes one place in it"
    for index in _repeated(after.task for after in spec.after):
        yield f"after.{index}.task", f"{spec.after[index].task!r} stands there twice"


def _repeated(values: Iterable[str]) -> Iterator[int]:
    seen: set[str] = set()
    for index, value in enumerate(values):
        if value in seen:
            yield index
        seen.add(value)


# -- files


def _files(spec: Spec) -> Iterator[Fault]:
    places: dict[tuple[str, ...], int] = {}
    for index, file in enumerate(spec.files):
        for field, message in _file(file):
            yield ".".join(filter(None, (f"files.{index}", field))), message
        try:
            parts = workpath.file_parts(file.path)
        except ValueError:
            continue
        if parts in places:
            yield f"files.{index}.path", f"is the same file as files.{places[parts]}.path"
        places.setdefault(parts, index)
    for parts, index in places.items():
        for length in range(1, len(parts)):
            if parts[:length] in places:
                yield f"files.{index}.path", f"lies below files.{places[parts[:length]]}.path, which is a file"


def _file(file: FileIn) -> Iterator[Fault]:
    yield from check_path("path", file.path, workpath.file_parts)
    sources = {"text": file.text, "base64": file.base64, "hostPath": file.host_path, "fetch": file.fetch}
    given = [name for name, value in sources.items() if value is not None]
    if not given:
        yield "", f"give one of {', '.join(sources)}: what the file is to hold"
    for name in given[1:]:
        yield name, f'cannot stand beside "{given[0]}": a file has one source'
    if file.base64 is not None:
        try:
            base64.b64decode("".join(file.base64.split()), validate=True)
        except binascii.Error as error:
            yield "base64", f"is not base64: {error}"
    if file.fetch is not None:
        for field, message in _fetch(file.fetch):
            yield f"fetch.{field}", message


def _fetch(fetch: Fetch) -> Iterator[Fault]:
    try:
        found = urls.split(fetch.url, urls.HTTP)
    except ValueError as error:
        yield "url", str(error)
        return
    yield from check_headers(fetch.headers)
    for field, message in check_headers(dict.fromkeys(fetch.header_secrets, "")):
        yield field.replace("headers.", "headerSecrets.", 1), message
    written = {name.lower() for name in fetch.headers}
    for name in fetch.header_secrets:
        if name.lower() in written:
            yield f"headerSecrets.{name}", "stands in headers, too"
    if fetch.password_secret is not None and fetch.username is None:
        yield "passwordSecret", 'needs a "username" beside it'
    if fetch.insecure and found.scheme != "https":
        yield "insecure", "says something of certificates, and there are none without https"
    given = [("url", found.username), ("username", fetch.username), ("bearerSecret", fetch.bearer_secret)]
    given += [(f"headerSecrets.{name}", name) for name in fetch.header_secrets if name.lower() == "authorization"]
    yield from check_credentials(given, fetch.headers)


# -- secrets and notifications


def _secrets(spec: Spec) -> Iterator[Fault]:
    used: dict[str, str] = {}
    for index, secret in enumerate(spec.secrets):
        if secret.env is None and secret.file_env is None:
            yield f"secrets.{index}", 'give "env", "fileEnv" or both: where the command finds it'
        for field, name in (("env", secret.env), ("fileEnv", secret.file_env)):
            if name is None:
                continue
            place = f"secrets.{index}.{field}"
            if name in used:
                yield place, f"the variable {name} is also that of {used[name]}"
            if name.startswith(OURS):
                yield place, f"variables that begin with {OURS} are the program's own"
            used.setdefault(name, place)
    if spec.mask_secrets and all(field.startswith("notify.") for field, _name in named(spec)):
        yield "maskSecrets", "there is nothing to mask: the task is given no secrets"


def _webhooks(spec: Spec) -> Iterator[Fault]:
    for index, webhook in enumerate(spec.notify):
        try:
            urls.split(webhook.url, urls.HTTP)
        except ValueError as error:
            yield f"notify.{index}.url", str(error)
