"""Where in the launcher's memory that stands which its runners use.

A runner shares a page with the launcher until it writes to it, and to look at an object is to write to it: somebody
refers to it for a while. So what runners use should stand together, and what they make should not go into gaps between
what they never look at.
"""

from __future__ import annotations

import gc
import sys
from collections.abc import Callable
from types import CodeType, FrameType, FunctionType

#: sizes of the objects that Python keeps pools for, and how many of each are made to fill the gaps in those
_SIZES, _EACH = range(48, 513, 16), 100

_filling: list[bytes] = []


def code_of(act: Callable[[], None]) -> set[CodeType]:
    """The code that runs in ``act``."""
    used: set[CodeType] = set()

    def note(frame: FrameType, event: str, _argument: object) -> None:
        if event == "call":
            used.add(frame.f_code)

    sys.setprofile(note)
    try:
        act()
    finally:
        sys.setprofile(None)
    return used


def bring_together(used: set[CodeType]) -> None:
    """Have functions run from copies of their code that are made one after the other, so that they are neighbours."""
    functions = [each for each in gc.get_objects() if isinstance(each, FunctionType) and each.__code__ in used]
    copies = [each.__code__.replace() for each in functions]
    for function, code in zip(functions, copies, strict=True):
        function.__code__ = code


def fill_gaps() -> None:
    """What is made from now on gets pages of its own."""
    _filling.extend(bytes(size - sys.getsizeof(b"")) for size in _SIZES for _ in range(_EACH))
