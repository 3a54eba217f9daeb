"""The local socket: who gets an answer, and what nobody can do to it."""

from __future__ import annotations

import asyncio
import os
import socket
import stat
import sys
import tempfile
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager, closing
from pathlib import Path
from typing import Any

import pytest

from executor.control import protocol
from executor.control.client import ask
from executor.control.errors import ControlError, NotRunning
from executor.control.server import MAX_CLIENTS, ControlServer
from executor.home_lock import HomeLock
from tests.fakes.users import another_user

pytestmark = pytest.mark.skipif(os.name != "posix", reason="looks at a Unix socket")


@pytest.fixture
def home(tmp_path: Path) -> Path:
    (tmp_path / "home").mkdir(mode=0o700)
    return tmp_path / "home"


async def echo(request: Mapping[str, Any]) -> Mapping[str, Any]:
    return {"got": dict(request)}


@asynccontextmanager
async def serving(
    home: Path, answer: Any = echo, *, io_timeout_s: float = 5.0
) -> AsyncIterator[ControlServer]:
    server = ControlServer(home, answer, io_timeout_s=io_timeout_s)
    await server.start()
    try:
        async with asyncio.timeout(30):
            yield server
    finally:
        await server.close()


async def asked(home: Path, command: Any = "status", **arguments: Any) -> dict[str, Any]:
    return await asyncio.to_thread(ask, home, command, **arguments)


@asynccontextmanager
async def connected(
    home: Path,
) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
    reader, writer = await asyncio.open_unix_connection(home / "control.sock")
    try:
        yield reader, writer
    finally:
        writer.close()


async def test_a_request_gets_its_answer(home: Path) -> None:
    async with serving(home):
        assert await asked(home, "cancel", id="七") == {"got": {"command": "cancel", "id": "七"}}


async def test_the_socket_is_for_its_owner_alone(home: Path) -> None:
    mask = os.umask(0)
    try:
        async with serving(home):
            mode = (home / "control.sock").stat().st_mode
    finally:
        os.umask(mask)
    assert stat.S_ISSOCK(mode)
    assert oct(stat.S_IMODE(mode)) == "0o600"


async def test_what_a_killed_predecessor_left_is_replaced_and_an_end_leaves_nothing(
    home: Path,
) -> None:
    with closing(socket.socket(socket.AF_UNIX)) as left:
        left.bind(str(home / "control.sock"))
    with pytest.raises(NotRunning):
        await asked(home)
    async with serving(home):
        await asked(home)
    assert list(home.iterdir()) == []
    with pytest.raises(NotRunning) as missing:
        await asked(home)
    assert str(home) in str(missing.value)


def test_another_user_is_told_who_may_ask() -> None:
    with tempfile.TemporaryDirectory() as home:  # tmp_path is too long for a socket
        with pytest.raises(NotRunning):
            ask(Path(home), "status")
        with another_user(), pytest.raises(ControlError, match="Permission denied") as caught:
            ask(Path(home), "status")

    assert caught.value.hint == "only the user who runs an executor, and root, may ask it"


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells who has locked a file")
async def test_an_executor_that_is_only_starting_is_told_from_none(home: Path) -> None:
    lock = await asyncio.to_thread(HomeLock.acquire, home)
    try:
        with pytest.raises(NotRunning, match="is just starting, or ending") as caught:
            await asked(home)
    finally:
        lock.release()
    assert caught.value.holder == os.getpid()
    with pytest.raises(NotRunning, match="no executor is running") as caught:
        await asked(home)
    assert caught.value.holder is None


async def test_a_home_that_is_not_there_has_no_executor(tmp_path: Path) -> None:
    with pytest.raises(NotRunning):
        await asked(tmp_path / "none")


@pytest.fixture
def runtime(monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    with tempfile.TemporaryDirectory() as runtime:  # tmp_path is too long for a socket
        monkeypatch.setenv("XDG_RUNTIME_DIR", runtime)
        yield Path(runtime)


@pytest.mark.skipif(os.uname().sysname != "Linux", reason="XDG_RUNTIME_DIR is Linux's")
async def test_where_the_homes_path_is_too_long_the_runtime_folder_has_the_socket(
    tmp_path: Path, runtime: Path
) -> None:
    homes = [tmp_path / ("long" * 30) / name for name in ("one", "two")]
    for home in homes:
        home.mkdir(parents=True)

    async def other(_: object) -> Mapping[str, Any]:
        return {"who": "two"}

    async with serving(homes[0]), serving(homes[1], other):
        assert "got" in await asked(homes[0])
        assert await asked(homes[1]) == {"who": "two"}
        folder = runtime / "wegent-executor"
        modes = {oct(stat.S_IMODE(path.stat().st_mode)) for path in folder.iterdir()}
        assert (oct(stat.S_IMODE(folder.stat().st_mode)), modes) == ("0o700", {"0o600"})
    assert list(folder.iterdir()) == []
    with pytest.raises(NotRunning):
        await asked(homes[0])


@pytest.mark.skipif(os.uname().sysname != "Linux", reason="XDG_RUNTIME_DIR is Linux's")
async def test_where_the_home_takes_no_socket_the_runtime_folder_has_it(
    home: Path, runtime: Path
) -> None:
    (home / "control.sock").mkdir()
    async with serving(home):
        assert "got" in await asked(home)
        assert len(list((runtime / "wegent-executor").iterdir())) == 1


@pytest.mark.skipif(os.uname().sysname != "Linux", reason="XDG_RUNTIME_DIR is Linux's")
async def test_a_runtime_folder_that_others_can_use_is_not_used(
    tmp_path: Path, runtime: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (runtime / "wegent-executor").mkdir()
    (runtime / "wegent-executor").chmod(0o777)
    home = tmp_path / ("long" * 30)
    home.mkdir()
    async with serving(home):
        assert "no local socket" in caplog.text
        with pytest.raises(NotRunning):
            await asked(home)


GARBAGE = {
    "no JSON": b"hello?\n",
    "HTTP": b"GET / HTTP/1.1\r\n\r\n",
    "a list": b"[1]\n",
    "bytes": bytes(range(256)).replace(b"\n", b"") + b"\n",
    "too long": b"x" * (3 * protocol.MAX_REQUEST_BYTES) + b"\n",
    "deep": b"[" * 4000 + b"\n",
    "half a line": b'{"command": "sta',
}


@pytest.mark.parametrize("sent", GARBAGE.values(), ids=GARBAGE)
async def test_garbage_is_told_so_and_the_next_request_is_answered(home: Path, sent: bytes) -> None:
    async with serving(home), connected(home) as (reader, writer):
        writer.write(sent)
        writer.write_eof()
        answer = protocol.decode(await reader.readline())
        assert answer["error"]["code"] == "invalid_request"
        assert b"hello" not in protocol.encode(answer)
        assert "got" in await asked(home)


async def test_a_refusal_reaches_the_client_with_its_hint(home: Path) -> None:
    async def refuse(_: object) -> Mapping[str, Any]:
        raise ControlError("not today", reason="busy", hint="ask tomorrow")

    async with serving(home, refuse):
        with pytest.raises(ControlError) as refused:
            await asked(home)
    assert (refused.value.reason, str(refused.value)) == ("busy", "not today (ask tomorrow)")


async def test_a_bug_is_logged_and_answered_without_its_details(
    home: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async def fail(_: object) -> Mapping[str, Any]:
        raise ZeroDivisionError("secret detail")

    async with serving(home, fail):
        with pytest.raises(ControlError, match="internal error: ZeroDivisionError") as failed:
            await asked(home)
    assert "secret detail" not in str(failed.value)
    assert "could not be answered" in caplog.text


async def test_a_silent_client_is_hung_up_on_and_holds_up_nobody(home: Path) -> None:
    async with serving(home, io_timeout_s=0.05), connected(home) as (reader, _):
        assert "got" in await asked(home)
        assert await reader.read() == b""


async def test_a_client_that_does_not_read_is_hung_up_on(home: Path) -> None:
    async def much(_: object) -> Mapping[str, Any]:
        return {"much": "x" * 3_000_000}

    async with serving(home, much, io_timeout_s=0.2) as server:
        with closing(socket.socket(socket.AF_UNIX)) as client:
            client.connect(str(home / "control.sock"))
            client.sendall(b'{"command": "status"}\n')
            assert len((await asked(home))["much"]) == 3_000_000
            while server._clients:
                await asyncio.wait(server._clients)


async def test_one_client_too_many_is_turned_away_until_another_leaves(home: Path) -> None:
    asking, gate = asyncio.Semaphore(0), asyncio.Event()

    async def wait(request: Mapping[str, Any]) -> Mapping[str, Any]:
        asking.release()
        await gate.wait()
        return request

    async with serving(home, wait) as server, AsyncExitStack() as clients:
        for _ in range(MAX_CLIENTS):
            _, writer = await clients.enter_async_context(connected(home))
            writer.write(b'{"command": "status"}\n')
            await asking.acquire()
        with pytest.raises(ControlError):
            await asked(home)
        gate.set()
        while server._clients:
            await asyncio.wait(server._clients)
        assert await asked(home) == {"command": "status"}


async def test_an_end_hangs_up_on_those_who_still_wait(home: Path) -> None:
    asking = asyncio.Event()

    async def never(_: object) -> Mapping[str, Any]:
        asking.set()
        await asyncio.Event().wait()
        return {}

    async with serving(home, never) as server:
        waiting = asyncio.create_task(asked(home))
        await asking.wait()
        await server.close()
        with pytest.raises(ControlError, match="hung up"):
            await waiting


async def test_an_executor_that_does_not_answer_is_waited_for_only_so_long(home: Path) -> None:
    with closing(socket.socket(socket.AF_UNIX)) as stopped:
        stopped.bind(str(home / "control.sock"))
        stopped.listen()
        with pytest.raises(ControlError, match=r"does not answer within 0\.05 s"):
            await asked(home, timeout_s=0.05)


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells who has locked a file")
async def test_an_executor_that_does_not_answer_is_named(home: Path) -> None:
    lock = await asyncio.to_thread(HomeLock.acquire, home)
    try:
        with closing(socket.socket(socket.AF_UNIX)) as stopped:
            stopped.bind(str(home / "control.sock"))
            stopped.listen()
            with pytest.raises(ControlError, match=rf"\(pid {os.getpid()}\) does not answer"):
                await asked(home, timeout_s=0.05)
    finally:
        lock.release()


async def test_what_an_older_executor_does_not_tell_is_named_when_it_is_needed(home: Path) -> None:
    async def answer(_: object) -> Mapping[str, Any]:
        return {"state": "registered", "runs": {"queued": 0}}

    async with serving(home, answer):
        status = await asked(home)
    assert status["state"] == "registered"
    with pytest.raises(ControlError, match="says nothing of 'pid'") as caught:
        status["pid"]
    assert "another version" in str(caught.value)
    with pytest.raises(ControlError, match="says nothing of 'running'"):
        status["runs"]["running"]


@pytest.mark.parametrize("answer", [b"[]\n", b"{}\n", b'{"ok": true}\n', b"\xff\n"])
async def test_an_answer_of_another_kind_is_an_error(home: Path, answer: bytes) -> None:
    async def reply(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readline()
        writer.write(answer)
        writer.close()

    server = await asyncio.start_unix_server(reply, home / "control.sock")
    async with server:
        with pytest.raises(ControlError, match="answer is unusable"):
            await asked(home)
