"""The executor as a service of a real systemd."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from executor.exit_status import ExitStatus
from executor.service.definition import Service
from executor.service.systemd import UNIT, unit_text
from shared.protocol.local import LocalEvent
from tests.fakes.backend import TOKEN, FakeBackend, open_backend
from tests.fakes.user_systemd import NoUserSystemd, UserSystemd, user_systemd

PROGRAM = str(Path(sys.executable).with_name("wegent-executor"))


@pytest.fixture
async def systemd(tmp_path: Path) -> AsyncIterator[UserSystemd]:
    if not Path(PROGRAM).exists():
        pytest.skip(f"NO PROOF THAT A SERVICE STARTS: {PROGRAM} is not installed")
    try:
        async with user_systemd(tmp_path) as systemd:
            yield systemd
    except NoUserSystemd as exc:
        pytest.skip(f"NO PROOF THAT SYSTEMD RUNS THE EXECUTOR: {exc}")


async def service(systemd: UserSystemd, *words: str, program: str = PROGRAM) -> tuple[int, str]:
    return await systemd.run(program, "service", *words)


def configure(systemd: UserSystemd, url: str, token: str = TOKEN) -> None:
    file = systemd.home / ".wegent-executor" / "config.env"
    file.parent.mkdir(exist_ok=True)
    file.write_text(
        f"WEGENT_BACKEND_URL={url}\nWEGENT_AUTH_TOKEN={token}\n"
        "LOCAL_RECONNECT_DELAY=0.1\nLOCAL_RECONNECT_MAX_DELAY=0.1\n"
    )


async def test_from_its_installation_to_its_removal(systemd: UserSystemd) -> None:
    backend = FakeBackend()
    async with asyncio.timeout(50):
        async with open_backend(backend):
            configure(systemd, backend.url)
        assert (await service(systemd, "install"))[0] == 0
        assert "installed already" in (await service(systemd, "install"))[1]
        # The backend is away: that is no reason for the start to fail, or to wait.
        assert await service(systemd, "start") == (0, "Started.\n")
        async with open_backend(backend):
            await backend.expect(LocalEvent.HEARTBEAT)
            status, said = await service(systemd, "status")
            assert status == 0
            assert f"connected to {backend.url}" in said
            assert await systemd.shows(UNIT, "UnitFileState") == "enabled"
            assert await systemd.shows(UNIT, "WatchdogTimestamp") != ""
            assert await service(systemd, "stop") == (0, "Stopped.\n")
            await backend.expect(LocalEvent.UNREGISTER)
        assert await systemd.shows(UNIT, "Result") == "success"
        assert (await service(systemd, "uninstall"))[0] == 0
        status, said = await service(systemd, "status")
        assert (status, "not installed" in said) == (ExitStatus.NOT_RUNNING, True)


async def test_the_single_file_is_a_service_whose_watchdog_is_fed(
    systemd: UserSystemd, binary: Path
) -> None:
    """systemd watches the process that unpacks the file, and hears the one that it starts."""
    lively = FakeBackend(heartbeat_interval=0.1, heartbeat_timeout=30)
    async with asyncio.timeout(50), open_backend(lively) as backend:
        configure(systemd, backend.url)
        assert (await service(systemd, "install", program=str(binary)))[0] == 0
        assert await service(systemd, "start", program=str(binary)) == (0, "Started.\n")
        await backend.expect(LocalEvent.HEARTBEAT)
        fed = int(await systemd.shows(UNIT, "WatchdogTimestampMonotonic"))
        for _ in range(5):
            await backend.expect(LocalEvent.HEARTBEAT)
        assert int(await systemd.shows(UNIT, "WatchdogTimestampMonotonic")) > fed
        assert await service(systemd, "stop", program=str(binary)) == (0, "Stopped.\n")
        await backend.expect(LocalEvent.UNREGISTER)
    assert await systemd.shows(UNIT, "Result") == "success"


async def test_an_executor_that_the_backend_refuses_is_not_started_again(
    systemd: UserSystemd,
) -> None:
    async with asyncio.timeout(50), open_backend() as backend:
        configure(systemd, backend.url, token="not-the-token")
        await service(systemd, "install")
        await systemd.run("systemctl", "--user", "start", "--wait", UNIT)  # until it has ended
        status, said = await service(systemd, "status")
        assert status == ExitStatus.NOT_RUNNING
        assert ExitStatus.REJECTED.meaning in said
        assert await systemd.shows(UNIT, "ActiveState") == "failed"
        assert await systemd.shows(UNIT, "NRestarts") == "0"


async def test_paths_arguments_and_variables_arrive_as_they_are(
    systemd: UserSystemd, tmp_path: Path
) -> None:
    heard = tmp_path / "heard"
    program = tmp_path / "a%n b$HOME ${x} é;#" / "program"
    program.parent.mkdir()
    program.write_text(
        f'#!/bin/sh\nprintf "%s\\n" "$0" "$@" "$OF_OURS" > {heard}\nsystemd-notify --ready\n'
    )
    program.chmod(0o700)
    words = ["$HOME", "${x}", "50%n", 'a "b" \\ c', "", "a\ttab", "é"]
    variable = '/a b:$HOME:%n:"q":\\x'
    unit = systemd.home / ".config" / "systemd" / "user" / UNIT
    unit.parent.mkdir(parents=True)
    unit.write_text(unit_text(Service((str(program), *words), True, {"OF_OURS": variable}, 9)))
    async with asyncio.timeout(50):
        status, said = await systemd.run("systemctl", "--user", "start", "--wait", UNIT)
    assert (status, said) == (0, "")
    assert heard.read_text().split("\n") == [str(program), *words, variable, ""]
