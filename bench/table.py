"""What is printed: one row a comparison."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import Any


@dataclass(frozen=True, kw_only=True, slots=True)
class Row:
    """One figure beside one reference. What was not measured is None, and the note says why."""

    line: int
    figure: str
    unit: str
    ours: float | None
    reference: str
    theirs: float | None
    #: as doc/design.md wants it
    wanted: str
    note: str = ""

    @property
    def ratio(self) -> float | None:
        return self.ours / self.theirs if self.ours is not None and self.theirs else None


@dataclass(slots=True)
class Report:
    """All rows, the machine, and what the processors were busy with."""

    machine: dict[str, object]
    rows: list[Row] = field(default_factory=list)
    #: processor time a task, in microseconds, by who spent it
    cpu: dict[str, dict[str, float]] = field(default_factory=dict)

    def as_json(self) -> dict[str, Any]:
        rows = [{**asdict(row), "ratio": row.ratio} for row in self.rows]
        return {"machine": self.machine, "rows": rows, "cpuMicrosecondsPerTask": self.cpu}

    def as_text(self) -> str:
        machine = ", ".join(f"{name} {value}" for name, value in self.machine.items())
        head = ("line", "figure", "ours", "reference", "theirs", "ratio", "wanted")
        lines = [machine, "", *_columns([head, *map(_cells, self.rows)])]
        notes = dict.fromkeys(f"line {row.line}, {row.reference}: {row.note}" for row in self.rows if row.note)
        if notes:
            lines += ["", *notes]
        for what, costs in self.cpu.items():
            lines += ["", f"processor time a task, {what}:"]
            lines += [f"  {name}: {cost:.0f} us" for name, cost in costs.items()]
        return "\n".join(lines)


def _cells(row: Row) -> tuple[str, ...]:
    ratio = "-" if row.ratio is None else f"{row.ratio:.2f}"
    return (
        str(row.line),
        row.figure,
        _value(row.ours, row.unit),
        row.reference,
        _value(row.theirs, row.unit),
        ratio,
        row.wanted,
    )


def _value(value: float | None, unit: str) -> str:
    if value is None:
        return "-"
    return f"{value:.0f} {unit}" if value >= 100 else f"{value:.2f} {unit}"


def _columns(rows: Sequence[tuple[str, ...]]) -> list[str]:
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    return ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]
