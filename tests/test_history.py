"""GET /v1/node/history: what was, and gaps where nobody looked."""

from __future__ import annotations

import math
import os
import resource
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from conftest import PATIENCE, Daemon, wait_for

from task_runner.lib.clock import SystemClock
from task_runner.service import history
from task_runner.service.history import FIELDS, MAGIC, SLOTS, STEP, Ring, _Processors

NOW = 1_800_000_000
DAY = SLOTS * STEP


def ring(tmp_path: Path, *ats: int, load: float = 1.0) -> Ring:
    made = Ring(str(tmp_path / "history"))
    for at in ats:
        made.add(at, {"load": load})
    return made


def times(made: Ring, start: float = 0, now: float = NOW) -> list[int]:
    return [record[0] for record in made.since(start, now)]


def reopened(tmp_path: Path, now: float = NOW) -> Ring:
    made = Ring(str(tmp_path / "history"))
    made.open(now)
    return made


# -- the ring


def test_a_ring_keeps_a_day_and_no_more(tmp_path: Path):
    made = ring(tmp_path, *range(NOW - 2 * DAY, NOW, STEP))
    assert times(made) == list(range(NOW - DAY, NOW, STEP))


def test_samples_outlive_the_daemon_and_the_file_does_not_grow(tmp_path: Path):
    made = ring(tmp_path, NOW - 30, NOW - 20)
    made.open(NOW)
    made.write()
    size = os.path.getsize(tmp_path / "history")
    made.add(NOW - 10, {"load": 3.0})
    made.close()
    again = reopened(tmp_path)
    assert times(again) == [NOW - 30, NOW - 20, NOW - 10]
    values = dict(zip(FIELDS, again.since(NOW - 10, NOW)[0][1:], strict=True))
    assert (values["load"], math.isnan(values["cpu"])) == (3.0, True)
    again.close()
    assert os.path.getsize(tmp_path / "history") == size < 1_000_000


def test_what_is_older_than_a_day_or_from_the_future_is_not_taken_up(tmp_path: Path):
    made = ring(tmp_path, NOW - DAY - 10, NOW - 20, NOW + 3600)
    made.close()
    assert times(reopened(tmp_path), now=NOW + 10_000) == [NOW - 20]
    assert times(reopened(tmp_path, NOW - 2 * DAY), now=NOW) == []


def test_slots_that_were_never_filled_are_no_samples_of_1970(tmp_path: Path):
    """A machine without a clock of its own begins then."""
    assert times(ring(tmp_path, 40), now=50) == [40]


@pytest.mark.parametrize(
    "content", [b"", b"x", MAGIC, b"x" * 1000, b"another history 1 9\n" + bytes(SLOTS * 72), MAGIC + b"\xff" * SLOTS * 72]
)
def test_a_file_that_is_none_of_ours_is_made_anew(tmp_path: Path, content: bytes):
    (tmp_path / "history").write_bytes(content)
    made = reopened(tmp_path)
    assert times(made) == []
    made.add(NOW, {"load": 1.0})
    made.close()
    assert times(reopened(tmp_path)) == [NOW]


RECORD = history._RECORD.size + history._CHECK.size


@pytest.mark.parametrize("byte", [*range(12), RECORD // 2, *range(RECORD - 5, RECORD)])
def test_a_damaged_record_is_left_out(tmp_path: Path, byte: int, caplog: pytest.LogCaptureFixture):
    """Whichever byte of it is another: its time, a value, its checksum."""
    ring(tmp_path, NOW - 20, NOW - 10).close()
    with open(tmp_path / "history", "r+b") as file:
        place = len(MAGIC) + (NOW - 20) // STEP % SLOTS * RECORD + byte
        (old,) = os.pread(file.fileno(), 1, place)
        os.pwrite(file.fileno(), bytes([old ^ 0x01]), place)
    again = reopened(tmp_path)
    assert times(again) == [NOW - 10]
    assert "1 of its samples are damaged" in caplog.text
    again.add(NOW - 20, {"load": 2.0})  # its slot is as good as any
    again.close()
    caplog.clear()
    assert times(reopened(tmp_path)) == [NOW - 20, NOW - 10]
    assert not caplog.text


def earlier_file(tmp_path: Path) -> Path:
    """Of format 1."""
    records = bytearray(SLOTS * history._RECORD.size)
    for at in (NOW - 2 * DAY, NOW - 30, NOW - 20):
        history._RECORD.pack_into(records, at // STEP % SLOTS * history._RECORD.size, at, *[5.0] * len(FIELDS))
    path = tmp_path / "history"
    path.write_bytes(f"task-runner history 1 {len(FIELDS)}\n".encode() + records)
    return path


def test_a_file_without_checksums_is_taken_up_and_has_them_from_then_on(tmp_path: Path):
    """Format 1, of earlier daemons."""
    file = earlier_file(tmp_path)
    made = reopened(tmp_path)
    assert times(made) == [NOW - 30, NOW - 20]
    assert file.read_bytes().startswith(MAGIC)
    again = reopened(tmp_path)  # and nothing is lost with a daemon that is killed before it writes
    assert times(again) == [NOW - 30, NOW - 20]
    assert again.since(NOW - 20, NOW)[0][1:] == (5.0,) * len(FIELDS)
    made.add(NOW - 10, {"load": 1.0})
    made.close()
    again.close()
    assert times(reopened(tmp_path)) == [NOW - 30, NOW - 20, NOW - 10]


def test_a_file_without_checksums_is_left_where_there_is_no_space_for_them(tmp_path: Path):
    file = earlier_file(tmp_path)
    before, limits = file.read_bytes(), resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (len(before), limits[1]))
    try:
        made = reopened(tmp_path)
        made.add(NOW - 10, {"load": 1.0})
        made.close()
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert file.read_bytes() == before
    assert times(reopened(tmp_path)) == [NOW - 30, NOW - 20]


def test_nobody_else_has_the_file_while_it_is_rewritten(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """A daemon may be ended while the thread that opens it is at that: the last write would find half of a file."""
    earlier_file(tmp_path)
    made, write, held = Ring(str(tmp_path / "history")), os.pwrite, []
    monkeypatch.setattr(os, "pwrite", lambda *given: held.append(made._writing.locked()) or write(*given))
    made.open(NOW)
    made.close()
    assert held == [True]


def test_a_directory_in_its_place_or_a_link_costs_the_file_and_not_the_samples(tmp_path: Path):
    (tmp_path / "history").symlink_to(tmp_path / "elsewhere")
    made = ring(tmp_path, NOW)
    made.open(NOW)
    made.close()
    assert times(made) == [NOW]
    assert not (tmp_path / "elsewhere").exists()
    (tmp_path / "history").unlink()
    made.close()  # tried again
    assert times(reopened(tmp_path)) == [NOW]


def test_where_nothing_can_be_written_samples_are_kept_in_memory():
    made = Ring("/dev/full")
    made.open(NOW)
    made.add(NOW, {"load": 1.0})
    made.close()
    assert times(made) == [NOW]


# -- the columns


def test_a_gap_is_shown_as_a_moment_of_which_nothing_is_known():
    records = [(at, *[1.0] * len(FIELDS)) for at in (0, 10, 21, 40, 100, 110)]
    found = list(history._with_gaps(records))
    assert [record[0] for record in found] == [0, 10, 21, 40, 50, 100, 110]
    assert all(math.isnan(value) for value in found[4][1:])


def test_the_share_of_the_processors():
    made = _Processors()
    assert made.share(100.0, 4, 10.0) is None  # nothing to compare with
    assert made.share(120.0, 4, 20.0) == 0.5
    assert made.share(None, 4, 30.0) is None
    assert made.share(130.0, 4, 40.0) is None
    assert made.share(130.0, 4, 40.0) is None  # no time has passed
    assert made.share(129.0, 4, 50.0) == 0.0
    assert made.share(1e6, 4, 60.0) == 1.0


def test_what_this_machine_is_like(tmp_path: Path):
    made = history.History(str(tmp_path / "history"), SystemClock(), tasks=dict, directory=str(tmp_path))
    assert made._machine()["cpu"] is None
    until = time.monotonic() + 0.1
    while time.monotonic() < until:  # at least one processor is busy
        pass
    found = made._machine()
    assert 0 < (found["cpu"] or 0) <= 1
    assert set(found) == set(history._MACHINE)


# -- from a daemon


def samples(daemon: Daemon, hours: str = "1") -> dict[str, Any]:
    answer = daemon.http.get(f"/v1/node/history?hours={hours}")
    assert answer.status_code == 200
    return dict(answer.json())


def columns(found: dict[str, Any]) -> dict[str, list[Any]]:
    flat = {name: column for name, column in found.items() if isinstance(column, list)}
    return {**flat, **{f"queued.{name}": column for name, column in found["queuedFor"].items()}}


def test_samples_come_and_survive_a_restart_with_the_gap_shown(make_daemon: Callable[..., Daemon]):
    daemon = make_daemon(max_running=1).start()
    running = daemon.submit("sleep", "1000")
    daemon.wait_state(running, "running")
    waiting = daemon.submit("true")

    def shows_this() -> dict[str, Any] | None:
        found = samples(daemon)
        # the first sample has nothing to compare the processors with; and a late sign of life is noted in one, too
        is_so = found["queuedFor"]["room"][-1:] == [1] and found["cpu"][-1] is not None and found["stalled"][-1] == 0
        return found if is_so else None

    before = wait_for(shows_this, "a sample of this", PATIENCE)
    now = before["at"][-1]
    assert {len(column) for column in columns(before).values()} == {len(before["at"])}
    latest = {name: column[-1] for name, column in columns(before).items()}
    assert (latest["running"], latest["stalled"], latest["queued"], latest["queued.room"]) == (1, 0, 1, 1)
    assert (latest["slots"], latest["slotsTotal"]) == (1, 1)
    assert 0 <= latest["cpu"] <= 1
    assert latest["load"] >= 0
    assert 0 < latest["memory"] < latest["memoryTotal"]
    assert 0 < latest["disk"] < latest["diskTotal"]
    daemon.terminate()
    # as if it had been down for some minutes
    path = Path(daemon.state.history)
    shifted = Ring(str(path))
    shifted.open(now + 60)
    earlier = dict(zip(FIELDS, shifted.since(0, now)[-1][1:], strict=True))
    moved = Ring(str(path.with_name("moved")))
    moved.add(now - 600, earlier)
    moved.close()
    shifted.close()
    os.replace(path.with_name("moved"), path)
    daemon.restart()
    after = wait_for(lambda: len((found := samples(daemon))["at"]) >= 3 and found, "a sample after the gap", PATIENCE)
    assert after["at"][:2] == [now - 600, now - 600 + STEP]
    assert (after["running"][0], after["running"][1], after["load"][1]) == (1, None, None)
    assert after["at"][2] > now - 600 + 2 * STEP
    assert after["queuedFor"]["room"][1] is None
    assert daemon.task(waiting)["state"] in ("pending", "unknown")


@pytest.mark.parametrize("query", ["hours=0", "hours=25", "hours=x", "hours=1.5", "hours=", "hours=-1", "days=1"])
def test_what_makes_no_sense_is_refused(shared: Daemon, query: str):
    answer = shared.http.get(f"/v1/node/history?{query}")
    assert (answer.status_code, answer.json()["errors"][0]["field"]) == (400, query.partition("=")[0])


def test_no_limit_is_no_number_of_slots(shared: Daemon):
    found = wait_for(lambda: (found := samples(shared, "24"))["at"] and found, "the first sample")
    assert (found["slots"][-1], found["slotsTotal"][-1]) == (None, None)
    assert found["stepSeconds"] == STEP
