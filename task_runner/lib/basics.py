"""The basic variables: what every command finds in its environment."""

from __future__ import annotations

import functools
import os

_NAMES = ("PATH", "HOME", "USER", "LOGNAME", "SHELL", "LANG", "LANGUAGE", "TZ", "TMPDIR")


def is_basic(name: str) -> bool:
    """Whether a variable is one of them."""
    return name in _NAMES or name.startswith("LC_")


@functools.cache
def base_environment() -> dict[str, str]:
    """The basics, and nothing else the daemon was given."""
    basics = {name: os.environ[name] for name in _NAMES if name in os.environ}
    basics.update({name: value for name, value in os.environ.items() if name.startswith("LC_")})
    basics.setdefault("PATH", os.defpath)
    return basics
