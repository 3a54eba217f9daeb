"""What an agent's command in a container tries, and each wall that keeps it in."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from shared.containers.pool import ContainerPool, Endpoint
from shared.status import ErrorCode
from tests.fakes.containers import SMALL, House, Shell, run_in, signal_stand_in, until


class Cell:
    """A container, seen from its inside."""

    def __init__(self, house: House, pool: ContainerPool, endpoint: Endpoint) -> None:
        self.house = house
        self.pool = pool
        self.endpoint = endpoint

    async def tries(self, script: str) -> Shell:
        return await run_in(self.endpoint, script)


@pytest.fixture
async def cell(house: House) -> AsyncIterator[Cell]:
    async with house.pool() as pool:
        yield Cell(house, pool, await house.get(pool, "7"))
        await pool.remove_session("7")


@pytest.mark.parametrize("path", ["/file", "/etc/passwd", "/usr/bin/git", "/stand-in", "/run/x"])
async def test_the_root_cannot_be_written(cell: Cell, path: str) -> None:
    done = await cell.tries(f"echo x >> {path}")
    assert done.exit_code != 0
    assert "Read-only file system" in done.output or "Permission denied" in done.output


async def test_not_even_the_owner_of_a_file_could_write_it(cell: Cell) -> None:
    done = await cell.tries("grep ' / ' /proc/self/mountinfo | cut -d' ' -f6")
    assert done.output.startswith("ro")


async def test_its_user_is_not_root_and_has_no_capability(cell: Cell) -> None:
    expected = 10001 if os.getuid() == 0 else os.getuid()
    assert (await cell.tries("id -u")).output == str(expected)
    sets = (await cell.tries("grep ^Cap /proc/self/status | cut -f2 | sort -u")).output
    assert sets == "0000000000000000"


async def test_nothing_can_be_mounted(cell: Cell) -> None:
    assert (await cell.tries("mount -t tmpfs none /tmp")).exit_code != 0
    assert (await cell.tries("mount -o remount,rw /")).exit_code != 0
    assert (await cell.tries("unshare --user --map-root-user --mount true")).exit_code != 0


async def test_no_raw_socket_can_be_opened(cell: Cell) -> None:
    done = await cell.tries("perl -MSocket -e 'socket(S, AF_INET, SOCK_RAW, 1) or die qq($!\\n)'")
    assert done.output == "Operation not permitted"


async def test_a_program_of_roots_gives_nobody_roots_rights(cell: Cell) -> None:
    image = cell.house.settings.image
    without = await cell.house.docker(
        *("run", "--rm", "--user=10001", "--entrypoint=/usr/local/bin/id-of-root", image, "-u")
    )
    assert without == "0"
    assert (await cell.tries("/usr/local/bin/id-of-root -u")).output != "0"


async def test_no_device_can_be_made(cell: Cell) -> None:
    done = await cell.tries("mknod /workspace/disk b 8 0 || mknod /tmp/disk b 8 0")
    assert done.exit_code != 0
    assert "Operation not permitted" in done.output


async def test_settings_of_the_kernel_cannot_be_changed(cell: Cell) -> None:
    for path in (
        "/proc/sys/kernel/core_pattern",
        "/proc/sysrq-trigger",
        "/sys/kernel/uevent_helper",
    ):
        assert (await cell.tries(f"echo x > {path}")).exit_code != 0


async def test_a_fork_bomb_meets_its_limit_and_the_container_lives_on(cell: Cell) -> None:
    done = await cell.tries(
        "perl -e 'while (defined(my $p = fork)) { $p or sleep 60; push @p, $p }"
        " print scalar @p, qq( $!\n); kill KILL => @p'"
    )
    number, _, error = done.output.partition(" ")
    assert error == "Resource temporarily unavailable"
    assert 0 < int(number) < SMALL.pids
    assert (await cell.tries("echo alive")).output == "alive"
    assert await cell.pool.death(cell.endpoint.container_id) is None


async def test_a_process_that_takes_too_much_memory_is_ended_and_that_is_known(
    cell: Cell,
) -> None:
    assert not cell.pool.ran_out_of_memory(cell.endpoint.container_id)
    too_much = 2 * SMALL.memory
    done = await cell.tries(f"perl -e 'my $x = q(x) x {too_much}; print length $x'")
    assert done.exit_code == 137
    await until(lambda: cell.pool.ran_out_of_memory(cell.endpoint.container_id))
    assert await cell.pool.death(cell.endpoint.container_id) is None


async def test_swap_is_no_way_around_the_limit_of_memory(cell: Cell) -> None:
    shown = await cell.house.docker(
        *("inspect", "--format={{.HostConfig.Memory}} {{.HostConfig.MemorySwap}}"),
        cell.endpoint.container_id,
    )
    assert shown == f"{SMALL.memory} {SMALL.memory}"


async def test_what_is_in_tmp_has_a_limit(cell: Cell) -> None:
    done = await cell.tries("head -c 20000000 /dev/zero > /tmp/file")
    assert "No space left on device" in done.output


async def test_files_of_the_host_cannot_be_read(cell: Cell, tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("of the host")
    (tmp_path / "secret").chmod(0o644)
    cell.house.session_dir("8").mkdir()
    (cell.house.session_dir("8") / "file").write_text("of another session")
    (cell.house.session_dir("7") / "link").symlink_to(tmp_path / "secret")
    for path in (
        tmp_path / "secret",
        cell.house.session_dir("8") / "file",
        Path("/workspace/link"),
        Path("/workspace/../8/file"),
        Path(f"/proc/1/root{tmp_path}/secret"),
    ):
        done = await cell.tries(f"cat {path}")
        assert done.exit_code != 0, path
        assert "of " not in done.output.replace("No such file", "")


async def test_processes_of_the_host_are_not_seen(cell: Cell) -> None:
    assert (await cell.tries("cat /proc/1/comm")).output in {"docker-init", "tini"}
    assert (await cell.tries(f"test -e /proc/{os.getpid()}")).exit_code != 0 or os.getpid() < 100


async def test_the_socket_of_the_engine_is_not_there(cell: Cell) -> None:
    assert (await cell.tries("find / -type s 2>/dev/null")).output == ""
    shown = await cell.house.docker(
        "inspect", "--format={{range .Mounts}}{{.Type}}:{{.Destination}} {{end}}",
        cell.endpoint.container_id,
    )  # fmt: skip
    assert sorted(shown.split()) == ["bind:/workspace", "volume:/run/wegent"]


async def test_the_host_can_be_reached_by_its_name(cell: Cell) -> None:
    assert (await cell.tries("grep host.docker.internal /etc/hosts")).exit_code == 0


async def test_a_container_that_runs_out_of_memory_as_a_whole_dies_of_that(house: House) -> None:
    async with house.pool() as pool:
        endpoint = await house.get(pool, "7")
        await signal_stand_in(endpoint, "USR1")
        await until(lambda: _dead(pool, endpoint))
        death = await pool.death(endpoint.container_id)
        assert death is not None
        assert death.out_of_memory
        assert death.error_code is ErrorCode.OUT_OF_MEMORY
        await pool.release(endpoint.container_id, run_id="run")


async def _dead(pool: ContainerPool, endpoint: Endpoint) -> bool:
    return await pool.death(endpoint.container_id) is not None
