"""What the service manager is told, datagram by datagram."""

from __future__ import annotations

import asyncio
import os
import secrets
import socket
from pathlib import Path
from typing import Any

import pytest

from executor.modes.local.heartbeat import Rhythm
from executor.service.notify import VARIABLES, ServiceManager
from executor.tasks.agent_environment import ExecutorApi, agent_environment
from shared.protocol.execution import read_execution_request
from tests.fakes.service_manager import WATCHDOG, ServiceManagerEnd, listening


def manager(environ: dict[str, str], **changed: Any) -> ServiceManager:
    known: dict[str, Any] = {
        "backend": "http://backend",
        "heartbeat_timeout_s": 90,
        "longest_pause_s": 30,
        "stop_within_s": 45,
    }
    return ServiceManager.of_this_process(environ, **(known | changed))


def watched_by(end: ServiceManagerEnd, watchdog_us: str = "300000000") -> dict[str, str]:
    return {
        "NOTIFY_SOCKET": end.address,
        "WATCHDOG_USEC": watchdog_us,
        "WATCHDOG_PID": str(os.getpid()),
    }


@pytest.mark.parametrize("abstract", [False, True])
async def test_the_messages_arrive_at_either_kind_of_socket(tmp_path: Path, abstract: bool) -> None:
    place = f"@wegent-{secrets.token_hex(8)}" if abstract else tmp_path
    async with asyncio.timeout(30), listening(place) as end:
        service = manager(watched_by(end))
        service.connecting()
        service.registered(Rhythm(30, 90))
        service.heartbeat_heard()
        service.lost("it went\naway")
        service.attempt_failed("refused")
        service.stopping()
        await end.hears("STOPPING=1")
        service.close()
    assert end.heard == [
        ["READY=1", "STATUS=connecting to http://backend"],
        ["STATUS=connected to http://backend", WATCHDOG],
        [WATCHDOG],
        ["STATUS=not connected: it went away"],
        ["STATUS=not connected: refused", WATCHDOG],
        ["STOPPING=1", "EXTEND_TIMEOUT_USEC=45000000", "STATUS=stopping; runs may finish first"],
    ]


async def test_no_process_of_ours_inherits_the_service_managers_socket(tmp_path: Path) -> None:
    async with listening(tmp_path) as end:
        environ = watched_by(end) | {"PATH": "/bin"}
        manager(environ)
    assert environ == {"PATH": "/bin"}


def test_an_agent_gets_none_of_it_even_from_an_environment_that_has_it(tmp_path: Path) -> None:
    environ = dict.fromkeys(VARIABLES, "1") | {"PATH": "/bin"}
    request = read_execution_request({"task_id": 1, "subtask_id": 2, "prompt": "go"})
    agent = agent_environment(request, environ=environ, executor=ExecutorApi(), home=tmp_path)
    assert agent.env["PATH"] == "/bin"
    assert not agent.env.keys() & set(VARIABLES)


async def test_without_a_watchdog_it_is_never_fed(tmp_path: Path) -> None:
    async with asyncio.timeout(30), listening(tmp_path) as end:
        service = manager({"NOTIFY_SOCKET": end.address})
        service.connecting()
        service.heartbeat_heard()
        service.attempt_failed("refused")
        service.stopping()
        await end.hears("STOPPING=1")
        service.close()
    assert WATCHDOG not in end.lines
    assert not [line for line in end.lines if line.startswith("WATCHDOG_USEC")]


NOBODY = str(max(os.getpid(), os.getppid()) + 1)
"""The number of a process that is neither this one nor its parent, who may be number 1."""


async def test_a_watchdog_over_another_process_is_not_fed(tmp_path: Path) -> None:
    async with asyncio.timeout(30), listening(tmp_path) as end:
        service = manager(watched_by(end) | {"WATCHDOG_PID": NOBODY})
        service.heartbeat_heard()
        service.stopping()
        await end.hears("STOPPING=1")
        service.close()
    assert WATCHDOG not in end.lines


async def test_the_process_that_unpacked_this_program_may_be_the_one_that_is_watched(
    tmp_path: Path,
) -> None:
    async with asyncio.timeout(30), listening(tmp_path) as end:
        service = manager(watched_by(end) | {"WATCHDOG_PID": str(os.getppid())})
        service.heartbeat_heard()
        await end.hears(WATCHDOG)
        service.close()


async def test_a_watchdog_that_is_too_impatient_for_the_settings_is_told_to_wait(
    tmp_path: Path,
) -> None:
    async with asyncio.timeout(30), listening(tmp_path) as end:
        service = manager(watched_by(end, "60000000"), heartbeat_timeout_s=90, longest_pause_s=30)
        service.connecting()
        service.registered(Rhythm(10, 20))  # a shorter one does not make it impatient
        service.registered(Rhythm(600, 1800))
        service.registered(Rhythm(3600, None))
        service.stopping()
        await end.hears("STOPPING=1")
        service.close()
    asked = [line for line in end.lines if line.startswith("WATCHDOG_USEC")]
    assert asked == [
        "WATCHDOG_USEC=210000000",
        "WATCHDOG_USEC=1920000000",
        "WATCHDOG_USEC=3720000000",
    ]


async def test_a_patient_watchdog_is_left_as_the_operator_wants_it(tmp_path: Path) -> None:
    async with asyncio.timeout(30), listening(tmp_path) as end:
        service = manager(watched_by(end, "900000000"))
        service.connecting()
        await end.hears("READY=1")
        service.close()
    assert end.heard[0][0] == "READY=1"


async def test_without_a_service_manager_nothing_happens() -> None:
    service = manager({})
    service.connecting()
    service.heartbeat_heard()
    service.close()


def test_a_platform_without_such_sockets_has_no_service_manager(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.delattr(socket, "AF_UNIX")
    service = manager({"NOTIFY_SOCKET": "/nowhere/notify"})
    service.connecting()
    service.close()
    assert caplog.text == ""


@pytest.mark.parametrize("address", ["/nowhere/notify", "/" + 200 * "x", "vsock:2:1234"])
async def test_a_socket_that_is_not_there_costs_a_line_in_the_log(
    address: str, caplog: pytest.LogCaptureFixture
) -> None:
    service = manager({"NOTIFY_SOCKET": address})
    service.connecting()
    service.close()
    assert "the service manager was not told READY=1" in caplog.text


async def test_a_service_manager_that_does_not_read_is_not_waited_for(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async with listening(tmp_path) as end:
        service = manager(watched_by(end))
        for _ in range(100_000):  # the loop that would read them is not run meanwhile
            service.heartbeat_heard()
            if caplog.text:
                break
        service.close()
    assert "the service manager was not told WATCHDOG=1" in caplog.text
