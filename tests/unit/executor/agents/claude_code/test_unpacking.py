from __future__ import annotations

import os
import shutil
import stat
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import pytest

from executor.agents.claude_code.unpacking import (
    UnpackError,
    cli_cache,
    remove_other_versions,
    unpack,
)
from executor.file_lock import lock
from executor.packaged.carried_cli import CarriedCli
from tests.fakes.claude import carried

CONTENT = os.urandom(2**20)


@pytest.fixture
def home(tmp_path: Path) -> Path:
    return tmp_path / "home"


@pytest.fixture
def cli(tmp_path: Path) -> CarriedCli:
    return carried(CONTENT, tmp_path / "packed", "2.1.400")


def files(home: Path) -> list[str]:
    found = cli_cache(home).rglob("*")
    return sorted(path.relative_to(cli_cache(home)).as_posix() for path in found if path.is_file())


def test_what_is_carried_becomes_a_program_of_its_owner_alone(home: Path, cli: CarriedCli) -> None:
    program = unpack(cli, home)
    assert program == home / "cache" / "claude" / "2.1.400" / "claude"
    assert program.read_bytes() == CONTENT
    assert stat.S_IMODE(program.stat().st_mode) == 0o700
    assert files(home) == ["2.1.400/claude", "2.1.400/verified", "lock"]


def test_it_is_unpacked_once(home: Path, cli: CarriedCli, tmp_path: Path) -> None:
    first = unpack(cli, home).stat()
    (tmp_path / "packed").unlink()  # reading it again would fail
    again = unpack(cli, home).stat()
    assert (again.st_ino, again.st_mtime_ns) == (first.st_ino, first.st_mtime_ns)


def test_a_sealed_copy_is_not_read_again_unless_its_time_or_size_has_changed(
    home: Path, cli: CarriedCli
) -> None:
    program = unpack(cli, home)
    before = program.stat()
    change(program)
    other = program.read_bytes()
    os.utime(program, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert unpack(cli, home).read_bytes() == other


def test_a_whole_copy_whose_seal_is_lost_is_kept(
    home: Path, cli: CarriedCli, tmp_path: Path
) -> None:
    program = unpack(cli, home)
    program.with_name("verified").unlink()
    (tmp_path / "packed").unlink()
    assert unpack(cli, home) == program
    assert program.with_name("verified").exists()


def cut(program: Path) -> None:
    os.truncate(program, 1000)


def change(program: Path) -> None:
    with program.open("r+b") as file:
        file.write(b"other")
    os.utime(program, ns=(1, 1))


def forbid(program: Path) -> None:
    program.chmod(0o600)


def delete(program: Path) -> None:
    program.unlink()


@pytest.mark.parametrize("harm", [cut, change, forbid, delete])
def test_a_damaged_copy_is_replaced(
    home: Path, cli: CarriedCli, harm: Callable[[Path], None]
) -> None:
    program = unpack(cli, home)
    harm(program)
    assert unpack(cli, home).read_bytes() == CONTENT
    assert os.access(program, os.X_OK)


def test_another_build_of_the_same_version_is_unpacked_anew(
    home: Path, cli: CarriedCli, tmp_path: Path
) -> None:
    unpack(cli, home)
    content = bytes(reversed(CONTENT))
    assert unpack(carried(content, tmp_path / "other"), home).read_bytes() == content


def test_what_a_killed_attempt_has_left_is_overwritten(home: Path, cli: CarriedCli) -> None:
    part = home / "cache" / "claude" / "2.1.400" / "claude.part"
    part.parent.mkdir(parents=True)
    part.write_bytes(CONTENT + CONTENT)
    assert unpack(cli, home).read_bytes() == CONTENT
    assert not part.exists()


def test_a_killed_attempt_leaves_no_program_behind(home: Path, tmp_path: Path) -> None:
    script = (
        "import os, sys\n"
        "from pathlib import Path\n"
        "from executor.agents.claude_code.unpacking import unpack\n"
        "from executor.packaged.carried_cli import CarriedCli\n"
        "class Killed(CarriedCli):\n"
        "    def chunks(self):\n"
        "        yield b'half of it'\n"
        "        os.kill(os.getpid(), 9)\n"
        "unpack(Killed('2.1.400', 20, '', Path('/'), 0), Path(sys.argv[1]))\n"
    )
    killed = subprocess.run([sys.executable, "-c", script, str(home)], check=False)
    assert killed.returncode == -9
    assert files(home) == ["2.1.400/claude.part", "lock"]
    assert unpack(carried(b"all of it", tmp_path / "packed", "2.1.400"), home).is_file()


def cut_packed(cli: CarriedCli, packed: Path) -> CarriedCli:
    os.truncate(packed, 1000)
    return cli


def break_packed(cli: CarriedCli, packed: Path) -> CarriedCli:
    packed.write_bytes(b"no xz at all")
    return cli


def take_for_another(cli: CarriedCli, _packed: Path) -> CarriedCli:
    return replace(cli, sha256="0" * 64)


@pytest.mark.parametrize("harm", [cut_packed, break_packed, take_for_another])
def test_what_is_carried_damaged_never_becomes_a_program(
    home: Path, cli: CarriedCli, tmp_path: Path, harm: Callable[[CarriedCli, Path], CarriedCli]
) -> None:
    with pytest.raises(UnpackError, match="damaged"):
        unpack(harm(cli, tmp_path / "packed"), home)
    assert files(home) == ["lock"]


def test_a_disk_without_room_is_told_before_anything_is_written(
    home: Path, cli: CarriedCli
) -> None:
    home.mkdir()
    size = shutil.disk_usage(home).total  # whatever others remove meanwhile
    with pytest.raises(UnpackError, match=r"it takes \d+ MB, and \d+ MB are free") as caught:
        unpack(replace(cli, size=size), home)
    assert str(cli_cache(home)) in (caught.value.hint or "")
    assert files(home) == ["lock"]


def test_a_place_that_cannot_be_written_to_is_told(home: Path, cli: CarriedCli) -> None:
    home.mkdir()
    (home / "cache").touch()
    with pytest.raises(UnpackError, match="cannot be unpacked: "):
        unpack(cli, home)


def test_a_stop_ends_the_unpacking_and_leaves_nothing(home: Path, cli: CarriedCli) -> None:
    asked = iter([False, True])
    with pytest.raises(UnpackError, match="told to stop"):
        unpack(cli, home, lambda: next(asked))
    assert files(home) == ["lock"]


def test_a_stop_ends_the_waiting_for_another_who_unpacks(home: Path, cli: CarriedCli) -> None:
    cli_cache(home).mkdir(parents=True)
    with (cli_cache(home) / "lock").open("w") as held:
        lock(held.fileno())
        with pytest.raises(UnpackError, match="told to stop"):
            unpack(cli, home, lambda: True)


def test_several_at_once_get_one_whole_copy(home: Path, cli: CarriedCli) -> None:
    with ThreadPoolExecutor(4) as threads:
        programs = [threads.submit(unpack, cli, home) for _ in range(4)]
        inodes = {program.result().stat().st_ino for program in programs}
    assert len(inodes) == 1
    assert (cli_cache(home) / "2.1.400" / "claude").read_bytes() == CONTENT


def test_other_versions_go_but_for_those_that_still_run(home: Path, tmp_path: Path) -> None:
    sleep = Path(shutil.which("sleep") or "").resolve()
    programs = {
        version: unpack(carried(sleep.read_bytes(), tmp_path / version, version), home)
        for version in ("2.1.300", "2.1.301", "2.1.400")
    }
    with subprocess.Popen([programs["2.1.301"], "613"]) as running:
        try:
            remove_other_versions(programs["2.1.400"])
            left = sorted(path.name for path in cli_cache(home).iterdir())
        finally:
            running.kill()
    assert left == ["2.1.301", "2.1.400", "lock"]
    remove_other_versions(programs["2.1.400"])
    assert sorted(path.name for path in cli_cache(home).iterdir()) == ["2.1.400", "lock"]
