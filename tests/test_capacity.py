"""What the machine has for tasks: found out, set, and refused beyond."""

from __future__ import annotations

import importlib
import math
import os
import subprocess
import sys
from types import SimpleNamespace

import pytest

from task_runner.errors import Refused
from task_runner.model.spec import Action, Spec
from task_runner.model.terms import Resources
from task_runner.service import settings
from task_runner.service.capacity import Capacity, CgroupLimits, detect, detect_gpus, misfits_of

CAPACITY = Capacity(cpus=2, memory_mb=1000, gpus=(0, 2), pools={"licences": 1, "lab": 3})


@pytest.fixture(autouse=True)
def no_settings(monkeypatch):
    for name in list(os.environ):
        if name.startswith("TASK_RUNNER_") or name == "CUDA_VISIBLE_DEVICES":
            monkeypatch.delenv(name)


def spec(pools=(), **resources: float) -> Spec:
    return Spec(actions=[Action(machine="echo")], resources=Resources(**resources), pools=list(pools))


# -- refusals


@pytest.mark.parametrize(
    ("asked", "field", "message"),
    [
        (spec(cpus=2.5), "resources.cpus", "2.5 CPUs, and there are 2 in all on this machine"),
        (spec(memory_mb=1001), "resources.memoryMb", "1001 MiB of memory, and there are 1000 in all on this machine"),
        (spec(gpus=3), "resources.gpus", "3 GPUs, and there are 2 in all on this machine"),
        (spec(["lab", "labs"]), "pools.1", "there is no pool 'labs'; the pools of this server: lab, licences"),
    ],
)
def test_what_can_never_fit_is_refused_with_required_and_available(asked, field, message):
    assert [(each.field, each.message) for each in misfits_of(asked, CAPACITY)] == [(field, message)]


def test_every_fault_is_named():
    faults = misfits_of(spec(["x", "x"], cpus=9, memory_mb=9999, gpus=9), Capacity(cpus=1, memory_mb=1))
    fields = [each.field for each in faults]
    assert fields == ["resources.cpus", "resources.memoryMb", "resources.gpus", "pools.0"]
    assert "the pools of this server: none" in faults[-1].message


def test_what_just_fits_is_taken():
    assert misfits_of(spec(["licences", "lab"], cpus=2, memory_mb=1000, gpus=2), CAPACITY) == []
    assert misfits_of(Spec(actions=[Action(machine="echo")]), Capacity(cpus=1, memory_mb=1)) == []


# -- settings


def test_settings_go_before_what_is_found():
    found = detect(settings.load(cpus=1.5, memory_mb=77, gpus=2, pools={"licences": 4}))
    assert found == Capacity(cpus=1.5, memory_mb=77, gpus=(0, 1), pools={"licences": 4})


def test_settings_come_from_a_file_or_the_environment(tmp_path, monkeypatch):
    file = tmp_path / "conf.toml"
    file.write_text("cpus = 3\npriority_seconds = 60\n[pools]\nlab = 2\n")
    monkeypatch.setenv("TASK_RUNNER_CONF", str(file))
    assert (settings.load().cpus, settings.load().pools, settings.load().priority_seconds) == (3, {"lab": 2}, 60)
    monkeypatch.setenv("TASK_RUNNER_POOLS", '{"licences": 1}')
    assert settings.load().pools["licences"] == 1


@pytest.mark.parametrize(
    ("given", "named"),
    [
        ({"cpus": 0}, "cpus"),
        ({"cpus": math.inf}, "cpus"),
        ({"memory_mb": 0}, "memory_mb"),
        ({"gpus": -1}, "gpus"),
        ({"pools": {"lab": 0}}, "pools"),
        ({"pools": {"no such name": 1}}, "pools"),
        ({"priority_seconds": -1}, "priority_seconds"),
        ({"priority_seconds": math.nan}, "priority_seconds"),
    ],
)
def test_senseless_settings_are_refused_by_name(given, named):
    with pytest.raises(Refused, match=named):
        settings.load(**given)


# -- found out


def test_this_machine_has_something():
    found = detect(settings.load())
    assert 0 < found.cpus <= len(os.sched_getaffinity(0))
    assert 0 < found.memory_mb * 1024 * 1024 <= os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")


def test_processors_that_the_daemon_may_not_use_are_not_counted():
    one = min(os.sched_getaffinity(0))
    code = "from task_runner.service import capacity, settings; print(capacity.detect(settings.load(gpus=0)).cpus)"
    script = f"import os; os.sched_setaffinity(0, [{one}]); {code}"
    assert float(subprocess.check_output([sys.executable, "-c", script])) <= 1


@pytest.mark.parametrize(
    ("files", "path", "limits"),
    [
        ({}, "/", (math.inf, math.inf)),
        ({"cpu.max": "150000 100000", "memory.max": "4096"}, "/", (1.5, 4096)),
        ({"cpu.max": "max 100000", "memory.max": "max"}, "/", (math.inf, math.inf)),
        ({"a/b/cpu.max": "50000 100000", "a/cpu.max": "200000 100000"}, "/a/b", (0.5, math.inf)),
        ({"a/cpu.max": "50000 100000", "a/b/memory.max": "9", "memory.max": "8"}, "/a/b", (0.5, 8)),
        ({"a/cpu.max": "50000 100000", "c/memory.max": "9"}, "/b", (math.inf, math.inf)),
        ({"cpu.max": "", "memory.max": "?"}, "/", (math.inf, math.inf)),
        ({"cpu.max": "5 0", "memory.max": ""}, "/", (math.inf, math.inf)),
        ({"cpu.max": "50000 100000", "../outside/cpu.max": "10000 100000"}, "/../outside", (0.5, math.inf)),
    ],
)
def test_limits_of_cgroups_and_of_those_above_them(tmp_path, files, path, limits):
    root = tmp_path / "mounted"
    root.mkdir()
    for name, text in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)
    assert CgroupLimits.of(root, path) == CgroupLimits(cpus=limits[0], memory_bytes=limits[1])


def pretend(monkeypatch, *uuids: str, failing: str | None = None) -> list[str]:
    """A library that finds these; returns the calls made of it."""
    calls: list[str] = []

    def call(name: str, answer):
        def act(*args):
            calls.append(name)
            if name == failing:
                raise RuntimeError("Driver Not Loaded")
            return answer(*args)

        return act

    answers = {
        "nvmlInit": lambda: None,
        "nvmlShutdown": lambda: None,
        "nvmlDeviceGetCount": lambda: len(uuids),
        "nvmlDeviceGetHandleByIndex": lambda index: index,
        "nvmlDeviceGetUUID": lambda handle: uuids[handle],
    }
    library = SimpleNamespace(**{name: call(name, answer) for name, answer in answers.items()})
    monkeypatch.setitem(sys.modules, "pynvml", library)
    return calls


def test_without_the_library_there_are_no_graphics_processors(monkeypatch):
    monkeypatch.setitem(sys.modules, "pynvml", None)
    with pytest.raises(ImportError):
        importlib.import_module("pynvml")
    assert detect_gpus() == ()


@pytest.mark.parametrize("failing", ["nvmlInit", "nvmlDeviceGetCount", "nvmlDeviceGetHandleByIndex"])
def test_a_driver_that_fails_is_no_error(monkeypatch, failing):
    calls = pretend(monkeypatch, "GPU-a", failing=failing)
    assert detect_gpus() == ()
    assert ("nvmlShutdown" in calls) is (failing != "nvmlInit")


@pytest.mark.parametrize(
    ("visible", "found"),
    [
        (None, (0, 1, 2)),
        ("2,0", (0, 2)),
        (" 1 ", (1,)),
        ("GPU-bb", (1,)),
        ("GPU-c", (2,)),
        ("", ()),
        ("-1", ()),
        ("1,7,2", (1,)),
        ("GPU-", ()),
    ],
)
def test_only_the_graphics_processors_that_the_daemon_may_use_are_given_out(monkeypatch, visible, found):
    pretend(monkeypatch, "GPU-aa", "GPU-bb", "GPU-cc")
    if visible is not None:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    assert detect_gpus() == found
    assert detect(settings.load()).gpus == found


@pytest.mark.needs("nvidia-smi")
def test_the_graphics_processors_found_are_those_that_nvidia_smi_shows():
    pytest.importorskip("pynvml")
    shown = subprocess.check_output(["nvidia-smi", "--query-gpu=index", "--format=csv,noheader"], text=True)
    assert detect_gpus() == tuple(int(line) for line in shown.split())
    assert detect_gpus()
