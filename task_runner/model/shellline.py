"""Values in lines for a POSIX shell: how they are quoted, and where they may stand.

A quoted value is safe where a shell would begin a quoted string, and nowhere else: inside of other quotes, in a
comment, behind a backslash or in a here-document the quotes around it mean something else. So the line is read as a
shell reads it, as far as quoting goes. What is too hard to follow (backquotes, here-documents, arithmetic, `$'…'`,
commands inside of double quotes) ends the certainty: behind it no value may stand. A value that is handed over in a
variable of the environment may be used anywhere.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

#: programs that take a line of shell after -c, or on standard input
SHELLS = frozenset({"sh", "bash", "dash", "ash", "zsh", "ksh", "ksh93", "mksh", "fish", "csh", "tcsh"})
#: programs that hand what stands after -c to a shell
_VIA_SHELL = frozenset({"su", "runuser", "script", "flock"})

_REMEDY = 'hand it over in a variable ("env": {"X": "${…}"}) and write "$X" here'
SPLICED = (
    "a placeholder in a line for a shell that is started as a program would not be quoted: "
    'use "shell", or write "$1" there and give the value as an argument of its own'
)

#: `${name}` and its like; whatever else stands in braces may hold quotes of its own
_SIMPLE = r"(?:[A-Za-z_][A-Za-z_0-9]*|[0-9@*\#?$!-]|\#[A-Za-z_][A-Za-z_0-9]*)\}"
_TOKEN = re.compile(
    rf"""
      (?P<gap> (?<=[ \t])\\\n(?!\#) )
    | (?P<hard> \\\n | ` | << | \(\( | \$' | \$\[ | \$\{{(?!{_SIMPLE}) )
    | (?P<escaped> \\.?\#* )
    | (?P<single> '[^']*'? )
    | (?P<double> "(?:\\.|[^"\\])*"? )
    | (?P<comment> (?<![^ \t\n;&|()<>])\#[^\n]* )
    | (?P<value> \0 )
    | .
    """,
    re.VERBOSE | re.DOTALL,
)
#: in double quotes: what has quotes of its own
_NESTED = re.compile(rf"`|\$\(|\$\[|\$\{{(?!{_SIMPLE})")


def quote(value: str) -> str:
    """The value as one word, always in quotes: bare, `A=1` in front of a command would be an assignment."""
    return "'" + value.replace("'", "'\\''") + "'"


def fault(line: str) -> str | None:
    """Why values must not be put in place of the NUL characters of a line; None: they may, quoted."""
    hard: str | None = None
    for match in _TOKEN.finditer(line):
        kind = match.lastgroup
        if "\0" in match[0] and hard is not None:
            return f"behind {hard} it cannot be told what is quoted here: {_REMEDY}"
        if "\0" in match[0] and kind != "value":
            return _INSIDE[kind or ""]
        if kind == "hard":
            hard = hard or f"`{match[0].replace(chr(10), '(line feed)')}`"
        elif kind == "double" and (nested := _NESTED.search(match[0].replace("\\\n", ""))):
            hard = hard or f"`{nested[0]}` in double quotes"
    return None


_INSIDE = {
    "single": f"a placeholder must not stand in quotes, for a value has its own: take them away, or {_REMEDY}",
    "double": f"a placeholder must not stand in quotes, for a value has its own: take them away, or {_REMEDY}",
    "comment": "a placeholder must not stand in a comment: a value may have several lines",
    "escaped": "a placeholder must not stand behind a backslash, which would undo its quotes",
}


def scripts(command: Sequence[str]) -> Iterator[int]:
    """Which words of a command are lines for a shell."""
    for index, word in enumerate(command):
        program = word.rsplit("/", 1)[-1]
        if program in SHELLS:
            script, asked = _operand(command, index + 1)
            if asked and script < len(command):
                yield script
        elif program in _VIA_SHELL:
            for place in range(index + 1, len(command)):
                if command[place] in ("-c", "--command") and place + 1 < len(command):
                    yield place + 1
                elif command[place].startswith("--command="):
                    yield place


def reads_script(command: Sequence[str]) -> bool:
    """Whether a shell among the words reads its lines from standard input."""
    for index, word in enumerate(command):
        if word.rsplit("/", 1)[-1] in SHELLS:
            operand, asked = _operand(command, index + 1)
            if not asked and (operand >= len(command) or any("s" in each for each in command[index + 1 : operand])):
                return True
    return False


def _operand(command: Sequence[str], place: int) -> tuple[int, bool]:
    """Where a shell's options end, and whether -c is among them."""
    asked = False
    while place < len(command) and command[place][:1] in ("-", "+"):
        word = command[place]
        place += 1
        if word in ("-", "--"):
            break
        if word.startswith("--"):
            place += word in ("--rcfile", "--init-file")
            asked = asked or word == "--command"
        else:
            asked = asked or (word[0] == "-" and "c" in word)
            place += word.count("o") + word.count("O")  # each takes the name of an option
    return place, asked
