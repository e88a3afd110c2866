from __future__ import annotations

import pytest

from task_runner.service.unit import unit_of


@pytest.mark.parametrize(
    ("cgroups", "unit"),
    [
        ("0::/system.slice/task-runner.service\n", ("task-runner.service", False)),
        ("0::/system.slice/task-runner.service/tasks/a\n", ("task-runner.service", False)),
        ("4:cpu:/a.service\n1:name=systemd:/system.slice/b.service\n0::/\n", ("b.service", False)),
        ("0::/user.slice/user-7.slice/user@7.service/app.slice/tr.service\n", ("tr.service", True)),
        ("0::/user.slice/user-7.slice/user@7.service/app.slice/terminal-1.scope\n", (None, False)),
        ("0::/user.slice/user-7.slice/session-3.scope\n", (None, False)),
        ("0::/\n", (None, False)),
    ],
)
def test_the_unit_is_found_in_the_cgroups(cgroups: str, unit: tuple[str | None, bool]) -> None:
    assert unit_of(cgroups) == unit
