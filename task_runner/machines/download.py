"""The `download` machine: fetches one file into the working directory, whole or not at all."""

from __future__ import annotations

import hashlib
import os
from typing import Any
from urllib.parse import unquote, urlsplit

from task_runner.errors import ActionFailed, Damaged
from task_runner.machines import fetch, worktree
from task_runner.machines.base import Context
from task_runner.machines.conduct import Meter, conduct, size
from task_runner.machines.worktree import NewFile
from task_runner.model import urls
from task_runner.model.codec import from_json
from task_runner.model.machines import DownloadParameters

_PIECE = 1 << 20


def run(parameters: Any, context: Context) -> int:
    """Fetch the file; returns the exit code."""
    return conduct("download", lambda: _download(parameters, context))


def _download(parameters: Any, context: Context) -> None:
    try:
        wanted = from_json(DownloadParameters, parameters)
        scheme = urls.split(wanted.url, (*urls.HTTP, "file")).scheme
        path = wanted.path if wanted.path is not None else urls.file_name(wanted.url)
    except (Damaged, ValueError) as error:
        raise ActionFailed(str(error)) from None
    meter = Meter(context)

    def report(done: int, total: int | None) -> None:
        meter.at(*_told(done, total))

    root = worktree.open_work(context.work)
    with NewFile(root, path) as file:
        if scheme == "file":
            length, sha256 = _copy(wanted, context, file, report)
        else:
            length, sha256 = fetch.fetch(_order(wanted, context), file, report)
        file.commit()
    meter.end(1.0, size(length))
    print(f"{path}: {length} bytes, sha256 {sha256}")


def _told(done: int, total: int | None) -> tuple[float | None, str]:
    if total is None:
        return None, size(done)
    return (done / total if total else 1.0), f"{size(done)} of {size(total)}"


def _order(wanted: DownloadParameters, context: Context) -> fetch.Order:
    headers = dict(wanted.headers)
    if wanted.bearer_secret is not None:
        headers["Authorization"] = f"Bearer {secret(context, wanted.bearer_secret)}"
    return fetch.Order(
        url=wanted.url,
        headers=headers,
        timeout=wanted.timeout_seconds,
        sha256=wanted.sha256,
        max_bytes=wanted.max_bytes,
        resumes=wanted.resumes,
    )


def secret(context: Context, name: str) -> str:
    """The value of a secret. Raises ActionFailed."""
    try:
        return context.secrets[name]
    except KeyError:
        raise ActionFailed(f"the secret {name!r} was not given to the task") from None


def _copy(
    wanted: DownloadParameters, context: Context, file: NewFile, report: fetch.Report
) -> tuple[int, str]:
    path = unquote(urlsplit(wanted.url).path)
    most, done, digest = wanted.max_bytes, 0, hashlib.sha256()
    with worktree.open_host_file(path, context.host_files) as source:
        total = os.fstat(source.fileno()).st_size
        while True:
            # the file may be growing
            if most is not None and max(total, done) > most:
                raise ActionFailed(f"{path}: has {max(total, done)} bytes, and {most} are allowed (maxBytes)")
            if not (piece := source.read(_PIECE)):
                break
            file.write(piece)
            digest.update(piece)
            done += len(piece)
            report(done, max(total, done))
    fetch.check_sha256(path, wanted.sha256, digest.hexdigest())
    return done, digest.hexdigest()
