from __future__ import annotations

import sys
from pathlib import Path

import pytest

from executor.memory import Memory, MemoryPressure, SystemMemory
from tests.fakes.memory import GIB, FakeLinux

MIB = 2**20


@pytest.fixture
def linux(tmp_path: Path) -> FakeLinux:
    return FakeLinux(tmp_path)


def pressure_of(linux: FakeLinux) -> MemoryPressure:
    return MemoryPressure(SystemMemory(linux.root))


def test_without_limits_the_machine_alone_counts(linux: FakeLinux) -> None:
    linux.group("/")
    assert SystemMemory(linux.root).read() == [Memory(30 * GIB, 32 * GIB)]


@pytest.mark.parametrize(
    ("total", "threshold"),
    [(64 * GIB, GIB), (4 * GIB, GIB * 4 // 10), (GIB, 256 * MIB)],
    ids=["large", "small", "tiny"],
)
def test_memory_is_short_below_a_tenth_within_bounds(
    linux: FakeLinux, total: int, threshold: int
) -> None:
    linux.machine(available=threshold + MIB, total=total)
    assert not pressure_of(linux).check()
    linux.machine(available=threshold - MIB, total=total)
    assert pressure_of(linux).check()


def test_a_shortage_is_not_over_before_twice_as_much_is_left(linux: FakeLinux) -> None:
    pressure = pressure_of(linux)
    found = []
    for available in (1100, 1000, 2000, 2100, 1100, 1000):
        linux.machine(available=available * MIB, total=32 * GIB)
        found.append(pressure.check())
    assert found == [False, True, True, False, False, True]


def test_the_limit_of_a_container_counts_though_the_machine_has_plenty(linux: FakeLinux) -> None:
    linux.group("/", limit=2 * GIB, used=GIB)
    assert not pressure_of(linux).check()
    linux.group("/", limit=2 * GIB, used=2 * GIB - 100 * MIB)
    assert pressure_of(linux).check()


def test_the_machine_counts_though_the_container_has_plenty(linux: FakeLinux) -> None:
    linux.group("/", limit=2 * GIB, used=GIB)
    linux.machine(available=900 * MIB, total=32 * GIB)
    assert pressure_of(linux).check()


def test_what_is_only_cached_is_available(linux: FakeLinux) -> None:
    linux.group("/", limit=2 * GIB, used=2 * GIB - 100 * MIB, cached=GIB)
    assert not pressure_of(linux).check()


def test_a_limit_above_which_processes_are_held_back_counts_too(linux: FakeLinux) -> None:
    linux.group("/", limit=4 * GIB, high=GIB, used=900 * MIB)
    assert pressure_of(linux).check()


@pytest.mark.parametrize("version", [1, 2])
def test_the_limit_of_a_group_further_out_counts(linux: FakeLinux, version: int) -> None:
    linux.own_group("/user/session", version=version)
    if version == 2:
        linux.group("/user", limit=2 * GIB, used=2 * GIB)
        linux.group("/user/session", used=MIB)
    else:
        linux.old_group("/user", limit=2 * GIB, used=2 * GIB)
        linux.old_group("/user/session", used=MIB)
    assert pressure_of(linux).check()


@pytest.mark.parametrize("path", ["/docker/0123abc", "/../../elsewhere"])
def test_in_a_container_that_is_told_its_hosts_path_the_mount_is_its_own(
    linux: FakeLinux, path: str
) -> None:
    linux.own_group(path)
    linux.group("/", limit=2 * GIB, used=2 * GIB, oom_kills=4)
    assert pressure_of(linux).check()
    assert SystemMemory(linux.root).oom_kills() == 4


def test_a_version_1_group_without_a_limit_is_not_short(linux: FakeLinux) -> None:
    linux.own_group("/x", version=1)
    linux.old_group("/x", used=GIB, cached=MIB)
    assert not pressure_of(linux).check()


def test_a_version_1_group_counts_without_its_cache(linux: FakeLinux) -> None:
    linux.own_group("/x", version=1)
    linux.old_group("/x", limit=2 * GIB, used=2 * GIB, cached=GIB)
    assert not pressure_of(linux).check()
    linux.old_group("/x", limit=2 * GIB, used=2 * GIB)
    assert pressure_of(linux).check()


@pytest.mark.parametrize("version", [1, 2])
def test_only_kills_in_the_own_group_count(linux: FakeLinux, version: int) -> None:
    linux.own_group("/user/session", version=version)
    if version == 2:
        linux.group("/user", oom_kills=7)
        linux.group("/user/session", oom_kills=2)
    else:
        linux.old_group("/user", kills=7)
        linux.old_group("/user/session", kills=2)
    assert SystemMemory(linux.root).oom_kills() == 2


def test_a_system_that_tells_nothing_is_not_short_and_claims_no_kill(tmp_path: Path) -> None:
    nothing = SystemMemory(tmp_path)
    assert nothing.read() == []
    assert not MemoryPressure(nothing).check()
    assert nothing.oom_kills() is None


@pytest.mark.parametrize("platform", ["linux", "darwin"])
def test_this_system_has_memory(monkeypatch: pytest.MonkeyPatch, platform: str) -> None:
    if platform != "linux" or not Path("/proc/meminfo").exists():
        monkeypatch.setattr(sys, "platform", platform)
    assert all(0 < memory.available <= memory.total for memory in SystemMemory().read())
    assert SystemMemory().read()
