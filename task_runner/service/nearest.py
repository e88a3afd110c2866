"""The name that somebody may have meant who wrote one that there is not."""

from __future__ import annotations

from collections.abc import Iterable
from difflib import SequenceMatcher

#: characters that are compared
_LONGEST = 100
#: who is less alike is not suggested
_LEAST = 0.6
#: so much does the same beginning count at most: a name that is misspelt is more alike
_STEM = 0.9


def nearest(name: str, known: Iterable[str]) -> str | None:
    """The most alike of those known; None where none is."""
    name = name[:_LONGEST]
    letters, matcher = _letters(name), SequenceMatcher(None, b=name)
    best, found = 0.0, None
    for each in known:
        stem = _STEM * _stem(name, letters, each)
        matcher.set_seq1(each)
        likeness = max(stem, _ratio(matcher, max(best, stem, _LEAST)))
        if likeness > best:
            best, found = likeness, each
    return found if best >= _LEAST else None


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """What is added to the words that there is no such name; nothing where none is like it."""
    near = nearest(name, known)
    return f"; did you mean {near!r}?" if near is not None else ""


def _ratio(matcher: SequenceMatcher[str], least: float) -> float:
    """From 0 to 1; 0 where it is less than that, which mostly is told without the comparison of what stands where: for
    a request that is all wrong this is done some thousand times, and others wait."""
    if matcher.real_quick_ratio() < least or matcher.quick_ratio() < least:
        return 0.0
    return matcher.ratio()


def _stem(name: str, mine: str, known: str) -> float:
    """How much of the known name the other begins with, whose letters are ``mine``.

    `hostpath` and `max-bytes` differ from what they mean in much but their letters, and `timeout` is half of it.
    `notifications` is another form of `notify`. Of several words the first tells too little: `imagePullPolicy` is not
    `image`.
    """
    theirs = _letters(known)
    if len(mine) > 1 and theirs.startswith(mine):
        return 1.0
    pairs = enumerate(zip(mine, theirs, strict=False))
    shared = next((at for at, (one, other) in pairs if one != other), min(len(mine), len(theirs)))
    is_one_word = name.isalpha() and name[1:].islower()
    return shared / len(theirs) if is_one_word and shared > 2 else 0.0


def _letters(text: str) -> str:
    return "".join(filter(str.isalnum, text.lower()))
