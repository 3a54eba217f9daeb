from __future__ import annotations

import os
import re
import sys
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest

from executor.agents.claude_code.location import (
    LOWEST_VERSION,
    Claude,
    ClaudeSearch,
    Origin,
    find_claude,
)
from tests.fakes.claude import NEW, executable_with, program, says

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="the CLIs here are shell scripts")

OLD = "1.0.51"


class Machine:
    """A user's home, an executor's home, a ``PATH`` of two folders, and the folder of the SDK."""

    def __init__(self, root: Path) -> None:
        self.user = root / "user"
        self.home = root / "executor"
        self.first = root / "first"
        self.second = root / "second"
        self.bundled = root / "packages" / "claude_agent_sdk" / "_bundled" / "claude"
        self.executable = root / "wegent-executor"
        self.bundled.parent.mkdir(parents=True)
        (self.bundled.parent.parent / "__init__.py").touch()
        for folder in (self.user, self.home):
            folder.mkdir()
        self.executable.write_bytes(b"carries nothing")
        self.path = os.pathsep.join([str(self.first), str(self.second), os.environ["PATH"]])

    @property
    def environ(self) -> Mapping[str, str]:
        return {"HOME": str(self.user), "PATH": self.path}

    def search(self, named: Path | None = None) -> ClaudeSearch:
        return find_claude(named, self.home, self.environ, program=self.executable)


@pytest.fixture
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Machine:
    machine = Machine(tmp_path)
    # Python finds this machine's package of that name first, and has not imported another.
    monkeypatch.delitem(sys.modules, "claude_agent_sdk", raising=False)
    monkeypatch.syspath_prepend(str(machine.bundled.parents[2]))
    return machine


def carry(machine: Machine) -> Path:
    script = f"#!/bin/sh\necho '{NEW} (Claude Code)'\n".encode()
    executable_with(script, machine.executable)
    return machine.home / "cache" / "claude" / NEW / "claude"


ORDER: list[tuple[Origin, Callable[[Machine], Path]]] = [
    (Origin.CARRIED, carry),
    (Origin.SDK, lambda machine: says(NEW, machine.bundled)),
    (Origin.PATH, lambda machine: says(NEW, machine.first / "claude")),
    (Origin.PATH, lambda machine: says(NEW, machine.second / "claude")),
    (Origin.INSTALLED, lambda machine: says(NEW, machine.user / ".local" / "bin" / "claude")),
    (Origin.INSTALLED, lambda machine: says(NEW, machine.user / ".claude" / "local" / "claude")),
    (Origin.INSTALLED, lambda machine: says(NEW, machine.user / ".npm-global/bin/claude")),
]


@pytest.mark.parametrize("best", range(len(ORDER)))
def test_the_first_in_the_order_of_the_search_is_taken(machine: Machine, best: int) -> None:
    placed = [(origin, place(machine)) for origin, place in ORDER[best:]]
    origin, path = placed[0]
    search = machine.search()
    assert search.claude == Claude(path, NEW, origin)
    assert search.skipped == ()
    assert search.problem is None


def test_the_operators_choice_comes_before_all_others(machine: Machine, tmp_path: Path) -> None:
    for _, place in ORDER:
        place(machine)
    named = says("2.1.320", tmp_path / "my-claude")
    assert machine.search(named).claude == Claude(named, "2.1.320", Origin.SETTING)
    assert not (machine.home / "cache" / "claude").exists()


def test_a_wrong_choice_of_the_operators_is_said_and_not_made_up_for(
    machine: Machine, tmp_path: Path
) -> None:
    says(NEW, machine.first / "claude")
    old = says(OLD, tmp_path / "my-claude")
    search = machine.search(old)
    assert search.claude is None
    assert search.problem is not None
    assert f"{old} (WEGENT_CLAUDE_PATH) is {OLD}, and 2.1.318 or newer is needed" in search.problem
    assert "WEGENT_CLAUDE_PATH" in search.remedy


def test_what_is_too_old_or_broken_is_skipped_with_the_reason(machine: Machine) -> None:
    broken = program(machine.bundled, "echo 'wrong libc' >&2; exit 1")
    old = says(OLD, machine.first / "claude")
    good = says(NEW, machine.second / "claude")
    search = machine.search()
    assert search.claude == Claude(good, NEW, Origin.PATH)
    assert [(one.path, one.origin, one.reason) for one in search.skipped] == [
        (broken, Origin.SDK, "fails when asked for its version: wrong libc"),
        (old, Origin.PATH, f"is {OLD}, and 2.1.318 or newer is needed"),
    ]


def test_a_carried_cli_that_cannot_be_unpacked_is_skipped(machine: Machine) -> None:
    carry(machine)
    (machine.home / "cache").touch()
    good = says(NEW, machine.first / "claude")
    search = machine.search()
    assert search.claude == Claude(good, NEW, Origin.PATH)
    (skipped,) = search.skipped
    assert (skipped.path, skipped.origin) == (machine.executable, Origin.CARRIED)
    assert skipped.reason.startswith("cannot be unpacked")


def test_one_program_under_several_names_is_looked_at_once(machine: Machine) -> None:
    old = says(OLD, machine.user / ".local" / "bin" / "claude")
    machine.first.mkdir()
    (machine.first / "claude").symlink_to(old)
    assert [one.path for one in machine.search().skipped] == [machine.first / "claude"]


def test_a_machine_without_any_says_how_to_get_one(machine: Machine) -> None:
    search = machine.search()
    if search.claude is not None or search.skipped:
        pytest.skip("this machine has one for all users")
    assert search.problem == "Claude Code was not found"
    assert "install" in search.remedy


def test_versions_are_compared_by_number(machine: Machine) -> None:
    says("2.1.99", machine.first / "claude")
    assert [one.reason[:9] for one in machine.search().skipped] == ["is 2.1.99"]
    exact = ".".join(map(str, LOWEST_VERSION))
    assert machine.search(says(exact, machine.second / "claude")).claude is not None


def test_the_next_start_does_not_ask_again(machine: Machine) -> None:
    starts = machine.user / "starts"
    says(NEW, machine.first / "claude", then=f"echo >> {starts}")
    assert machine.search() == machine.search()
    assert starts.read_text() == "\n"


def test_the_lowest_version_is_not_below_what_the_sdk_needs() -> None:
    # Private, but where these numbers are from: a new SDK that needs more is noticed here.
    from claude_agent_sdk._internal.transport import subprocess_cli

    needed = [
        tuple(map(int, re.findall(r"\d+", version)))
        for version in (
            subprocess_cli.MINIMUM_CLAUDE_CODE_VERSION,
            subprocess_cli.VERBATIM_PROMPTS_MINIMUM_CLAUDE_CODE_VERSION,
        )
    ]
    assert max(needed) <= LOWEST_VERSION
