from __future__ import annotations

import asyncio
import os
import stat
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from executor.home_lock import HomeLock, holder
from shared.errors import ConfigError

HOLDER = """
import sys
from pathlib import Path
from executor.home_lock import HomeLock
lock = HomeLock.acquire(Path(sys.argv[1]))
print("locked", flush=True)
sys.stdin.read()
"""


@asynccontextmanager
async def another_executor(
    home: Path, root: Path, program: str = HOLDER
) -> AsyncIterator[asyncio.subprocess.Process]:
    """A process that holds *home* until it is killed."""
    pipe = asyncio.subprocess.PIPE
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", program, str(home), cwd=root, stdin=pipe, stdout=pipe
    )
    assert process.stdout is not None
    try:
        async with asyncio.timeout(50):
            assert await process.stdout.readline() == b"locked\n"
        yield process
    finally:
        if process.returncode is None:
            process.kill()
        await process.communicate()


async def test_a_home_has_one_executor_and_the_second_is_told_which(
    tmp_path: Path, repository_root: Path
) -> None:
    home = tmp_path / "home"
    async with another_executor(home, repository_root) as holder:
        with pytest.raises(ConfigError, match=f"pid {holder.pid}"):
            await asyncio.to_thread(HomeLock.acquire, home)


async def test_a_home_is_free_again_however_its_executor_ended(
    tmp_path: Path, repository_root: Path
) -> None:
    async with another_executor(tmp_path, repository_root) as holder:
        holder.kill()
        await holder.wait()
        lock = await asyncio.to_thread(HomeLock.acquire, tmp_path)
    assert (tmp_path / "lock").read_text() == f"{os.getpid()}\n"
    lock.release()
    (await asyncio.to_thread(HomeLock.acquire, tmp_path)).release()


def test_the_lock_is_private_and_the_programs_it_starts_do_not_hold_it(tmp_path: Path) -> None:
    lock = HomeLock.acquire(tmp_path / "home")
    assert stat.S_IMODE((tmp_path / "home" / "lock").stat().st_mode) == 0o600
    assert not os.get_inheritable(lock._descriptor)
    lock.release()


def test_a_home_that_cannot_be_locked_is_named(tmp_path: Path) -> None:
    (tmp_path / "lock").mkdir()
    with pytest.raises(ConfigError, match="WEGENT_EXECUTOR_HOME"):
        HomeLock.acquire(tmp_path)


@pytest.mark.skipif(os.name != "posix", reason="needs a limit on what a process may write")
async def test_a_full_disk_keeps_nobody_out_of_a_home(
    tmp_path: Path, repository_root: Path
) -> None:
    limit = "import resource\nresource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))\n"
    async with another_executor(tmp_path, repository_root, limit + HOLDER):
        with pytest.raises(ConfigError, match="another executor is running"):
            await asyncio.to_thread(HomeLock.acquire, tmp_path)


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells who has locked a file")
async def test_who_holds_a_home_can_be_told_without_a_try(
    tmp_path: Path, repository_root: Path
) -> None:
    assert await asyncio.to_thread(holder, tmp_path) is None
    async with another_executor(tmp_path, repository_root) as other:
        assert await asyncio.to_thread(holder, tmp_path) == other.pid
    assert await asyncio.to_thread(holder, tmp_path) is None
