"""Tables that keep to a width: columns that matter less give way."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass

from rich.cells import cell_len
from rich.style import Style
from rich.table import Table
from rich.text import Text

from task_runner.cli.output import Cell

#: cells between two columns
GAP = 2
#: the last column keeps this much while another one can give way
LEAST = 12


@dataclass(frozen=True, slots=True)
class Column:
    """``rank``: those of the highest give way first; 0 stays."""

    title: str
    rank: int = 0
    right: bool = False


def text(words: str, colour: str | None = None, *, bold: bool = False) -> Text:
    """Words as they are: no markup is read in them."""
    painted = None if os.environ.get("NO_COLOR") else colour
    return Text(words, style=Style(color=painted, bold=bold or None), no_wrap=True, overflow="ellipsis", end="")


def fitted(words: str, width: int, colour: str | None) -> Text:
    """A line that is cut off where the terminal ends."""
    line = text(words, colour)
    line.end = "\n"
    line.truncate(width, overflow="ellipsis")
    return line


def grid(columns: Sequence[Column], rows: Sequence[Sequence[Cell]], width: int) -> Table:
    """A table of this width. The last column takes what the others leave."""
    kept = _kept(columns, rows, width)
    table = Table(box=None, pad_edge=False, padding=(0, GAP, 0, 0), expand=True, show_edge=False)
    for i in kept:
        column, last = columns[i], i == len(columns) - 1
        table.add_column(
            text(column.title, bold=True),
            justify="right" if column.right else "left",
            no_wrap=True,
            overflow="ellipsis",
            ratio=1 if last else None,
            width=None if last else _width(columns, rows, i),
        )
    for row in rows:
        table.add_row(*(text(*row[i]) for i in kept))
    return table


def _width(columns: Sequence[Column], rows: Sequence[Sequence[Cell]], i: int) -> int:
    return max(cell_len(columns[i].title), *(cell_len(row[i][0]) for row in rows), 0)


def _kept(columns: Sequence[Column], rows: Sequence[Sequence[Cell]], width: int) -> list[int]:
    kept = list(range(len(columns)))
    widths = [_width(columns, rows, i) for i in kept]
    while sum(widths[i] + GAP for i in kept[:-1]) + LEAST > width:
        least = max(kept[:-1], key=lambda i: columns[i].rank)
        if columns[least].rank == 0:
            break
        kept.remove(least)
    return kept
