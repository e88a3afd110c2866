"""What there is to be done, as people write it, made into the body of a request."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

#: a command as a list of words, or a spec as `POST /v1/tasks` takes it
Work = Sequence[str] | Mapping[str, Any]


def body_of(work: Work | None, more: Mapping[str, Any]) -> dict[str, Any]:
    """The body that says what is to be done. Names in ``more`` may be written `timeout_seconds` or `timeoutSeconds`.

    Raises TypeError for what is no command.
    """
    spec = {_camel(name): value for name, value in more.items()}
    if work is None:
        if not spec:
            raise TypeError("there is nothing to do: a list of words or a spec is expected")
        return spec
    if isinstance(work, Mapping):
        return {**work, **spec}
    return {"command": words(work), **spec}


def words(work: object) -> list[str]:
    """A command as a list of words. Raises TypeError."""
    if isinstance(work, (str, bytes)):
        raise TypeError(
            f"a command is a list of words, not {work!r}: ['make', 'test'], or {{'shell': 'make test | tee log'}}"
        )
    if callable(work):
        raise TypeError(
            f"{work!r} is Python code, and a task is a command: nothing is pickled and sent. "
            "Put it into a program: [sys.executable, '-m', 'module', …]"
        )
    if not isinstance(work, Sequence) or not all(isinstance(each, str) for each in work):
        raise TypeError(f"a command is a list of words (str), not {work!r}")
    return list(work)


def _camel(name: str) -> str:
    first, *rest = name.split("_")
    return first + "".join(word.capitalize() for word in rest)
