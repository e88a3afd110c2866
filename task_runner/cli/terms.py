"""The options with which `run`, `submit` and `batch run` say what a task asks for beside its command."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, TypeVar

import click

from task_runner.cli import walls
from task_runner.cli.values import (
    after,
    duration,
    local_file,
    mebibytes,
    moment,
    pair,
    reading,
    size,
    some_duration,
    stall,
)
from task_runner.lib import signals

F = TypeVar("F", bound=Callable[..., Any])

#: the endings that can be tried again
_RETRY_ON = ("failed", "timed_out", "lost")


def _signal(text: str) -> str:
    return signals.name_of(signals.parse(text))


_OPTIONS = [
    click.option("--name", metavar="NAME", help="A name for people."),
    click.option(
        "--tag", "-t", multiple=True, callback=reading(pair), metavar="KEY=VALUE", help="For filters; again for more."
    ),
    click.option(
        "--at", callback=reading(moment), metavar="TIME", help="When: +10m, 03:00, 2030-01-31T03:00 (local, or with Z)."
    ),
    click.option("--alias", metavar="NAME", help="Another name, which no other task that is kept has."),
    click.option("--entity", metavar="NAME", help="What it is about: one task of an entity runs at a time, in order."),
    click.option("--priority", type=click.IntRange(-1000, 1000), metavar="N", help="More starts earlier. [0]"),
    click.option("--pool", multiple=True, metavar="NAME", help="Take a place in this pool; again for more."),
    click.option(
        "--after",
        multiple=True,
        callback=reading(after),
        metavar="ID[:end]",
        help="Only when that task has succeeded; with :end, has ended.",
    ),
    click.option("--cpus", type=click.FloatRange(min=0), metavar="N", help="Processors set aside for it."),
    click.option("--memory", callback=reading(mebibytes), metavar="SIZE", help="Memory set aside: MiB, or 512M, 4G."),
    click.option("--gpus", type=click.IntRange(min=0), metavar="N", help="Graphics processors of its own."),
    *walls.OPTIONS,
    click.option(
        "--timeout",
        callback=reading(some_duration),
        metavar="SECONDS",
        help="Stop it when it has run so long; also 10m, 2h.",
    ),
    click.option(
        "--start-within",
        callback=reading(some_duration),
        metavar="SECONDS",
        help="End it as timed out if it has not started so long after it was due.",
    ),
    click.option(
        "--grace", callback=reading(duration), metavar="SECONDS", help="From the polite signal to SIGKILL. [10]"
    ),
    click.option("--stop-signal", callback=reading(_signal), metavar="NAME", help="The polite signal. [SIGTERM]"),
    click.option(
        "--stall", callback=reading(stall), metavar="SECONDS[:stop]", help="Mark it, or stop it, when silent so long."
    ),
    click.option("--retry", type=click.IntRange(0, 1000), metavar="N", help="Run it up to N times more."),
    click.option(
        "--retry-delay",
        callback=reading(duration),
        metavar="SECONDS",
        help="Before the first of them; then twice as long. [1]",
    ),
    click.option(
        "--retry-on", multiple=True, type=click.Choice(_RETRY_ON), help="Only after this ending; again for more. [any]"
    ),
    click.option(
        "--secret", multiple=True, callback=reading(pair), metavar="NAME=VAR", help="A server's secret, in a variable."
    ),
    click.option(
        "--secret-file",
        multiple=True,
        callback=reading(pair),
        metavar="NAME=VAR",
        help="In a file, whose path is in a variable.",
    ),
    click.option("--mask-secrets", is_flag=True, help="Write stars in place of secrets into the output."),
    click.option(
        "--file",
        "files",
        multiple=True,
        callback=reading(local_file),
        metavar="LOCAL[:PATH]",
        help="Put a small file into the task's own directory.",
    ),
    click.option("--separate-output", is_flag=True, help="Keep stdout and stderr apart."),
    click.option("--timestamps", is_flag=True, help="Put the time in front of every line of output."),
    click.option(
        "--max-output", callback=reading(size), metavar="SIZE", help="Keep so much of a longer output: 64K or more."
    ),
    click.option("--progress", is_flag=True, help="The command reports progress to $TASK_RUNNER_PROGRESS."),
    click.option("--notify", multiple=True, metavar="URL", help="A webhook to be told of the ending; again for more."),
    click.option(
        "--keep", callback=reading(duration), metavar="SECONDS", help="Keep it so long after its end; also 12h, 30d."
    ),
]


def term_options(command: F) -> F:
    """Add the options; `terms` takes what they give."""
    for option in reversed(_OPTIONS):
        command = option(command)
    return command


def terms(given: Mapping[str, Any]) -> dict[str, Any]:
    """The fields of a spec that the options say. Raises UsageError."""
    wanted = {
        "name": given.get("name"),
        "tags": dict(given.get("tag", ())),
        "executeAt": given.get("at"),
        "alias": given.get("alias"),
        "entity": given.get("entity"),
        "priority": given.get("priority"),
        "pools": list(given.get("pool", ())),
        "after": list(given.get("after", ())),
        "resources": _some(cpus=given.get("cpus"), memoryMb=given.get("memory"), gpus=given.get("gpus")),
        "timeoutSeconds": given.get("timeout"),
        "startWithinSeconds": given.get("start_within"),
        "graceSeconds": given.get("grace"),
        "stopSignal": given.get("stop_signal"),
        "stall": given.get("stall"),
        "retry": _retry(given),
        "secrets": _secrets(given),
        "maskSecrets": given.get("mask_secrets") or None,
        "files": list(given.get("files", ())),
        "outputMode": "separate" if given.get("separate_output") else None,
        "outputTimestamps": given.get("timestamps") or None,
        "maxOutputBytes": given.get("max_output"),
        "progress": given.get("progress") or None,
        "notify": [{"url": url} for url in given.get("notify", ())],
        "keepSeconds": given.get("keep"),
        **walls.terms(given),
    }
    return {field: value for field, value in wanted.items() if value is not None and value != [] and value != {}}


def merged(body: Mapping[str, Any], said: Mapping[str, Any]) -> dict[str, Any]:
    """A spec with what the options say: they add to lists and objects, and take the place of everything else."""
    result = dict(body)
    for field, value in said.items():
        found = result.get(field)
        if isinstance(value, list) and isinstance(found, list):
            result[field] = [*found, *value]
        elif isinstance(value, dict) and isinstance(found, dict):
            result[field] = {**found, **value}
        else:
            result[field] = value
    return result


def _some(**fields: Any) -> dict[str, Any]:
    return {field: value for field, value in fields.items() if value is not None}


def _retry(given: Mapping[str, Any]) -> dict[str, Any] | None:
    count, delay, on = given.get("retry"), given.get("retry_delay"), list(given.get("retry_on", ()))
    if count is None and (delay is not None or on):
        raise click.UsageError("--retry-delay and --retry-on need --retry N")
    return None if count is None else _some(count=count, delaySeconds=delay, on=on or None)


def _secrets(given: Mapping[str, Any]) -> list[dict[str, str]]:
    found = [{"name": name, "env": variable} for name, variable in given.get("secret", ())]
    return found + [{"name": name, "fileEnv": variable} for name, variable in given.get("secret_file", ())]
