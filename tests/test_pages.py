"""What runs from code that was brought together does what it did."""

from __future__ import annotations

from collections.abc import Callable

from task_runner.lib import pages


def counter(step: int) -> Callable[[int], int]:
    seen = 0

    def count(by: int = 1, *, times: int = 1) -> int:
        nonlocal seen
        seen += step * by * times
        return seen

    return count


class Thing:
    def __init__(self, name: str) -> None:
        self._name = name

    @property
    def name(self) -> str:
        return "".join(letter for letter in self._name)


def test_the_code_that_runs_is_known_and_no_other() -> None:
    count = counter(1)
    used = pages.code_of(lambda: print(count()))
    assert count.__code__ in used
    assert counter.__code__ not in used


def test_functions_do_from_a_copy_of_their_code_what_they_did() -> None:
    count, thing = counter(10), Thing("a")
    before = count.__code__, Thing.__init__.__code__

    def act() -> None:
        assert (count(), count(2, times=3), Thing("b").name) == (10, 70, "b")

    pages.bring_together(pages.code_of(act))
    assert count.__code__ is not before[0]
    assert Thing.__init__.__code__ is not before[1]
    assert (count(), thing.name, Thing("c").name, counter(1)()) == (80, "a", "c", 1)
